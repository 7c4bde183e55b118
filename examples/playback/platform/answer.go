package platform

import (
	"context"
	"slices"
	"sync"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// answered is an answer and how it was come by.
type answered struct {
	wire.Answer
	level    dewar.Level
	readings []reading // of the parts that were read
	playable bool      // not every title lacks a stream that was asked for
}

// answer reads the parts side by side, those that there are at the dial's
// level, and puts together what it gets. It has no error: what is missing is
// missing from the answer.
func (p *Platform) answer(ctx context.Context, req request) answered {
	a := answered{level: p.dial.Level(), playable: true}
	a.Titles = []wire.Title{}
	titles := make([]*wire.Title, len(req.ids))
	for i, id := range req.ids {
		titles[i] = &wire.Title{ID: id}
	}
	var reads []part
	for _, part := range p.parts {
		switch {
		case !req.wants(part.name()):
		case On(part.name(), a.level):
			reads = append(reads, part)
		default:
			a.Shed = append(a.Shed, part.name())
		}
	}
	a.readings = make([]reading, len(reads))
	var wg sync.WaitGroup
	for i, part := range reads {
		wg.Go(func() { a.readings[i] = part.read(ctx, titles) }) // each sets a field of its own in the titles
	}
	wg.Wait()
	p.assemble(&a, titles)
	return a
}

// assemble drops the titles that do not exist and says what is missing.
func (p *Platform) assemble(a *answered, titles []*wire.Title) {
	for _, t := range titles {
		if slices.ContainsFunc(a.readings, func(r reading) bool { return slices.Contains(r.unknown, t.ID) }) {
			a.Unknown = append(a.Unknown, t.ID)
			continue
		}
		a.Titles = append(a.Titles, *t)
	}
	for i := range a.readings {
		r := &a.readings[i]
		r.missing = slices.DeleteFunc(r.missing, func(id string) bool { return slices.Contains(a.Unknown, id) })
		if len(r.missing) == 0 {
			continue
		}
		a.Incomplete = append(a.Incomplete, r.part)
		if r.part == wire.PartStream && len(r.missing) == len(a.Titles) {
			a.playable = false
		}
	}
	a.Retry = On(ClientRetries, a.level) && slices.ContainsFunc(a.Incomplete, worthRetrying)
}

// worthRetrying reports whether players may ask again for a part. They can do
// without the others.
func worthRetrying(part wire.Part) bool { return part == wire.PartStream || part == wire.PartMetadata }

// count counts for the report what a player got of what it asked for.
func (p *Platform) count(a *answered) {
	at := p.tallies.at[a.level]
	n := int64(len(a.Titles))
	for _, part := range a.Shed {
		at[part].shed.Add(n)
	}
	for _, r := range a.readings {
		missing := int64(len(r.missing))
		at[r.part].missing.Add(missing)
		at[r.part].served.Add(n - missing)
		p.uncached.Add(int64(r.uncached))
	}
	switch {
	case a.Retry:
		at[ClientRetries].served.Add(1)
	case slices.ContainsFunc(a.Incomplete, worthRetrying):
		at[ClientRetries].shed.Add(1)
	}
}
