package dewar

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Guard is what every load passes before it reaches the origin: a bulkhead, a
// rate limit, and a circuit breaker. What it refuses behaves as a load that
// failed, without having asked the origin: the stale value if there is one,
// else [ErrOverloaded] or [ErrBreakerOpen].
type Guard struct {
	// MaxConcurrent is how many calls of the origin may run at once. A call
	// is one Load or one LoadMany. Defaults to 128.
	MaxConcurrent int

	// MaxBackground is how many of them refreshes and Preload may take.
	// Defaults to half of MaxConcurrent.
	MaxBackground int

	// QueueTimeout is how long a load waits for a slot and its turn before it
	// is refused with ErrOverloaded, or answered with a stale value. Slots go
	// to who came first, until that one has waited for a tenth of this: then
	// to who came last, whose reader is the most likely to be still there.
	// Defaults to 1s.
	QueueTimeout time.Duration

	// LoadsPerSecond is how many calls of the origin may begin in a second.
	// A reader's load that cannot have its turn within QueueTimeout is refused
	// at once; refreshes and Preload wait for turns that readers leave.
	// Defaults to 0: unlimited.
	LoadsPerSecond float64

	Breaker Breaker
	Retry   Retry
}

// Origin is a guard that several caches share: those whose loads end up at the
// same service (Config.Origin). So a sick service is one breaker, and all its
// callers together stay within one bulkhead.
type Origin struct {
	name     string
	guard    Guard // with defaults
	problems error // of the guard; New of a cache tells

	slots      *slots
	background chan struct{} // each background call holds an element, and a slot

	queued  atomic.Int64  // loads waiting for a slot
	limit   *rate.Limiter // nil: unlimited
	sparing chan struct{} // who holds its element waits for a turn to spare
	spoken  atomic.Int64  // such turns that background calls have not taken yet
	breaker *breaker      // nil: none
	retries *retryBudget  // nil: none

	heard audience
}

// NewOrigin makes a guard for caches to share. name, of the same letters as
// Config.Name, tells it apart in logs and metrics: give each its own. Its
// breaker is on unless Breaker.FailureRatio is negative. Whatever is wrong with
// g is told by New of the caches that use it.
func NewOrigin(name string, g Guard) *Origin { return newOrigin(name, g, true) }

func newOrigin(name string, g Guard, breaks bool) *Origin {
	var p problems
	p.check(validName(name), "the name must be 1 to 64 of A-Z a-z 0-9 . _ -, not %q", name)
	g.check(&p, "")
	if err := p.joined("origin", name); err != nil {
		return &Origin{name: name, problems: err}
	}
	g.MaxConcurrent = cmp.Or(g.MaxConcurrent, defaultMaxConcurrent)
	g.MaxBackground = cmp.Or(g.MaxBackground, max(1, g.MaxConcurrent/2))
	g.QueueTimeout = cmp.Or(g.QueueTimeout, time.Second)
	o := &Origin{
		name: name, guard: g,
		slots:      newSlots(g.MaxConcurrent, g.QueueTimeout),
		background: make(chan struct{}, g.MaxBackground),
		sparing:    make(chan struct{}, 1),
	}
	if r := g.LoadsPerSecond; r > 0 {
		o.limit = rate.NewLimiter(rate.Limit(r), max(1, int(r/10)))
	}
	if breaks && g.Breaker.FailureRatio >= 0 {
		o.breaker = newBreaker(name, g.Breaker, &o.heard)
	}
	if g.Retry.Idempotent {
		o.retries = newRetryBudget(g.Retry)
	}
	return o
}

const defaultMaxConcurrent = 128

func (g Guard) check(p *problems, prefix string) {
	p.check(g.MaxConcurrent >= 0, "%sMaxConcurrent must not be negative, but is %d", prefix, g.MaxConcurrent)
	p.check(g.MaxBackground >= 0, "%sMaxBackground must not be negative, but is %d", prefix, g.MaxBackground)
	p.check(g.MaxBackground <= cmp.Or(max(g.MaxConcurrent, 0), defaultMaxConcurrent),
		"%sMaxBackground (%d) must not exceed %[1]sMaxConcurrent (%[3]d)", prefix, g.MaxBackground, cmp.Or(g.MaxConcurrent, defaultMaxConcurrent))
	p.notNegative(prefix+"QueueTimeout", g.QueueTimeout)
	p.check(g.LoadsPerSecond >= 0 && !math.IsInf(g.LoadsPerSecond, 0), "%sLoadsPerSecond must be a number from 0 (unlimited) up, not %v", prefix, g.LoadsPerSecond)
	g.Breaker.check(p, prefix+"Breaker.")
	g.Retry.check(p, prefix+"Retry.")
}

// OriginStats is a snapshot of what stands before an origin.
type OriginStats struct {
	Name    string       // the origin's, or the cache's that has it for itself
	Calls   int          // calls in progress, background ones included
	Slots   int          // how many there may be
	Queued  int          // loads waiting for a slot or their turn
	Breaker BreakerState // BreakerNone where there is none
}

// Stats returns a snapshot.
func (o *Origin) Stats() OriginStats {
	s := OriginStats{Name: o.name}
	if o.problems != nil {
		return s
	}
	s.Calls, s.Slots, s.Queued = o.slots.inUse(), o.slots.max, int(o.queued.Load())
	if o.breaker != nil {
		s.Breaker = o.breaker.state()
	}
	return s
}

