package dewar

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Retry lets a call of the origin that failed be made again, once. Nothing is
// repeated unless Idempotent says that it may be.
//
// What may be repeated is bounded by a budget, so that an origin in trouble
// gets hardly more to do: a fraction of the calls, and no call is repeated that
// the breaker, the rate limit or the dial would not let through. Panics are not
// repeated, nor errors that are no failures to Breaker.Counts.
type Retry struct {
	// Idempotent says that Load and LoadMany may be called again. Defaults to
	// false: no call is repeated.
	Idempotent bool

	// Budget is how many of all calls may be repetitions, above 0 up to 1;
	// needs Idempotent. Defaults to 0.1.
	Budget float64

	// Pause is the mean of the random time, up to twice as long, before the
	// repetition; needs Idempotent. Defaults to 20ms.
	Pause time.Duration
}

func (r Retry) check(p *problems, prefix string) {
	p.check(!math.IsNaN(r.Budget) && r.Budget >= 0 && r.Budget <= 1, "%sBudget must be above 0 and at most 1, not %v", prefix, r.Budget)
	p.notNegative(prefix+"Pause", r.Pause)
	p.check(r.Idempotent || r.Budget == 0 && r.Pause == 0, "%sBudget and %[1]sPause need %[1]sIdempotent: without it no call is repeated", prefix)
}

// retryBudget earns a fraction of a repetition with every call, and spends one
// with every repetition: Finagle's and gRPC's retry throttling, without what
// they start with.
type retryBudget struct {
	budget float64
	pause  time.Duration

	mu     sync.Mutex // mu guards earned
	earned float64
}

// maxEarned bounds what a long healthy time saves up.
const maxEarned = 10

func newRetryBudget(r Retry) *retryBudget {
	return &retryBudget{budget: cmp.Or(r.Budget, 0.1), pause: min(cmp.Or(r.Pause, 20*time.Millisecond), forEver)}
}

func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earned = min(b.earned+b.budget, maxEarned)
}

func (b *retryBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.earned < 1 {
		return false
	}
	b.earned--
	return true
}

// repeats reports whether a call that failed with err may be made once more,
// and spends what that costs.
func (o *Origin) repeats(err error) bool {
	if o.retries == nil {
		return false
	}
	_, panicked := errors.AsType[*PanicError](err)
	return !panicked && o.guard.Breaker.isFailure(err) && o.retries.spend()
}

// wait is how long the pause before a repetition is.
func (b *retryBudget) wait() time.Duration {
	return time.Duration(2 * rand.Float64() * float64(b.pause))
}

// renew makes the permit of a call that has ended one for its repetition.
func (p *permit) renew() bool {
	return (p.o.limit == nil || p.o.limit.Allow()) && p.ask() == nil
}
