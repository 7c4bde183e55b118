package dewar

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// GetMany returns the values of keys, asking each layer once: one sweep of the
// local tier, one round trip to the remote tier for the rest, and LoadMany (or
// concurrent Loads) for what is left, written to the remote tier in the
// background. Duplicate keys count once.
//
// The map holds everything obtained, also when err is not nil. A key that the
// origin does not have is absent. A stale value stands in for a key that
// failed, as with Get. err is a *BatchError[K] with the failed keys in request
// order, each with the error that Get would return for it.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...ReadOption) (map[K]V, error) {
	values := make(map[K]V, len(keys))
	var rest []read[K, V]
	now, hits := Clock(), 0
	for _, k := range keys {
		str := c.keys.str(k)
		e := c.local.Get(str)
		if e != nil && now < e.Due && len(opts) == 0 && (c.doubts.none() || c.trusts(str, e)) {
			values[k] = c.own(e.Value)
			hits++
			if c.track != nil {
				c.track.touch(str)
			}
			continue
		}
		if rest == nil {
			rest = c.takeReads(len(keys) - hits)
		}
		rest = append(rest, read[K, V]{key: k, str: str, seen: e, now: now})
	}
	c.count.add(countLocalHits, hits)
	if len(rest) == 0 {
		return values, nil
	}
	defer c.putReads(rest)
	answered := c.getMany(ctx, rest, c.needs(opts), hits)
	for i := range answered {
		if r := &answered[i]; r.err == nil {
			values[r.key] = r.result.Value
		}
	}
	return values, c.batchError(answered)
}

// readsKept bounds the batches whose memory is kept for the next.
const readsKept = 1024

// takeReads returns room for n reads, none of them there yet.
func (c *Cache[K, V]) takeReads(n int) []read[K, V] {
	if kept, _ := c.reads.Get().(*[]read[K, V]); kept != nil && cap(*kept) >= n {
		return *kept
	}
	return make([]read[K, V], 0, n)
}

// putReads takes the memory of reads back. Nobody refers to it: flights know
// nothing of who waits for them.
func (c *Cache[K, V]) putReads(rs []read[K, V]) {
	if cap(rs) <= readsKept {
		clear(rs)
		rs = rs[:0]
		c.reads.Put(&rs)
	}
}

// GetManyResults is GetMany that also tells of each key where its value came
// from. Keys that are remembered as missing are in the map, as StatusNegative.
func (c *Cache[K, V]) GetManyResults(ctx context.Context, keys []K, opts ...ReadOption) (map[K]Result[V], error) {
	results := make(map[K]Result[V], len(keys))
	rs := c.takeReads(len(keys))
	now := Clock()
	for _, k := range keys {
		str := c.keys.str(k)
		rs = append(rs, read[K, V]{key: k, str: str, seen: c.local.Get(str), now: now})
	}
	defer c.putReads(rs)
	rs = c.getMany(ctx, rs, c.needs(opts), 0)
	now = Clock()
	for i := range rs {
		r := &rs[i]
		remembered := r.result.Status == StatusNegative && c.rules.negativeTTL > 0
		if _, twice := results[r.key]; !twice && (r.err == nil || remembered) {
			results[r.key] = r.aged(now)
		}
	}
	return results, c.batchError(rs)
}

// getMany answers reads that missed the hit path, or have options, and returns
// those it made of them; hits is how many more keys the call had.
func (c *Cache[K, V]) getMany(ctx context.Context, rs []read[K, V], n need, hits int) []read[K, V] {
	if n.reload {
		rs = unique(rs) // the second of two would supersede the first; other reads join it
	}
	c.answerAll(ctx, rs, n)
	if n.cacheOnly && c.remote != nil {
		c.peek(ctx, rs, n)
	}
	for i := range rs {
		if n.cacheOnly && c.closed.Load() && rs[i].err == ErrNotCached {
			rs[i].err = ErrClosed
		}
	}
	c.tally(ctx, rs, hits)
	return rs
}

// unique drops the reads of keys that come again.
func unique[K comparable, V any](rs []read[K, V]) []read[K, V] {
	met := make(map[K]struct{}, len(rs))
	return slices.DeleteFunc(rs, func(r read[K, V]) bool {
		_, twice := met[r.key]
		met[r.key] = struct{}{}
		return twice
	})
}

