package dewar

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// read is one key of a Get or GetMany on its way to an answer.
type read[K comparable, V any] struct {
	key  K
	str  string
	seen *Entry[V] // what the local tier had
	now  int64     // when the read began, on Clock

	flight  *flight[K, V] // the one it waits for; nil once answered
	own     bool          // it started that flight
	waited  bool          // it has had a flight
	wanting *flight[K, V] // one that it joined, and that did not bring what it needs

	result Result[V] // without Age
	loaded int64     // when the load behind the result began, on Clock
	dead   int64     // with a stale result: when it is of no use any more
	err    error
}

// aged returns the result with its age at the instant now.
func (r *read[K, V]) aged(now int64) Result[V] {
	if r.loaded != 0 {
		r.result.Age = time.Duration(max(0, now-r.loaded))
	}
	return r.result
}

// needs is what a read with these options asks for, at the dial's present
// level.
func (c *Cache[K, V]) needs(opts []ReadOption) need {
	n, policy := need{readOptions: gatherOptions(opts)}, c.dialled.policy()
	if n.stale = policy.Stale; n.stale == StaleOnly {
		n.refusal = policy.refusal
	}
	return n
}

// why is what the Result says of a stale value that is served for a verdict.
func (n *need) why(v verdict) error {
	if v == verdictStaleOnly {
		return n.refusal
	}
	return nil
}

// start answers a read that missed the hit path from what the local tier has,
// or claims a flight for it: r.flight. It returns one that the caller must
// launch.
func (c *Cache[K, V]) start(ctx context.Context, r *read[K, V], n *need, from *slab[K, V]) (launch *flight[K, V]) {
	r.flight = nil
	v := c.judge(r.str, r.seen, r.now, n.readOptions)
	err := ctx.Err()
	leaving := errors.Is(err, context.Canceled) && v.stale()
	if !n.origin && !leaving && c.serve(r, r.seen, v, n.why(v)) {
		if v == verdictAtOnce && err == nil && r.now >= c.table.resting(r.str) {
			if cl := c.table.claim(r.key, r.str, r.seen, nil, r.now, n, from); cl.own {
				return cl.flight
			}
		}
		return nil
	}
	if n.cacheOnly {
		r.err = cmp.Or(err, ErrNotCached)
		return nil
	}
	if err != nil {
		r.err = err
		if errors.Is(err, context.DeadlineExceeded) && canFallBack(&c.rules, r.seen, Clock(), n.readOptions) {
			c.serve(r, r.seen, verdictStale, err)
		}
		return nil
	}
	if n.origin || n.reload {
		if r.err = c.dialled.policy().forbids(); r.err != nil { // nothing stands in for a load that was asked for
			return nil
		}
	}
	now := r.now
	if r.wanting != nil { // it starts over: the new flight has its whole time
		now = Clock()
	}
	cl := c.table.claim(r.key, r.str, r.seen, r.wanting, now, n, from)
	switch {
	case cl.entry != nil:
		c.serve(r, cl.entry, cl.verdict, cmp.Or(cl.err, n.why(cl.verdict)))
	case cl.err != nil:
		r.err = cl.err
	default:
		r.flight, r.own, r.waited = cl.flight, cl.own, true
	}
	if r.own {
		return r.flight
	}
	return nil
}

// serve answers a read with an entry of the local tier if the verdict is to
// serve it.
func (c *Cache[K, V]) serve(r *read[K, V], e *Entry[V], v verdict, why error) bool {
	switch v {
	case verdictHit:
		c.answer(r, e, StatusHit, TierLocal, nil)
	case verdictDue:
		c.due(r.key, r.str, e)
		c.answer(r, e, StatusHit, TierLocal, nil)
	case verdictRevalidate:
		c.revalidate(r.key, r.str, e)
		c.answer(r, e, StatusStale, TierLocal, nil)
	case verdictAtOnce:
		c.answer(r, e, StatusStale, TierLocal, nil)
	case verdictStale, verdictStaleOnly:
		c.answer(r, e, StatusStale, TierLocal, why)
	case verdictNegative:
		c.answer(r, e, StatusNegative, TierLocal, ErrNotFound)
	default:
		return false
	}
	return true
}

// answer sets the result of a read. With StatusStale err is only told in the
// Result; with StatusNegative it is the read's error.
func (c *Cache[K, V]) answer(r *read[K, V], e *Entry[V], status Status, tier string, err error) {
	r.result = Result[V]{
		Status: status, Tier: tier,
		Collapsed: r.flight != nil && !r.own && tier != TierLocal,
	}
	r.err, r.loaded = nil, e.Loaded
	switch status {
	case StatusNegative:
		r.err = err
	case StatusStale:
		r.result.Err, r.dead = err, deadAt(&c.rules, e)
		fallthrough
	default:
		r.result.Value = c.own(e.Value)
	}
	r.flight = nil
}

