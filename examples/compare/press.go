package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/pace"
)

const (
	titleCount   = 200
	editionCount = 3 // in the publisher's act: two corrections follow at once
	pageOfTitles = 50

	newsBound = time.Second     // after this nobody in the fleet may serve an old title
	backBound = 5 * time.Second // nor a process that was deaf, after its link is back
)

// press is the publisher of one system, and the proofreaders who compare with
// its work what readers got. It publishes on the first process; the last one
// goes deaf.
type press struct {
	titles []string
	deaf   int // the process
	origin *origin

	mu     sync.Mutex        // mu guards what follows
	out    []edition         // from the second on
	said   int64             // the edition that the deaf process could not hear of; 0: none
	back   time.Time         // when its link was back; zero: it is not
	before dewar.RemoteStats // of the deaf process, when it was deaf
	pressResult
}

// edition is when an edition of the titles was out: nobody may serve an older one.
type edition struct {
	here       time.Time // on the process that has told of it: changed had returned
	everywhere time.Time // on the others: Redis had it
}

// pressResult is what came of a publisher's work. An old title is one that was
// served as fresh to a request sent after a newer edition was out.
type pressResult struct {
	Titles   int    `json:"titles"`
	Editions int    `json:"editions"`
	Failed   string `json:"failed,omitempty"` // the first error of changing them

	Pending int `json:"pending"` // editions that Redis did not have at once

	OwnOld     int64   `json:"own_old"` // old titles served by the process that changed them
	OwnLast    float64 `json:"own_last_ms"`
	OthersOld  int64   `json:"others_old"`
	OthersLast float64 `json:"others_last_ms"` // how long after the edition was out the last one was asked for

	DeafOld   int64   `json:"deaf_old"` // served by the deaf process while it was deaf,
	BackOld   int64   `json:"back_old"` // and when its link was back,
	BackLast  float64 `json:"back_last_ms"`
	Noticed   bool    `json:"noticed"` // that it had missed something, and
	NoticedMS float64 `json:"noticed_ms"`
}

func newPress(titles []string, o *origin, processes int) *press {
	p := &press{titles: titles, origin: o, deaf: processes - 1}
	p.Titles = len(titles)
	return p
}

// publish brings out an edition of all titles, with one change.
func (p *press) publish(ctx context.Context, s system, unheard bool) {
	next := p.origin.edition.Add(1)
	err := s.changed(ctx, p.titles)
	pending := errors.Is(err, dewar.ErrInvalidationPending)
	p.note(next, err, pending, unheard)
	// Pending is accepted: dewar repeats it, and this process serves no old
	// title meanwhile. We repeat it only to see when Redis has it.
	for began := time.Now(); pending && p.deaf > 0 && pace.Pause(ctx, 4*originBase) == nil; {
		err := s.changed(ctx, p.titles)
		pending = err != nil && time.Since(began) < 2*backBound
		if !pending {
			p.confirm(err)
		}
	}
}

// note takes down an edition that is out.
func (p *press) note(number int64, err error, pending, unheard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := edition{here: time.Now()}
	switch {
	case pending:
		p.Pending++
	case err != nil && p.Failed == "":
		p.Failed = err.Error()
		fallthrough
	default:
		e.everywhere = e.here
	}
	p.out = append(p.out, e)
	p.Editions++
	if unheard {
		p.said = number
	}
}

// confirm takes down that Redis has the edition that was pending or, with an
// error, that it will not be waited for.
func (p *press) confirm(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.Failed = err.Error()
		return
	}
	p.out[len(p.out)-1].everywhere = time.Now()
}

// proofread compares the editions of an answer with what was out when it was
// asked for.
func (p *press) proofread(process int, sent time.Time, editions []int64) {
	if len(editions) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range editions {
		if n > int64(len(p.out)) {
			continue
		}
		newer := p.out[n-1] // which came after it
		out := newer.everywhere
		if process == 0 {
			out = newer.here
		}
		if out.IsZero() || !out.Before(sent) {
			continue
		}
		late := ms(sent.Sub(out))
		switch {
		case process == 0:
			p.OwnOld++
			p.OwnLast = max(p.OwnLast, late)
		case process != p.deaf || n+1 != p.said:
			p.OthersOld++
			p.OthersLast = max(p.OthersLast, late)
		case p.back.IsZero() || sent.Before(p.back):
			p.DeafOld++
		default:
			p.BackOld++
			p.BackLast = max(p.BackLast, ms(sent.Sub(p.back)))
		}
	}
}

// news is the scene of the publisher's act: everybody reads all titles, and
// goes on while they are changed, and corrected before all have been read again.
func (th *theatre) news(ctx context.Context, s *stage, m *measure) {
	var first, all sync.WaitGroup
	first.Add(len(s.systems))
	done := make(chan struct{})
	for i := range s.systems {
		all.Go(func() {
			th.readTitles(ctx, s, m, i)
			first.Done()
			for open(done) && ctx.Err() == nil {
				th.readTitles(ctx, s, m, i)
			}
		})
	}
	first.Wait()
	for range editionCount {
		s.press.publish(ctx, s.systems[0], false)
		_ = pace.Pause(ctx, 2*originBase)
	}
	_ = pace.Pause(ctx, newsBound+newsBound/4)
	close(done)
	all.Wait()
}

// unheard is the scene in which a process is deaf, and misses something.
func (th *theatre) unheard(ctx context.Context, s *stage, m *measure) {
	p := s.press
	th.readTitles(ctx, s, m, p.deaf)
	s.redis.Links[p.deaf].Deafen()
	if c, ok := s.systems[p.deaf].(*cached); ok {
		p.before = c.videos.Stats().Remote
	}
	p.publish(ctx, s.systems[0], true)
}

// heard is the scene in which its link is back: it ends when the process has
// noticed what it missed, and has no old title any more.
func (th *theatre) heard(ctx context.Context, s *stage, m *measure) {
	p := s.press
	s.redis.Links[p.deaf].Mend()
	back := time.Now()
	p.mu.Lock()
	p.back = back
	p.mu.Unlock()
	noticed := false
	for ctx.Err() == nil && time.Since(back) < 2*backBound {
		if !noticed && p.noticed(s.systems[p.deaf]) {
			noticed = true
			p.mu.Lock()
			p.Noticed = true
			if p.deaf > 0 {
				p.NoticedMS = ms(time.Since(back))
			}
			p.mu.Unlock()
		}
		before := p.backOld()
		th.readTitles(ctx, s, m, p.deaf)
		if noticed && before == p.backOld() {
			return
		}
	}
}

// noticed reports whether a process that was deaf has heard of what it missed,
// or that it missed something. What has no memory has nothing to notice.
func (p *press) noticed(s system) bool {
	c, ok := s.(*cached)
	if !ok || p.deaf == 0 { // or has changed the titles itself
		return true
	}
	now := c.videos.Stats().Remote
	return now.Gaps > p.before.Gaps || now.Heard-p.before.Heard >= uint64(len(p.titles))
}

func (p *press) result() pressResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pressResult
}

func (p *press) backOld() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.BackOld
}

// readTitles reads all titles once through a process, page by page. These
// requests are not among those that the report counts, but their errors are.
func (th *theatre) readTitles(ctx context.Context, s *stage, m *measure, process int) {
	for ids := range slices.Chunk(s.press.titles, pageOfTitles) {
		if _, err := th.ask(ctx, s, process, ids); err != nil {
			m.fail(err)
		}
		if pace.Pause(ctx, originBase) != nil {
			return
		}
	}
}

func open(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}
