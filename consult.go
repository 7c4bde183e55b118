package dewar

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// This file is the reader's part of the remote tier: a flight looks there
// before it may ask for the right to load.

// consult asks the remote tier about flights, settles those that it can answer
// and returns the others.
func (c *Cache[K, V]) consult(fs []*flight[K, V]) []*flight[K, V] {
	if c.remote == nil {
		return fs
	}
	c.awaitWrites(fs, func(n *need) bool { return n.reload || n.origin || n.background })
	asked, rest := partition(fs, func(f *flight[K, V]) bool { return !f.marked })
	rest = append(rest, c.remotely(asked, c.remote.Read)...)
	if c.doubts.none() && c.rules.localTTL == 0 {
		return rest
	}
	return c.keeps(rest)
}

// partition splits flights. Where all are wanted it copies nothing.
func partition[K comparable, V any](fs []*flight[K, V], want func(*flight[K, V]) bool) (wanted, others []*flight[K, V]) {
	for i, f := range fs {
		if want(f) {
			if len(others) > 0 {
				wanted = append(wanted, f)
			}
			continue
		}
		if len(others) == 0 {
			wanted = slices.Clone(fs[:i])
		}
		others = append(others, f)
	}
	if len(others) == 0 {
		return fs, nil
	}
	return wanted, others
}

// awaitWrites waits until what this process has itself on the way to the remote
// tier is there, for flights that will write over it:
//
//	A: load ends with a#1, which waits to be filled under A's lease
//	B: Reload: finds A's lease, loads a#2, may write nothing
//	A: fills a#1, older than what the finished Reload has returned
//
// and for those that ask for a lease that this process is giving back.
func (c *Cache[K, V]) awaitWrites(fs []*flight[K, V], want func(*need) bool) {
	written := c.backfill.written(fs, want)
	if written == nil {
		return
	}
	ctx, cancel := c.lookupContext(fs)
	defer cancel()
	select {
	case <-written:
	case <-ctx.Done():
	}
}

// lookupContext bounds what flights do before they load: a remote tier that
// does not answer may take half of the time that is left, the load has the rest.
//
// A context with a deadline is a good part of what a look-up costs. While
// flights are young they share one, which leaves them between three and four
// eighths of their time.
func (c *Cache[K, V]) lookupContext(fs []*flight[K, V]) (context.Context, context.CancelFunc) {
	timeout, now := int64(c.cfg.Flight.Timeout), Clock()
	begun := fs[0].begun
	for _, f := range fs {
		begun = min(begun, f.begun)
	}
	left := later(begun, timeout) - now
	if left < timeout/8*7 {
		return context.WithTimeoutCause(c.life, time.Duration(left/2), ErrTimeout)
	}
	l := &c.lookups
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bound == nil || now >= l.renew {
		l.renew = later(now, timeout/8)
		// Ends by itself; what it holds until then is a timer.
		l.bound, l.cancel = context.WithTimeoutCause(c.life, c.cfg.Flight.Timeout/2, ErrTimeout)
	}
	return l.bound, func() {}
}

// remotely makes one round trip per Batch.MaxSize keys for flights, and returns
// those that are not answered by it.
func (c *Cache[K, V]) remotely(fs []*flight[K, V], do func(context.Context, []string, []Found[V])) (rest []*flight[K, V]) {
	if len(fs) == 0 {
		return nil
	}
	scratch := c.takeScratch()
	defer c.putScratch(scratch)
	keys := scratch.keys[:0]
	for _, f := range fs {
		keys = append(keys, f.str)
	}
	scratch.keys = keys
	ctx, cancel := c.lookupContext(fs)
	defer cancel()
	found := scratch.room(len(keys))
	c.inChunks(len(keys), func(from, to int) { do(ctx, keys[from:to], found[from:to]) })
	now := Clock()
	for i, f := range fs {
		if !c.answered(f, &found[i], now) {
			rest = append(rest, f)
		}
	}
	return rest
}

// scratch is what one look-up needs no longer than itself.
type scratch[V any] struct {
	keys  []string
	found []Found[V]
}

// scratchSize bounds what is kept for the next look-up.
const scratchSize = 1024

func (c *Cache[K, V]) takeScratch() *scratch[V] {
	if s, ok := c.scratch.Get().(*scratch[V]); ok {
		return s
	}
	return new(scratch[V])
}

func (c *Cache[K, V]) putScratch(s *scratch[V]) {
	if cap(s.found) <= scratchSize {
		clear(s.keys)
		clear(s.found)
		c.scratch.Put(s)
	}
}

func (s *scratch[V]) room(n int) []Found[V] {
	s.found = slices.Grow(s.found[:0], n)[:n]
	return s.found
}

// inChunks calls do for stretches of at most Batch.MaxSize of n keys,
// Batch.Parallel at once.
func (c *Cache[K, V]) inChunks(n int, do func(from, to int)) {
	size := c.cfg.Batch.MaxSize
	if n <= size {
		if n > 0 {
			do(0, n)
		}
		return
	}
	var g errgroup.Group
	g.SetLimit(c.cfg.Batch.Parallel)
	for from := 0; from < n; from += size {
		g.Go(func() error { do(from, min(from+size, n)); return nil })
	}
	_ = g.Wait() // the tier tells errors key by key
}