// answerAll claims the flights of all reads at once, launches those that are
// new as one group, and waits for every one. Reads whose flight was another's
// and did not do start over together, while the others are under way.
func (c *Cache[K, V]) answerAll(ctx context.Context, rs []read[K, V], n need) {
	n.caller, n.chain = ctx, chainOf(ctx)
	c.launchGroup(ctx, c.startAll(ctx, rs, &n))
	var alone slab[K, V]
	var anew []*flight[K, V]
	launch := func() {
		group := anew
		anew = nil
		c.launchGroup(ctx, group)
	}
	defer func() {
		if len(anew) > 0 { // Clone panicked: others may wait already for what is claimed
			c.goRun(func() { c.fly(anew) })
		}
	}()
	for left := len(rs); left > 0; {
		left = 0
		for i := range rs {
			r := &rs[i]
			if r.flight == nil {
				continue
			}
			if len(anew) > 0 && !r.flight.overSoon() { // about to wait
				launch()
			}
			if !c.await(ctx, r, &n) {
				r.flight = nil
				continue
			}
			if f := c.start(ctx, r, &n, &alone); f != nil {
				anew = append(anew, f)
			}
			if r.flight != nil {
				left++
			}
		}
		launch()
	}
}

// batchSettles is about how long it takes until the other flights of a batch
// are over too when one is.
const batchSettles = time.Millisecond

// overSoon reports whether a flight is over, or is after a moment.
func (f *flight[K, V]) overSoon() bool {
	if f.over.Load() {
		return true
	}
	timer := time.NewTimer(batchSettles)
	defer timer.Stop()
	select {
	case <-f.waiting():
		return true
	case <-timer.C:
		return false
	}
}

// startAll starts all reads, and returns the flights to be launched.
func (c *Cache[K, V]) startAll(ctx context.Context, rs []read[K, V], n *need) (group []*flight[K, V]) {
	done := false
	defer func() {
		if !done && len(group) > 0 { // Clone panicked: others may wait already for what is claimed
			c.goRun(func() { c.fly(group) })
		}
	}()
	flights := slab[K, V]{want: len(rs)}
	for i := range rs {
		r := &rs[i]
		if f := c.start(ctx, r, n, &flights); f != nil {
			if group == nil {
				group = make([]*flight[K, V], 0, len(rs)-i)
			}
			group = append(group, f)
		}
	}
	done = true
	return group
}

// batchError gathers the errors of reads, each key once.
func (c *Cache[K, V]) batchError(rs []read[K, V]) error {
	var batch *BatchError[K]
	var named map[K]struct{}
	for i := range rs {
		r := &rs[i]
		if r.err == nil || r.result.Status == StatusNegative {
			continue
		}
		if batch == nil {
			batch, named = new(BatchError[K]), make(map[K]struct{})
		}
		if _, twice := named[r.key]; !twice {
			named[r.key] = struct{}{}
			batch.Errs = append(batch.Errs, KeyError[K]{r.key, r.err})
		}
	}
	if batch == nil {
		return nil
	}
	return batch
}

// peek looks into the remote tier for CacheOnly reads that the local tier did
// not answer: a flight could load, so they have none. What is fresh is
// promoted, unless its key was written since.
func (c *Cache[K, V]) peek(ctx context.Context, rs []read[K, V], n need) {
	var missed []*read[K, V]
	var keys []string
	var writes []uint64
	for i := range rs {
		if r := &rs[i]; errors.Is(r.err, ErrNotCached) {
			if w, marked := c.table.glance(r.str); !marked {
				missed, keys, writes = append(missed, r), append(keys, r.str), append(writes, w)
			} else {
				c.serveUnasked(r, n)
			}
		}
	}
	if len(missed) == 0 || c.closed.Load() {
		return
	}
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Flight.Timeout, ErrTimeout)
	defer cancel()
	found := make([]Found[V], len(keys))
	c.inChunks(len(keys), func(from, to int) { c.remote.Read(ctx, keys[from:to], found[from:to]) })
	now := Clock()
	for i, r := range missed {
		if found[i].State != RemoteValue {
			r.err = cmp.Or(caller.Err(), ErrNotCached)
			if found[i].State == RemoteFailed {
				c.serveUnasked(r, n)
			}
			continue
		}
		e := found[i].Entry
		redraw(&c.rules, &e, found[i].Took)
		switch judge(&c.rules, &e, now, n.readOptions) {
		case verdictHit, verdictDue, verdictCheck:
			c.answer(r, &e, StatusHit, TierRemote, nil)
			if c.table.promote(r.str, e, writes[i], false) {
				c.brought(r.str, SourceRemote)
			}
		case verdictStale:
			c.answer(r, &e, StatusStale, TierRemote, nil)
		case verdictNegative:
			c.answer(r, &e, StatusNegative, TierRemote, ErrNotFound)
		}
	}
}

// serveUnasked answers a CacheOnly read with a local copy that is doubted, and
// fresh: there is nobody to ask, so it serves as before.
func (c *Cache[K, V]) serveUnasked(r *read[K, V], n need) {
	if now := Clock(); r.seen != nil && now < r.seen.Fresh {
		c.serve(r, r.seen, judge(&c.rules, r.seen, now, n.readOptions), nil)
	}
}
