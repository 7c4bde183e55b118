package dewar

import (
	"sync/atomic"
	"time"
)

// Announcements that may have been missed, or an outage in which none can
// come, are reasons to doubt what is kept locally. Doubted entries are fresh,
// but the remote tier is asked once before they count as such again. Where it
// cannot be asked they serve as before, so that losing it never multiplies the
// load of the origin.

// checkPause is for how long a failed question to the remote tier answers for
// all doubted entries.
const checkPause = int64(100 * time.Millisecond)

// doubt says which local copies are doubted.
type doubt struct {
	since  int64 // those loaded up to this instant, unless checked since, on Clock
	maxAge int64 // while deaf, above 0: those loaded longer ago are not fresh
}

// doubts is what a cache doubts. Nearly always there is none, which the hit
// path finds out by one comparison.
type doubts struct {
	now    atomic.Pointer[doubt]
	paused atomic.Int64 // until when the remote tier is not asked, on Clock
}

func (d *doubts) none() bool { return d.now.Load() == nil }

// change replaces what is doubted. Only one goroutine calls it: the remote
// tier's that tells of the fleet.
func (d *doubts) change(edit func(*doubt)) {
	next := doubt{}
	if old := d.now.Load(); old != nil {
		next = *old
	}
	if edit(&next); next == (doubt{}) {
		d.now.Store(nil)
		return
	}
	d.now.Store(&next)
}

// trusts reports whether a local entry that is fresh may be served as such.
func (c *Cache[K, V]) trusts(key string, e *Entry[V]) bool {
	d := c.doubts.now.Load()
	if d == nil {
		return true
	}
	now := Clock()
	if d.maxAge > 0 && now-e.Loaded > d.maxAge {
		return false
	}
	return c.vouched(d, e, now) || c.table.wasChecked(key)
}

// vouched reports whether a doubted entry need not be looked up.
func (c *Cache[K, V]) vouched(d *doubt, e *Entry[V], now int64) bool {
	return e.Loaded > d.since || now < c.doubts.paused.Load()
}

// judge is the pure judge for a local entry, doubts included.
func (c *Cache[K, V]) judge(key string, e *Entry[V], now int64, o readOptions) verdict {
	return c.judgeDoubted(e, now, o, func() bool { return c.table.wasChecked(key) })
}

// judgeDoubted is judge for whoever may hold the lock of the key's shard.
func (c *Cache[K, V]) judgeDoubted(e *Entry[V], now int64, o readOptions, checked func() bool) verdict {
	d := c.doubts.now.Load()
	if d == nil || e == nil {
		return judge(&c.rules, e, now, o)
	}
	v := judge(&c.rules, e, now, d.limit(o))
	if (v == verdictHit || v == verdictDue || v == verdictNegative) && !c.vouched(d, e, now) && !checked() {
		return verdictCheck
	}
	return v
}

// limit is o with the bound on ages while deaf.
func (d *doubt) limit(o readOptions) readOptions {
	if d.maxAge > 0 && (!o.hasMaxAge || d.maxAge < o.maxAge) {
		o.hasMaxAge, o.maxAge = true, d.maxAge
	}
	return o
}

// keeps settles flights that were to check a local copy and could not: it
// serves as before. It returns the others.
func (c *Cache[K, V]) keeps(fs []*flight[K, V]) []*flight[K, V] {
	kept := fs[:0:0]
	for _, f := range fs {
		if unasked := f.state == RemoteFailed || f.marked; !unasked || !c.servable(f) {
			kept = append(kept, f)
			continue
		}
		if f.state == RemoteFailed {
			c.doubts.paused.Store(later(Clock(), checkPause))
		}
		c.settle(f, outcome[V]{kind: outcomeKept, entry: *f.local})
	}
	return kept
}

// servable reports whether the local copy that a flight was to check would do
// if it were not doubted. Whether it is doubted is not asked again: the first
// failure among flights that looked together vouches for the copies of all.
func (c *Cache[K, V]) servable(f *flight[K, V]) bool {
	n := f.need
	if f.local == nil || n.origin || n.background {
		return false
	}
	o := n.readOptions
	if d := c.doubts.now.Load(); d != nil {
		o = d.limit(o)
	}
	switch judge(&c.rules, f.local, f.begun, o) {
	case verdictHit, verdictDue, verdictNegative, verdictCheck:
		return Clock() < f.local.Fresh
	}
	return false
}

// checked is the keys whose local copy, though loaded before there was reason
// to doubt it, was read in the remote tier since.
type checked struct {
	since   int64 // of the doubt; 0: there was none
	keys    map[string]struct{}
	sweepAt int // the size at which keys that are not held any more are dropped
}

const checkedLeast = 256

func (ch *checked) reset(since int64) {
	*ch = checked{since: since, keys: make(map[string]struct{}), sweepAt: checkedLeast}
}

func (ch *checked) add(key string, loaded int64, held func(string) bool) {
	if loaded > ch.since {
		return
	}
	if len(ch.keys) >= ch.sweepAt {
		for k := range ch.keys {
			if !held(k) {
				delete(ch.keys, k)
			}
		}
		ch.sweepAt = max(checkedLeast, 2*len(ch.keys))
	}
	ch.keys[key] = struct{}{}
}

func (ch *checked) has(key string) bool {
	_, ok := ch.keys[key]
	return ok
}

func (t *table[K, V]) wasChecked(key string) bool {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked.has(key)
}

// doubtAll begins a doubt in everything that is kept now: what was read in the
// remote tier before is not promoted, and nothing counts as checked. It
// returns since when. then is called at the end of the section.
func (t *table[K, V]) doubtAll(then func()) (since int64) {
	t.lockAll()
	defer t.unlockAll()
	defer then()
	since = Clock()
	gen := t.writes.Add(1)
	for i := range t.shards {
		s := &t.shards[i]
		for g := range s.gens {
			s.gens[g] = gen
		}
		s.checked.reset(since)
	}
	return since
}
