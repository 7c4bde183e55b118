package dewar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrBreakerOpen: the origin was not asked, because it has been failing.
var ErrBreakerOpen = errors.New("dewar: not loaded, the origin's breaker is open")

// ErrNotCounted is what a [CircuitBreaker] is told of a call that says nothing
// of the origin's health, such as one that was called off.
var ErrNotCounted = errors.New("dewar: not counted")

// Breaker is a circuit breaker before the origin: while too many calls fail it
// opens, and no load asks until it lets a few probes through. It counts calls:
// a LoadMany is one, and fails only if it answered no key. It is on when
// Config.Stale has a window, when Config.Origin is set, or when any field here
// is.
type Breaker struct {
	// FailureRatio of the calls within Window, above 0 up to 1, opens it;
	// negative: no breaker. Defaults to 0.25.
	FailureRatio float64

	// Counts tells which errors of a load are failures. "No such key" never
	// is. Defaults to every error but context.Canceled and dewar's own
	// refusals, as a loader that uses another cache may return them.
	Counts func(error) bool

	// SlowerThan makes calls that take longer failures, also if they end well.
	// Defaults to 0: however long they take.
	SlowerThan time.Duration

	// MinRequests is how many calls there must be within Window before it
	// opens. Defaults to 20.
	MinRequests int

	// Window is how far back calls count. Defaults to 10s.
	Window time.Duration

	// OpenFor is how long it stays open before it lets probes through, more
	// or less by up to 20 % in each process. Defaults to 5s.
	OpenFor time.Duration

	// Probes is how many calls in a row must go well before it closes, and
	// how many there may be at once until then; one that fails opens it
	// again. Defaults to 3.
	Probes int

	// Use replaces the breaker by one of the user's own; the fields above, but
	// for Counts and SlowerThan, are not used then. Defaults to one made from
	// them.
	Use CircuitBreaker
}

// CircuitBreaker is what Breaker.Use plugs in. Allow returns an error where no
// call may be made (readers get [ErrBreakerOpen], which wraps it), or else a
// function that is called once with how the call went: nil, the failure, or
// [ErrNotCounted]. Both must be safe for concurrent use, and must not block. A
// panic of either is logged, and refuses nothing.
// *gobreaker.TwoStepCircuitBreaker[T] of github.com/sony/gobreaker/v2 is one
// (its IsExcluded should know ErrNotCounted). What Trace and Logger hear of its
// state is what its State method says, where it has one like that; of others,
// that they are open from a refusal until they let a call through.
type CircuitBreaker interface {
	Allow() (done func(error), err error)
}

// stateful is a CircuitBreaker that knows more of itself.
type stateful interface{ State() gobreaker.State }

func (b Breaker) check(p *problems, prefix string) {
	p.check(!math.IsNaN(b.FailureRatio) && b.FailureRatio <= 1, "%sFailureRatio must be at most 1 (negative: no breaker), not %v", prefix, b.FailureRatio)
	p.check(b.MinRequests >= 0, "%sMinRequests must not be negative, but is %d", prefix, b.MinRequests)
	p.check(b.Probes >= 0, "%sProbes must not be negative, but is %d", prefix, b.Probes)
	p.notNegative(prefix+"SlowerThan", b.SlowerThan)
	p.notNegative(prefix+"Window", b.Window)
	p.notNegative(prefix+"OpenFor", b.OpenFor)
	own := b.FailureRatio != 0 || b.MinRequests != 0 || b.Window != 0 || b.OpenFor != 0 || b.Probes != 0
	p.check(b.Use == nil || !own, "%sUse replaces the breaker that FailureRatio, MinRequests, Window, OpenFor and Probes describe: set the one or the others", prefix)
}

// set reports whether any field is.
func (b Breaker) isSet() bool {
	return b.FailureRatio != 0 || b.Counts != nil || b.SlowerThan != 0 || b.MinRequests != 0 ||
		b.Window != 0 || b.OpenFor != 0 || b.Probes != 0 || b.Use != nil
}

// forEver is the longest of the durations that are multiplied, here and in
// gobreaker, so that none overflows.
const forEver = time.Duration(math.MaxInt64 / 4)

