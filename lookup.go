package dewar

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// This file is what a flight does with the remote tier before it may load:
// look (reader), then take the lease (filler).

// lookups gathers the flights of single Gets, so that concurrent misses share
// round trips: while lookupsAtOnce are under way, what arrives waits for the
// next. A lone flight never waits.
type lookups[K comparable, V any] struct {
	mu      sync.Mutex      // guards what follows
	waiting []*flight[K, V] // for the next round trip
	running int             // goroutines that look up

	bound  context.Context    // of the look-ups that begin before renew; nil at first
	cancel context.CancelFunc // of bound; it is left to run out
	renew  int64              // on Clock
}

// lookupsAtOnce trades the size of the round trips against how much one stalled
// round trip holds up: with two, one decodes while the other waits.
// When full round trips are waiting there are more.
const (
	lookupsAtOnce     = 2
	lookupsAtOnceFull = 32
)

// launch starts a flight that its Get has claimed.
func (c *Cache[K, V]) launch(ctx context.Context, f *flight[K, V]) {
	if c.remote == nil || f.marked {
		c.goRun(func() { c.flySingle([]*flight[K, V]{f}) })
		return
	}
	l := &c.lookups
	l.mu.Lock()
	l.waiting = append(l.waiting, f)
	start := l.running < lookupsAtOnce || len(l.waiting) >= c.cfg.Batch.MaxSize && l.running < lookupsAtOnceFull
	if start {
		l.running++
	}
	l.mu.Unlock()
	switch {
	case !start:
	case c.mayStay(ctx):
		if c.lookUpOnce() {
			c.goRun(c.lookUp)
		}
	default:
		c.goRun(c.lookUp)
	}
}

// launchGroup starts the flights that a GetMany has claimed.
func (c *Cache[K, V]) launchGroup(ctx context.Context, fs []*flight[K, V]) {
	if len(fs) == 0 {
		return
	}
	if c.mayStay(ctx) {
		if fs = c.rest(c.consult(fs)); len(fs) > 0 {
			c.goRun(func() { c.load(c.lease(fs), nil) })
		}
		return
	}
	c.goRun(func() { c.fly(fs) })
}

// mayStay reports whether a caller may look into the remote tier on its own
// goroutine, which saves two switches: it must be one that cannot leave before
// the round trip ends.
func (c *Cache[K, V]) mayStay(ctx context.Context) bool {
	return ctx.Done() == nil && c.rules.softTimeout == 0
}

// lookUp makes gathered round trips until nothing waits. What the remote tier
// does not answer goes on elsewhere, so that no load holds up a look-up.
func (c *Cache[K, V]) lookUp() {
	for c.lookUpOnce() {
	}
}

// lookUpOnce makes one gathered round trip. It reports whether more flights
// wait for one; if none does, it has given the right to look up back.
func (c *Cache[K, V]) lookUpOnce() (more bool) {
	// Whoever else is about to ask, woken by the last round trip, say, comes
	// along. It costs nothing where there is nobody.
	runtime.Gosched()
	l := &c.lookups
	l.mu.Lock()
	n := min(len(l.waiting), c.cfg.Batch.MaxSize)
	fs := l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	l.mu.Unlock()
	if rest := c.consult(fs); len(rest) > 0 {
		c.goRun(func() { c.flySingle(rest) })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if more = len(l.waiting) > 0; !more {
		l.running--
	}
	return more
}

// flySingle carries on the flights of single Gets from after the look-up: each
// load is a call of its own, unless it lingers for a LoadMany. A nested load
// does not linger: it goes on under its outer load's slot, the others' do not.
func (c *Cache[K, V]) flySingle(fs []*flight[K, V]) {
	fs = c.lease(c.rest(fs))
	for i, f := range fs {
		switch {
		case c.cfg.Batch.Linger > 0 && f.need.chain == nil:
			c.linger(f)
		case i == len(fs)-1:
			c.loadSingle(f)
		default:
			c.goRun(func() { c.loadSingle(f) })
		}
	}
}

func (c *Cache[K, V]) loadSingle(f *flight[K, V]) {
	if c.cfg.Load != nil {
		c.loadOne(f, nil)
	} else {
		c.loadChunk([]*flight[K, V]{f}, nil)
	}
}

// lingering gathers the loads of concurrent Gets into one LoadMany.
type lingering[K comparable, V any] struct {
	mu      sync.Mutex      // guards waiting
	waiting []*flight[K, V] // the first of them brought a timer along
}

// linger adds a flight to the next LoadMany. The first to come waits for the
// others; a full batch does not wait.
func (c *Cache[K, V]) linger(f *flight[K, V]) {
	l := &c.lingering
	l.mu.Lock()
	l.waiting = append(l.waiting, f)
	n := len(l.waiting)
	l.mu.Unlock()
	switch {
	case n >= c.cfg.Batch.MaxSize:
		c.goRun(c.lingered)
	case n == 1:
		c.goRun(func() {
			timer := time.NewTimer(c.cfg.Batch.Linger)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-c.life.Done():
			}
			c.lingered()
		})
	}
}

