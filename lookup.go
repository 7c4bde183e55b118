package dewar

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// This file launches flights: those of single Gets look into the remote tier
// together, and their loads may linger for one LoadMany.

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
		c.goRun(func() { c.flySingle(c.keeps([]*flight[K, V]{f})) })
		return
	}
	l := &c.lookups
	l.mu.Lock()
	l.waiting = append(l.waiting, f)
	start := l.running < lookupsAtOnce || len(l.waiting) >= c.cfg.Batch.MaxSize && l.running < lookupsAtOnceFull
	if start {
		l.running++
		c.wg.Add(1) // now: nobody can have settled f yet
	}
	l.mu.Unlock()
	switch {
	case !start:
	case c.mayStay(ctx, f.need):
		defer c.wg.Done()
		if c.lookUpOnce() {
			c.goRun(c.lookUp)
		}
	default:
		go func() {
			defer c.wg.Done()
			c.lookUp()
		}()
	}
}

// launchGroup starts the flights that a GetMany has claimed.
func (c *Cache[K, V]) launchGroup(ctx context.Context, fs []*flight[K, V]) {
	if len(fs) == 0 {
		return
	}
	if c.mayStay(ctx, fs[0].need) {
		if fs = c.rest(c.consult(fs)); len(fs) > 0 {
			c.goRun(func() { c.load(c.lease(c.allowed(fs)), nil) })
		}
		return
	}
	c.goRun(func() { c.fly(fs) })
}

// mayStay reports whether a caller may look into the remote tier on its own
// goroutine, which saves two switches: it must be one that cannot leave before
// the round trip ends, and has no stale answer already.
func (c *Cache[K, V]) mayStay(ctx context.Context, n *need) bool {
	return ctx.Done() == nil && c.rules.softTimeout == 0 && n.stale <= StaleConfigured
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
	fs = c.lease(c.allowed(c.rest(fs)))
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
	fs := []*flight[K, V]{f}
	defer c.keepLeases(fs).stop()
	if c.cfg.Load != nil {
		c.loadOne(f, nil)
	} else {
		c.loadChunk(fs, nil)
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
