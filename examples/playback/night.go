package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/dewarcache/dewar/examples/internal/pace"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/playback/platform"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// night is a night that is being played.
type night struct {
	set       settings
	times     times
	stage     *stage
	players   *players
	show      *progress
	recording *recording

	now    *act
	counts *counts // of the act
	errs   []error // what could not be played as it is written; no fault of the platform

	acts      []actResult
	all       counts
	extension extensionResult
	lockdown  lockdownResult
	drill     features // what viewers had got before it
	cold      error    // what could not be loaded ahead
	restored  restoredResult
}

// playNight plays a night and returns the report.
func playNight(ctx context.Context, set settings, srv redisd.Server, out io.Writer) (*report, error) {
	show := newProgress(out, set, srv)
	defer show.stop()
	before := runtime.NumGoroutine()
	rep, err := playOn(ctx, set, srv, show)
	if err != nil || ctx.Err() != nil {
		return nil, err
	}
	rep.Leaked = leaked(ctx, before)
	rep.judge()
	return rep, nil
}

// playOn sets the stage, plays, and clears it away, whatever happens.
func playOn(ctx context.Context, set settings, srv redisd.Server, show *progress) (rep *report, err error) {
	s, err := openStage(set, srv, nil)
	if err != nil {
		return nil, err
	}
	n := &night{set: set, times: newTimes(set), stage: s, players: newPlayers(s.url, set), show: show, recording: record(s.platform, set.duration)}
	defer func() {
		n.recording.stop()
		n.players.close()
		err = errors.Join(err, s.close())
	}()
	show.watchAt(s.url)
	for i := range acts {
		if n.play(ctx, &acts[i]); ctx.Err() != nil {
			return nil, nil
		}
	}
	n.restored = n.awaitEverything(ctx)
	n.recording.stop()
	rep = newReport(n, srv)
	rep.recording = n.recording
	return rep, errors.Join(n.errs...)
}

// leaked waits for goroutines that are about to end, and returns how many more
// there are than before.
func leaked(ctx context.Context, before int) int {
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(until); {
		if pace.Pause(ctx, 10*time.Millisecond) != nil {
			break
		}
	}
	return max(0, runtime.NumGoroutine()-before)
}

// play plays one act.
func (n *night) play(ctx context.Context, a *act) {
	n.now, n.counts = a, new(counts)
	n.players.counts = n.counts
	before := n.measure()
	n.show.begins(n)
	n.recording.begins(a.name)
	if a.begin != nil {
		a.begin(n)
	}
	began := time.Now()
	scene := make(chan struct{})
	go func() { // waited for below
		defer close(scene)
		if a.scene != nil {
			a.scene(n, ctx)
		}
	}()
	visits := int(n.length().Seconds() * float64(n.set.rate) * a.rate)
	pace.Steadily(ctx, n.length(), visits, func(int) func(time.Time) { return n.players.next(ctx, a.visit) })
	<-scene
	if ctx.Err() != nil {
		return
	}
	took := time.Since(began)
	if a.end != nil {
		a.end(n)
	}
	n.acts = append(n.acts, newActResult(a.name, took, n.counts, n.measure().sub(before)))
	n.all.merge(n.counts)
}

// length is that of the present act.
func (n *night) length() time.Duration { return time.Duration(n.now.length * float64(n.times.unit)) }

// fail takes down that the night could not be played as it is written.
func (n *night) fail(err error) { n.errs = append(n.errs, err) }

// measured is what platform and legacy services have counted so far.
type measured struct {
	calls, old, uncached     int64
	reads, stale             int64 // of keys
	streamReads, streamStale int64
}

func (n *night) measure() (m measured) {
	for _, c := range n.stage.legacy.Counts() {
		m.calls += c.Calls
		m.old += c.Old
	}
	stats := n.stage.platform.Stats()
	m.uncached = stats.Uncached
	for part, s := range stats.Caches {
		reads := int64(s.LocalHits + s.RemoteHits + s.Loaded + s.Stale + s.Negative + s.Failed)
		m.reads += reads
		m.stale += int64(s.Stale)
		if part == wire.PartStream {
			m.streamReads, m.streamStale = reads, int64(s.Stale)
		}
	}
	return m
}