// await waits for the flight of a read: for its end, for the moment from which
// a stale value will do, or for the caller's own patience to end. It reports
// whether the read must start over.
func (c *Cache[K, V]) await(ctx context.Context, r *read[K, V], n *need) (again bool) {
	f := r.flight
	if f.over.Load() {
		return c.take(r, n)
	}
	var soft <-chan time.Time
	late := false // SoftTimeout is over
	if c.rules.softTimeout > 0 && !n.noStale {
		timer := time.NewTimer(time.Duration(later(f.begun, c.rules.softTimeout) - Clock()))
		defer timer.Stop()
		soft = timer.C
	}
	var over <-chan time.Time // with a flight begun later than the reader
	if r.wanting != nil {
		timer := time.NewTimer(time.Duration(c.lastly(r) - Clock()))
		defer timer.Stop()
		over = timer.C
	}
	done := f.waiting()
	var found <-chan struct{} // Refresh wants a load, not a value
	if !n.origin && (c.rules.softTimeout > 0 || f.need.background || f.need.stale > StaleConfigured || n.stale > StaleConfigured) {
		found = f.waitingForCopy()
	}
	for {
		select {
		case <-done:
			return c.take(r, n)
		case <-soft:
			if c.fallBack(r, n, ErrTimeout, true) {
				return false
			}
			soft, late = nil, true
		case <-found:
			// What a refresh goes on to reload may be served at once, or be
			// what there was none of when SoftTimeout ended.
			e := f.copy.Load()
			switch v := judge(&c.rules, e, Clock(), n.readOptions); {
			case r.seen.newerThan(e):
			case v == verdictHit, v == verdictDue:
				c.answer(r, e, StatusHit, TierRemote, nil)
				return false
			case v.stale():
				c.answer(r, e, StatusStale, TierRemote, n.why(v))
				return false
			}
			if late && c.fallBack(r, n, ErrTimeout, true) {
				return false
			}
			found = nil
		case <-over:
			if !c.fallBack(r, n, ErrTimeout, true) {
				r.err, r.flight = ErrTimeout, nil
			}
			return false
		case <-ctx.Done():
			err := ctx.Err()
			if !errors.Is(err, context.DeadlineExceeded) || !c.fallBack(r, n, err, true) {
				r.err, r.flight = err, nil
			}
			return false
		}
	}
}

// take answers a read from the outcome of its flight, or says that it must
// start over, since the flight was not asked for as much as this reader wants.
func (c *Cache[K, V]) take(r *read[K, V], n *need) (again bool) {
	out := &r.flight.out
	if !r.own {
		tooOld := n.hasMaxAge && out.entry.Loaded < r.now-n.maxAge
		tooEasy := n.origin && (out.remote || out.kind == outcomeKept) || n.noStale && out.unasked || n.noStale && out.kind == outcomeStale
		if out.kind != outcomeFailed && tooOld || tooEasy {
			return c.startsOver(r)
		}
	}
	switch out.kind {
	case outcomeLoaded:
		c.answer(r, &out.entry, StatusLoaded, TierOrigin, nil)
	case outcomeHit:
		c.answer(r, &out.entry, StatusHit, TierRemote, nil)
	case outcomeKept:
		if e := &out.entry; e.Negative() {
			c.answer(r, e, StatusNegative, TierLocal, ErrNotFound)
		} else {
			if c.rules.localTTL == 0 && r.now >= e.Due {
				c.bucket.add(dueKey[K]{r.key, r.str, e.Loaded, dueAhead})
			}
			c.answer(r, e, StatusHit, TierLocal, nil)
		}
	case outcomeStale:
		c.answer(r, &out.entry, StatusStale, TierRemote, out.err)
	case outcomeNegative:
		c.answer(r, &out.entry, StatusNegative, out.tier(), notFound(out.err))
	case outcomeFailed:
		if !errors.Is(out.err, ErrClosed) && c.fallBack(r, n, out.err, out.fallsBack) {
			return false
		}
		if out.elsewhere || out.unasked && !out.fallsBack { // nobody has asked for this reader
			return c.startsOver(r)
		}
		r.result.Collapsed = !r.own
		r.err, r.flight = out.err, nil
	}
	return false
}

// startsOver makes a read start over with another flight, unless its time is
// over.
func (c *Cache[K, V]) startsOver(r *read[K, V]) bool {
	if Clock() < c.lastly(r) {
		r.wanting = r.flight
		return true
	}
	r.err, r.flight = ErrTimeout, nil
	return false
}

// lastly is when a reader has waited for as long as one flight may take.
func (c *Cache[K, V]) lastly(r *read[K, V]) int64 { return later(r.now, int64(c.cfg.Flight.Timeout)) }

// fallBack answers a read with the newest copy that may stand in for its
// load, if there is one. accepted says that the load may be stood in for;
// what is served at once was not to wait for it in the first place.
func (c *Cache[K, V]) fallBack(r *read[K, V], n *need, why error, accepted bool) bool {
	if n.origin {
		return false // Refresh wants a load, not a value
	}
	f := r.flight
	best, tier := c.local.Get(r.str), TierLocal
	f.shard.mu.Lock()
	detached := f.detached
	f.shard.mu.Unlock()
	if !detached { // or what was seen before was invalidated since
		if best == nil || r.seen != nil && best.Loaded < r.seen.Loaded {
			best = r.seen
		}
		if found := f.copy.Load(); found != nil && (best == nil || best.Loaded <= found.Loaded) {
			best, tier = found, TierRemote
		}
	}
	now := Clock()
	switch v := c.judge(r.str, best, now, n.readOptions); {
	case v.stale():
		c.answer(r, best, StatusStale, tier, n.why(v))
	case !accepted:
		return false
	case v == verdictHit, v == verdictDue:
		c.answer(r, best, StatusHit, tier, nil) // Set while the load ran
	case canFallBack(&c.rules, best, now, n.readOptions):
		c.answer(r, best, StatusStale, tier, why)
	default:
		return false
	}
	return true
}

// notFound makes a loader's own "no such key" recognisable as ErrNotFound.
func notFound(err error) error {
	switch {
	case err == nil:
		return ErrNotFound
	case errors.Is(err, ErrNotFound):
		return err
	}
	return &foreignNotFound{err}
}

// foreignNotFound is a loader's error for which Config.NotFound was true. It
// reads as the loader wrote it, and is ErrNotFound too.
type foreignNotFound struct{ err error }

func (e *foreignNotFound) Error() string   { return e.err.Error() }
func (e *foreignNotFound) Unwrap() []error { return []error{e.err, ErrNotFound} }