func (c *Cache[K, V]) lingered() {
	l := &c.lingering
	l.mu.Lock()
	fs := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	c.load(fs, nil)
}

// consult asks the remote tier about flights, settles those that it can answer
// and returns the others.
func (c *Cache[K, V]) consult(fs []*flight[K, V]) []*flight[K, V] {
	if c.remote == nil {
		return fs
	}
	c.awaitWrites(fs)
	return c.remotely(fs, func(f *flight[K, V]) bool { return !f.marked }, c.remote.Read)
}

// awaitWrites waits until what this process has itself on the way to the remote
// tier is there, for flights that will write over it:
//
//	A: load ends with a#1, which waits to be filled under A's lease
//	B: Reload: finds A's lease, loads a#2, may write nothing
//	A: fills a#1, older than what the finished Reload has returned
func (c *Cache[K, V]) awaitWrites(fs []*flight[K, V]) {
	var written <-chan struct{}
	for _, f := range fs {
		if n := f.need; (n.reload || n.origin || n.background) && written == nil {
			written = c.backfill.written(f.str)
		}
	}
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
	left := later(fs[0].begun, timeout) - now
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

// lease takes the right to fill for flights that found nothing in the remote
// tier. Whoever was faster may have filled it by now: then that is the answer.
// Where another process has the lease, the flight loads and writes nothing.
func (c *Cache[K, V]) lease(fs []*flight[K, V]) []*flight[K, V] {
	if c.remote == nil {
		return fs
	}
	return c.remotely(fs, func(f *flight[K, V]) bool { return f.vacant }, c.remote.Lease)
}

// remotely makes one round trip per Batch.MaxSize keys for the flights that
// want it, and returns those that are not answered by it.
func (c *Cache[K, V]) remotely(fs []*flight[K, V], want func(*flight[K, V]) bool,
	do func(context.Context, []string, []Found[V]),
) (rest []*flight[K, V]) {
	scratch := c.takeScratch()
	defer c.putScratch(scratch)
	scratch.keys = scratch.keys[:0]
	for _, f := range fs {
		if want(f) {
			scratch.keys = append(scratch.keys, f.str)
		} else {
			rest = append(rest, f)
		}
	}
	asked := fs
	if len(rest) > 0 {
		asked = slices.DeleteFunc(slices.Clone(fs), func(f *flight[K, V]) bool { return !want(f) })
	}
	keys := scratch.keys
	if len(keys) == 0 {
		return rest
	}
	ctx, cancel := c.lookupContext(asked)
	defer cancel()
	found := scratch.room(len(keys))
	c.inChunks(len(keys), func(from, to int) { do(ctx, keys[from:to], found[from:to]) })
	now := Clock()
	for i, f := range asked {
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

// answered takes in what the remote tier has for a flight and settles it if
// that will do.
func (c *Cache[K, V]) answered(f *flight[K, V], found *Found[V], now int64) bool {
	f.vacant = found.State == RemoteAbsent
	switch found.State {
	case RemoteGranted:
		f.hold(found.Fence, true, 0)
		return false
	case RemoteLeased:
		f.takeOver(found.Fence)
		return false
	case RemoteValue:
		f.hold(found.Fence, false, deadAt(&c.rules, &found.Entry))
	default:
		return false
	}
	e := found.Entry
	if dead(&c.rules, &e, now) {
		return false
	}
	redraw(&c.rules, &e, found.Took)
	o := f.need.readOptions
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
	case verdict == verdictHit, verdict == verdictDue, verdict == verdictNegative:
		c.settle(f, hitOutcome(e, found.Took))
		if verdict == verdictDue && c.lone { // no local tier whose next reader would see that it is due
			c.bucket.add(f.key, f.str, e.Loaded)
		}
		return true
	case verdict == verdictRevalidate && (f.local == nil || f.local.Loaded < e.Loaded):
		c.settle(f, outcome[V]{kind: outcomeStale, entry: e, keep: true, remote: true, took: found.Took})
		c.revalidate(f.key, f.str, &e)
		return true
	}
	if !e.Negative() {
		found := e // so that e stays off the heap where it is not needed
		f.copy.Store(&found)
		if f.copyFound != nil {
			close(f.copyFound)
		}
	}
	return false
}

// hold notes what the flight may write over.
func (f *flight[K, V]) hold(fence Fence, leased bool, lapse int64) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.fence, f.leased, f.lapse = fence, leased, lapse
}

// takeOver takes the lease from the flight that this one superseded, if it is
// that one's: it will write nothing any more.
func (f *flight[K, V]) takeOver(lease Fence) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if old := f.superseded; old != nil && !old.settled && old.leased && old.fence == lease {
		old.fence, old.leased = Fence{}, false
		f.fence, f.leased = lease, true
	}
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
			if now := Clock(); fail.fallsBack && now < fail.until && canFallBack(&c.rules, e, now, f.need.readOptions) {
				c.settle(f, outcome[V]{kind: outcomeFailed, err: fail.err, fallsBack: true, unasked: true})
				continue
			}
		}
		kept = append(kept, f)
	}
	return kept
}