func (b Breaker) withDefaults() Breaker {
	b.FailureRatio = cmp.Or(b.FailureRatio, 0.25)
	b.MinRequests = cmp.Or(b.MinRequests, 20)
	b.Window = min(cmp.Or(b.Window, 10*time.Second), forEver)
	b.OpenFor = min(cmp.Or(b.OpenFor, 5*time.Second), forEver)
	b.Probes = cmp.Or(b.Probes, 3)
	return b
}

// isFailure asks Counts. One that panics has not said no.
func (b Breaker) isFailure(err error) (yes bool) {
	if b.Counts == nil {
		return countsAsFailure(err)
	}
	defer func() {
		if recover() != nil {
			yes = true
		}
	}()
	return b.Counts(err)
}

func countsAsFailure(err error) bool {
	for _, no := range []error{context.Canceled, ErrOverloaded, ErrBreakerOpen, ErrDefcon, ErrRecursiveLoad} {
		if errors.Is(err, no) {
			return false
		}
	}
	return true
}

// BreakerState is what a breaker is doing.
type BreakerState uint8

const (
	BreakerNone     BreakerState = iota // there is none
	BreakerClosed                       // all calls pass
	BreakerHalfOpen                     // only probes do
	BreakerOpen                         // none does
)

// String returns "none", "closed", "half-open" or "open".
func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerHalfOpen:
		return "half-open"
	case BreakerOpen:
		return "open"
	}
	return "none"
}

// BreakerChange tells a [Trace] that a breaker has changed its state. Calls and
// Failures are 0 where the breaker is the user's.
type BreakerChange struct {
	Origin   string // as in NewOrigin, or the name of the cache that has it for itself
	From, To BreakerState
	Calls    int   // with BreakerOpen: those counted within the window; from BreakerHalfOpen the probe that failed
	Failures int   // how many of them failed
	Err      error // with BreakerOpen: the last failure
}

// breaker is the breaker of one Origin: gobreaker's, or the user's.
type breaker struct {
	cfg     Breaker
	origin  string
	refusal error
	heard   *audience

	own    *gobreaker.TwoStepCircuitBreaker[struct{}] // nil: Breaker.Use
	counts gobreaker.Counts                           // when ReadyToTrip last saw them; under the lock of own
	failed atomic.Pointer[error]                      // the last failure

	mu    sync.Mutex    // mu guards changes of users, so that they are told in order
	users atomic.Uint32 // the BreakerState of Breaker.Use, as far as it is known

	told deliveries[BreakerChange]

	toldPanic sparing // of the user's breaker
}

// bucketsPerWindow is in how many steps the calls of the past drop out.
const bucketsPerWindow = 10

func newBreaker(origin string, cfg Breaker, heard *audience) *breaker {
	cfg = cfg.withDefaults()
	b := &breaker{cfg: cfg, origin: origin, refusal: breakerOpen(origin), heard: heard}
	if cfg.Use != nil {
		b.users.Store(uint32(BreakerClosed))
		return b
	}
	b.own = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  uint32(cfg.Probes),
		Interval:     cfg.Window,
		BucketPeriod: max(1, cfg.Window/bucketsPerWindow),
		Timeout:      max(1, time.Duration(float64(cfg.OpenFor)*(0.8+0.4*rand.Float64()))),
		ReadyToTrip: func(c gobreaker.Counts) bool {
			b.counts = c
			ended := c.TotalSuccesses + c.TotalFailures
			return int(ended) >= cfg.MinRequests && float64(c.TotalFailures) >= cfg.FailureRatio*float64(ended)
		},
		IsExcluded: func(err error) bool { return err == ErrNotCounted },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			change := BreakerChange{Origin: origin, From: stateOf(from), To: stateOf(to)}
			if to == gobreaker.StateOpen {
				change.Calls, change.Failures = int(b.counts.TotalSuccesses+b.counts.TotalFailures), int(b.counts.TotalFailures)
				if from == gobreaker.StateHalfOpen {
					change.Calls, change.Failures = 1, 1
				}
				if failed := b.failed.Load(); failed != nil {
					change.Err = *failed
				}
			}
			b.told.add(change)
		},
	})
	return b
}

func stateOf(s gobreaker.State) BreakerState {
	switch s {
	case gobreaker.StateClosed:
		return BreakerClosed
	case gobreaker.StateHalfOpen:
		return BreakerHalfOpen
	}
	return BreakerOpen
}