// permit is the right to one call of the origin.
type permit struct {
	o          *Origin
	background bool
	spoken     bool        // it is one of Origin.spoken
	borrowed   bool        // its slot is that of the load which this one is nested in
	done       func(error) // tells the breaker how the call went; nil: there is none
}

// admit waits for the right to a reader's call: ErrOverloaded when none came in
// time, ErrBreakerOpen, or the context's cause when that ended first. outer is
// the loads that this one is nested in: where one of them holds a slot of the
// same origin, this one goes on under it, since waiting for another slot could
// be waiting for itself.
func (o *Origin) admit(ctx context.Context, outer *chain) (p permit, err error) {
	if ctx.Err() != nil {
		return p, context.Cause(ctx)
	}
	if err := o.refuses(); err != nil {
		return p, err
	}
	p = permit{o: o, borrowed: outer.holds(o)}
	until := later(Clock(), int64(o.guard.QueueTimeout))
	if err := o.turn(ctx, until); err != nil {
		return p, err
	}
	if !p.borrowed {
		if err := o.slot(ctx, until); err != nil {
			return p, err
		}
	}
	if err := p.ask(); err != nil {
		p.release()
		return p, err
	}
	return p, nil
}

// turn waits for the rate limit. It takes no slot along, and does not wait for
// what would come too late. To reserve a turn and to give it back is no way to
// find out: it is lost when another was reserved meanwhile, and a herd that is
// refused would use up what there is for those that come after it.
func (o *Origin) turn(ctx context.Context, until int64) error {
	if o.limit == nil {
		return nil
	}
	o.queued.Add(1)
	defer o.queued.Add(-1)
	inTime, cancel := context.WithTimeout(ctx, time.Duration(until-Clock()))
	defer cancel()
	if o.limit.Wait(inTime) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrOverloaded
}

func (o *Origin) slot(ctx context.Context, until int64) error {
	if o.slots.take() {
		return nil
	}
	o.queued.Add(1)
	defer o.queued.Add(-1)
	return o.slots.wait(ctx, until, false)
}

// admitBackground waits for a slot, and for a turn to spare, for as long as ctx
// lives: background work has queues of its own to wait in. The permit is not
// complete until it has passed resume.
func (o *Origin) admitBackground(ctx context.Context) (permit, error) {
	select {
	case o.background <- struct{}{}:
	case <-ctx.Done():
		return permit{}, context.Cause(ctx)
	}
	p := permit{o: o, background: true}
	if p.spoken = o.limit != nil; p.spoken && !o.spare(ctx) {
		<-o.background
		return permit{}, context.Cause(ctx)
	}
	if err := o.slots.wait(ctx, math.MaxInt64, true); err != nil {
		p.turnOver()
		<-o.background
		return permit{}, err
	}
	return p, nil
}

// spare waits until there is a turn that readers and other background calls
// leave, and speaks for it. It takes none: one taken before it is known that a
// call is needed would be a reader's.
func (o *Origin) spare(ctx context.Context) bool {
	select {
	case o.sparing <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-o.sparing }()
	for {
		missing := float64(o.spoken.Load()+1) - o.limit.Tokens()
		if missing <= 0 {
			o.spoken.Add(1)
			return true
		}
		pause(ctx, o.turnsTake(missing))
		if ctx.Err() != nil {
			return false
		}
	}
}

// turnsTake is how long it takes until there are so many turns, within bounds
// that keep whoever asks again from asking too often or too late.
func (o *Origin) turnsTake(turns float64) time.Duration {
	seconds := min(turns/float64(o.limit.Limit()), 1)
	return max(time.Duration(seconds*float64(time.Second)), time.Millisecond)
}

// resume completes a background permit when its call is about to begin. Where
// readers have taken the turn that it spoke for, it waits for another.
func (p *permit) resume(ctx context.Context) error {
	defer p.turnOver()
	o := p.o
	if err := o.refuses(); err != nil {
		return err
	}
	for until := later(Clock(), int64(o.guard.QueueTimeout)); o.limit != nil && !o.limit.Allow(); {
		left := time.Duration(until - Clock())
		if left <= 0 {
			return ErrOverloaded
		}
		pause(ctx, min(left, o.turnsTake(1)))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return p.ask()
}

// turnOver gives up the turn that a background permit spoke for.
func (p *permit) turnOver() {
	if p.spoken {
		p.spoken = false
		p.o.spoken.Add(-1)
	}
}

// refuses returns ErrBreakerOpen while no call has a chance.
func (o *Origin) refuses() error {
	if o.breaker != nil && o.breaker.shut() {
		return o.breaker.refusal
	}
	return nil
}

// ask asks the breaker.
func (p *permit) ask() (err error) {
	if p.o.breaker != nil {
		p.done, err = p.o.breaker.allow(p.borrowed)
	}
	return err
}

// tell tells the breaker how a call went.
func (p *permit) tell(err error, took time.Duration) {
	if p.done != nil {
		p.o.breaker.end(p.done, err, took)
	}
}

// release gives the slot back.
func (p *permit) release() {
	if p.borrowed {
		return
	}
	p.turnOver()
	p.o.slots.giveBack()
	if p.background {
		<-p.o.background
	}
}

// pause sleeps, but no longer than ctx lives.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// breakerOpen is the error of an origin whose breaker is open.
func breakerOpen(name string) error { return fmt.Errorf("%w: origin %q", ErrBreakerOpen, name) }