// adoptSlack is how much later a load must have begun for its value to be
// another than the one that came due: the remote tier's times come back a
// little different each time they are converted.
const adoptSlack = int64(time.Millisecond)

// newerThan reports whether e comes from a later load than what the remote tier
// has; nil does not.
func (e *Entry[V]) newerThan(remote *Entry[V]) bool {
	return e != nil && e.Loaded > later(remote.Loaded, adoptSlack)
}

// answered takes in what the remote tier has for a flight and settles it if
// that will do.
func (c *Cache[K, V]) answered(f *flight[K, V], found *Found[V], now int64) bool {
	f.state = found.State
	if found.Refresh != (Fence{}) {
		f.holdRefresh(found.Refresh)
	}
	switch found.State {
	case RemoteGranted:
		f.hold(found.Fence, true, 0)
		return false
	case RemoteLeased:
		f.seen = found.Fence
		if f.takeOver(found.Fence) {
			f.state = RemoteGranted
		}
		return false
	case RemoteValue:
		if detached := f.hold(found.Fence, false, deadAt(&c.rules, &found.Entry)); detached && !f.need.reload && !f.need.origin {
			// Whoever has written the key since may wait for this flight too, if
			// it was all keys at once that were written: ask again.
			c.settle(f, loadedElsewhere[V]())
			return true
		}
	default:
		return false
	}
	e := found.Entry
	if dead(&c.rules, &e, now) {
		return false
	}
	redraw(&c.rules, &e, found.Took)
	policy, o := c.dialled.policy(), f.need.readOptions
	o.stale = policy.Stale // the dial may have been turned during the look
	verdict := judge(&c.rules, &e, now, o)
	switch {
	case f.need.reload, f.need.origin:
		// Here only for the fence. The value may still stand in for a failure.
	case f.need.background:
		// Another process may have refreshed the key already: adopt that.
		if now < e.Fresh && e.Loaded > later(f.need.newerThan, adoptSlack) {
			c.count.add(countAdopted, 1)
			c.settle(f, hitOutcome(e, found.Took))
			return true
		}
	case verdict == verdictHit, verdict == verdictDue, verdict == verdictCheck, verdict == verdictNegative:
		c.settle(f, hitOutcome(e, found.Took))
		if verdict == verdictCheck || verdict == verdictDue && c.lone {
			c.bucket.add(dueKey[K]{f.key, f.str, e.Loaded, dueAhead}) // no local reader would see that it is due
		}
		return true
	case verdict == verdictRevalidate && (f.local == nil || f.local.Loaded < e.Loaded):
		c.settle(f, outcome[V]{kind: outcomeStale, entry: e, keep: true, remote: true, took: found.Took})
		c.revalidate(f.key, f.str, &e)
		return true
	case verdict == verdictStaleOnly && f.local.newerThan(&e) && now < f.local.Fresh:
		c.settle(f, outcome[V]{kind: outcomeKept, entry: *f.local}) // nobody has removed the older one: ours stands
		return true
	case verdict == verdictStaleOnly:
		c.settle(f, outcome[V]{kind: outcomeStale, entry: e, keep: true, remote: true, took: found.Took, err: policy.refusal})
		return true
	}
	if !e.Negative() {
		found := e // so that e stays off the heap where it is not needed
		f.foundCopy(&found)
	}
	return false
}

// hold notes what the flight may write over. It reports whether the flight is
// detached: then what it found may have been written over since.
func (f *flight[K, V]) hold(fence Fence, leased bool, lapse int64) (detached bool) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.fence, f.leased, f.lapse = fence, leased, lapse
	return f.detached
}

// holdRefresh notes the flight's refresh lease.
func (f *flight[K, V]) holdRefresh(refresh Fence) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.refresh = refresh
}

// takeOver takes the lease from the flight that this one superseded, if it is
// that one's: it will write nothing any more.
func (f *flight[K, V]) takeOver(lease Fence) (taken bool) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	old := f.superseded
	if old == nil || old.settled || !old.leased || old.fence != lease {
		return false
	}
	old.fence, old.leased = Fence{}, false
	f.fence, f.leased = lease, true
	return true
}

func hitOutcome[V any](e Entry[V], took time.Duration) outcome[V] {
	out := outcome[V]{kind: outcomeHit, entry: e, keep: true, remote: true, took: took}
	if e.Negative() {
		out.kind = outcomeNegative
	}
	return out
}

// rest settles, without asking, the flights whose key has a stale copy in the
// remote tier and whose last load failed less than RetryAfter ago. Claim has
// done the same for what is stale in the local tier.
func (c *Cache[K, V]) rest(fs []*flight[K, V]) []*flight[K, V] {
	kept := fs[:0:0]
	for _, f := range fs {
		if e := f.copy.Load(); e != nil && !f.need.reload && !f.need.origin && !f.need.background {
			s := f.shard
			s.mu.Lock()
			fail := s.failing[f.str]
			s.mu.Unlock()
			if now := Clock(); now < fail.until && (fail.fallsBack && canFallBack(&c.rules, e, now, f.need.readOptions) ||
				judge(&c.rules, e, now, f.need.readOptions).stale()) {
				c.settle(f, outcome[V]{kind: outcomeFailed, err: fail.err, fallsBack: fail.fallsBack, unasked: true})
				continue
			}
		}
		kept = append(kept, f)
	}
	return kept
}