// allow asks for the right to one call; done, if not nil, must be given to end.
// A nested call that finds enough probes under way is a part of one of them:
// were it refused, that one could not go well, and the breaker never close.
func (b *breaker) allow(nested bool) (done func(error), err error) {
	if b.own == nil {
		return b.allowUsers()
	}
	done, err = b.own.Allow()
	b.tell()
	switch {
	case err == nil:
		return done, nil
	case nested && errors.Is(err, gobreaker.ErrTooManyRequests):
		return nil, nil
	}
	return nil, b.refusal
}

func (b *breaker) allowUsers() (done func(error), err error) {
	err = b.guarded("Allow", func() error {
		var refusal error
		done, refusal = b.cfg.Use.Allow()
		return refusal
	})
	if err != nil {
		b.noteUsers(BreakerOpen)
		return nil, fmt.Errorf("%w: %w", b.refusal, err)
	}
	b.noteUsers(BreakerClosed)
	return done, nil
}

// noteUsers notes what the user's breaker is doing: what it says itself, or
// else what its last answer lets suppose.
func (b *breaker) noteUsers(supposed BreakerState) {
	b.mu.Lock()
	defer b.tell()
	defer b.mu.Unlock()
	now := supposed
	if s, ok := b.cfg.Use.(stateful); ok {
		_ = b.guarded("State", func() error { now = stateOf(s.State()); return nil })
	}
	was := BreakerState(b.users.Swap(uint32(now)))
	if was == now {
		return
	}
	change := BreakerChange{Origin: b.origin, From: was, To: now}
	if failed := b.failed.Load(); now == BreakerOpen && failed != nil {
		change.Err = *failed
	}
	b.told.add(change)
}

// end tells how a call went.
func (b *breaker) end(done func(error), err error, took time.Duration) {
	switch {
	case err == nil && b.cfg.SlowerThan > 0 && took > b.cfg.SlowerThan:
		err = fmt.Errorf("dewar: the call took %v, longer than Breaker.SlowerThan (%v)", took, b.cfg.SlowerThan)
	case err != nil && err != ErrNotCounted && (errors.Is(err, ErrClosed) || !b.cfg.isFailure(err)):
		err = ErrNotCounted
	}
	if err != nil && err != ErrNotCounted {
		b.failed.Store(&err)
	}
	_ = b.guarded("done", func() error { done(err); return nil })
	if b.own != nil {
		b.tell()
	} else {
		b.noteUsers(b.state())
	}
}

// guarded calls the user's breaker. One that panics has not refused: it must
// not take down what it is to protect.
func (b *breaker) guarded(method string, call func() error) error {
	defer func() {
		if p := recover(); p != nil {
			if unsaid, yes := b.toldPanic.may(); yes {
				b.heard.logger().Error("dewar: Breaker.Use panicked; the call counts as let through", "origin", b.origin, "in", method, "panic", p, "unsaid", unsaid)
			}
		}
	}()
	return call()
}

func (b *breaker) state() BreakerState {
	if b.own != nil {
		defer b.tell() // time alone makes it half-open
		return stateOf(b.own.State())
	}
	return BreakerState(b.users.Load())
}

// shut reports whether no call has a chance. A user's breaker must be asked.
func (b *breaker) shut() bool { return b.own != nil && b.state() == BreakerOpen }

// tell tells of changes, on a goroutine of its own: who has found one may have
// flights in hand, or a slot, that a hook which uses the cache waits for. It is
// called without any lock.
func (b *breaker) tell() {
	if b.told.pending() {
		b.heard.run(func() { b.told.deliver(b.announce) })
	}
}

func (b *breaker) announce(c BreakerChange) {
	log := b.heard.logger()
	switch c.To {
	case BreakerOpen:
		log.Warn("dewar: an origin's breaker opened; stale values and errors answer for it",
			"origin", c.Origin, "from", c.From.String(), "calls", c.Calls, "failures", c.Failures, "error", b.heard.keyLogging().error(c.Err))
	default:
		log.Log(noContext, slog.LevelInfo, "dewar: an origin's breaker is "+c.To.String(), "origin", c.Origin, "from", c.From.String())
	}
	for _, m := range b.heard.all() {
		if m.trace.BreakerChanged != nil {
			m.trace.BreakerChanged(c)
		}
	}
}