func (m measured) sub(before measured) measured {
	return measured{
		calls: m.calls - before.calls, old: m.old - before.old, uncached: m.uncached - before.uncached,
		reads: m.reads - before.reads, stale: m.stale - before.stale,
		streamReads: m.streamReads - before.streamReads, streamStale: m.streamStale - before.streamStale,
	}
}

// calls is how many the platform has made of all services.
func (n *night) calls() (calls int64) {
	for _, c := range n.stage.legacy.Counts() {
		calls += c.Calls
	}
	return calls
}

// callsUnderWay is how many the platform's guards have let through that have
// not ended.
func (n *night) callsUnderWay() (calls int) {
	for _, s := range n.stage.platform.Stats().Caches {
		calls += s.Origin.Calls
	}
	return calls
}

// lockdownResult is what DEFCON 1 did.
type lockdownResult struct {
	Calls  int64 `json:"calls"` // of all services
	before int64
}

// extensionResult is what became of the schedule's change.
type extensionResult struct {
	Titles  int     `json:"titles"`
	New     int     `json:"new"` // of which viewers saw the change
	TookMS  float64 `json:"took_ms"`
	Pending string  `json:"pending,omitempty"` // what Redis did not confirm at once

	Allowed float64 `json:"allowed_per_second"` // titles that the metadata service may be asked for
	Excess  float64 `json:"excess"`             // the most titles in any time that were asked for beyond that rate,
	InHand  float64 `json:"in_hand"`            // and how many may be: its burst, and those in calls that were about to begin
}

// watch takes down how many titles the metadata service was asked for by when.
type watch struct {
	n       *night
	quit    chan struct{}
	done    chan struct{}
	samples []sample // written by its goroutine until done is closed
}

// sample is that at most before were asked for at the instant from, and at least
// as many at the instant to.
type sample struct {
	from, to time.Time
	keys     float64
}

func (n *night) watchRefreshes(ctx context.Context) *watch {
	w := &watch{n: n, quit: make(chan struct{}), done: make(chan struct{})}
	w.sample()
	go func() { // stop waits for it
		defer close(w.done)
		for open := true; open; {
			select {
			case <-w.quit:
				open = false
			case <-ctx.Done():
				open = false
			case <-time.After(n.times.unit / 20):
			}
			w.sample()
		}
	}()
	return w
}

func (w *watch) sample() {
	from := time.Now()
	keys := w.n.stage.platform.Stats().Caches[wire.PartMetadata].LoadedKeys
	w.samples = append(w.samples, sample{from, time.Now(), float64(keys)})
}

// stop works out how far the rate was exceeded, in the worst of all times
// between two samples.
func (w *watch) stop(r *extensionResult) {
	close(w.quit)
	<-w.done
	r.Allowed = w.n.times.refreshPerSecond
	r.InHand = r.Allowed/5 + platform.MetadataBatch*platform.MetadataAtOnce
	for i, a := range w.samples {
		for _, b := range w.samples[i+1:] {
			r.Excess = max(r.Excess, b.keys-a.keys-r.Allowed*b.to.Sub(a.from).Seconds())
		}
	}
}

// restoredResult is whether everything came back after the night.
type restoredResult struct {
	Level   int         `json:"level"`
	Missing []wire.Part `json:"missing"`
	TookMS  float64     `json:"took_ms"`
}

// awaitEverything waits until viewers see all features of all titles again, or a
// bound that is generous.
func (n *night) awaitEverything(ctx context.Context) (r restoredResult) {
	const patience = 30 * time.Second
	began := time.Now()
	for {
		r.Missing = n.players.missing(ctx, schedule[:pinnedCount])
		if len(r.Missing) == 0 || time.Since(began) > patience || pace.Pause(ctx, n.times.unit/20) != nil {
			break
		}
	}
	r.Level, r.TookMS = int(n.stage.platform.Dial().Level()), ms(time.Since(began))
	return r
}
