package dewar

import (
	"errors"
	"math/rand/v2"
	"time"
)

// settle ends a flight with its outcome. The first to settle it wins. What is
// stored, and that the flight is over, become true in one section:
//
//	A: load ends with the old value
//	B:                               Invalidate: detaches the flight, deletes
//	A: finds itself detached: stores nothing. Had it stored before B, B deletes it.
func (c *Cache[K, V]) settle(f *flight[K, V], out outcome[V]) {
	won, over, detached := c.settleInTable(f, &out)
	if !won {
		return
	}
	if !over || f.refresh != (Fence{}) {
		// Written behind before anybody is told: who has the answer and then
		// calls Wait waits for this write.
		lingering := c.writeBehind(f, &out, detached)
		f.shard.mu.Lock()
		if !over {
			f.overLocked()
		}
		if !lingering && c.lone && f.shard.flights[f.str] == f {
			delete(f.shard.flights, f.str)
		}
		f.shard.mu.Unlock()
	}
	if !detached && out.keep && c.pins.any() {
		c.pins.learn(f.str, out.entry.Loaded, pinDue(&c.rules, &out.entry))
	}
	c.wg.Done()
}

// source is for whom a flight loads.
func (f *flight[K, V]) source() Source {
	switch n := f.need; {
	case n.preload:
		return SourcePreload
	case n.background, n.origin:
		return SourceRefresh
	}
	return SourceReader
}

// settleInTable is the section in which the outcome becomes true. The flight
// is over with it unless something remains to be written behind.
func (c *Cache[K, V]) settleInTable(f *flight[K, V], out *outcome[V]) (won, over, detached bool) {
	s := f.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.settled {
		return false, false, f.detached
	}
	f.settled, f.out, f.superseded = true, *out, nil
	if !f.detached {
		c.storeLocked(f, out)
	}
	if over = f.fence == (Fence{}) || out.remote; over {
		f.overLocked()
	}
	if !f.detached && (over || !c.lone) {
		delete(s.flights, f.str)
	}
	return true, over, f.detached
}

// storeLocked brings the local tier in line with an outcome.
func (c *Cache[K, V]) storeLocked(f *flight[K, V], out *outcome[V]) {
	s := f.shard
	unmoved := s.gens[f.stripe] <= f.writes
	switch {
	case out.kind == outcomeFailed:
		c.keepOldLocked(f, out, Clock(), unmoved)
	case out.kind == outcomeKept:
		if c.rules.localTTL > 0 && c.local.Get(f.str) == f.local { // not asked again before LocalTTL
			c.table.putLocked(s, f.str, *f.local, false)
		}
	case out.remote:
		if unmoved { // a promotion is fenced by the generation, a load by its flight
			c.table.putLocked(s, f.str, out.entry, true)
			c.brought(f.str, SourceRemote)
		}
	case out.keep:
		delete(s.failing, f.str)
		c.table.putLocked(s, f.str, out.entry, false)
		c.brought(f.str, f.source())
	default:
		// Taken back by the origin. Until the remote copy is gone as well,
		// nobody is to find it there and promote it.
		delete(s.failing, f.str)
		c.local.Delete(f.str)
		if f.fence != (Fence{}) {
			f.revoked = true
			s.gens[f.stripe] = c.table.writes.Add(1)
			s.marks[f.str] = mark{s.marks[f.str].writes + 1, s.gens[f.stripe]}
		}
	}
}

// keepOldLocked prepares for the time after a failed load: a stale value is
// served without asking again, a fresh one is refreshed again later, and a
// stale copy that only the remote tier had is at hand from now on.
func (c *Cache[K, V]) keepOldLocked(f *flight[K, V], out *outcome[V], now int64, unmoved bool) {
	old := c.local.Get(f.str)
	if found := f.copy.Load(); found != nil && unmoved && (old == nil || old.Loaded < found.Loaded) {
		old = found
		c.table.putLocked(f.shard, f.str, *found, true)
		c.brought(f.str, SourceRemote)
	}
	if old == nil || old.Negative() || dead(&c.rules, old, now) {
		return
	}
	if out.elsewhere {
		c.lookSoonLocked(f, old, now)
	}
	if out.refused && now >= old.Fresh { // or each reader would look and ask anew
		switch {
		case errors.Is(out.err, ErrBreakerOpen):
			f.shard.restLocked(f.str, now, now, out.err)
		case errors.Is(out.err, ErrOverloaded): // a queue has made them rest already
			f.shard.restLocked(f.str, f.begun, now, out.err)
		}
	}
	if out.refused && now < old.Fresh {
		c.dueAgainLocked(f, old, now, c.rules.retryAfter-spread(c.rules.retryAfter))
	}
	if out.unasked || out.refused || errors.Is(out.err, ErrClosed) {
		return // the origin was not asked
	}
	if now >= old.Fresh {
		f.shard.failedLocked(f.str, now, c.rules.retryAfter, out.err, out.fallsBack)
		return
	}
	// The refresh of a fresh entry: the wait doubles, is spread so that keys
	// that failed together do not come back together, and ends when the entry
	// turns stale.
	wait, tries := old.Fresh-now, min(f.shard.failing[f.str].tries, 62)
	if c.rules.retryAfter < wait>>tries {
		wait = c.rules.retryAfter << tries
	}
	wait -= spread(wait)
	f.shard.failedLocked(f.str, now, wait, out.err, out.fallsBack)
	c.dueAgainLocked(f, old, now, wait)
}

// spread is a random part, up to a fifth, of a wait.
func spread(wait int64) int64 { return int64(float64(wait) * 0.2 * rand.Float64()) }

// dueAgainLocked makes a fresh entry due after a wait, or when it turns stale.
func (c *Cache[K, V]) dueAgainLocked(f *flight[K, V], old *Entry[V], now, wait int64) {
	again := *old
	again.Due = min(later(now, wait), old.Fresh)
	c.local.Set(f.str, again)
}

// Between what bounds an entry that another process refreshes is due again, to
// be adopted: after an eighth of the time that is left, or these.
const (
	adoptMinWait = int64(10 * time.Millisecond)
	adoptMaxWait = int64(time.Second)
)

// lookSoonLocked sees to it that what another process is loading is looked for
// again soon, and not by every reader: a fresh entry is due again, a stale one
// rests.
func (c *Cache[K, V]) lookSoonLocked(f *flight[K, V], old *Entry[V], now int64) {
	if now >= old.Fresh {
		f.shard.restLocked(f.str, now, now, errElsewhere)
		return
	}
	if c.rules.localTTL > 0 {
		return // it is compared with the remote tier's anyway
	}
	wait := min(max((old.Fresh-now)/8, adoptMinWait), adoptMaxWait)
	c.dueAgainLocked(f, old, now, wait/2+rand.Int64N(wait))
}

// writeBehind hands the remote part of an outcome to the backfill. It reports
// whether the flight stays in the table until that is done.
func (c *Cache[K, V]) writeBehind(f *flight[K, V], out *outcome[V], detached bool) (lingering bool) {
	fromOrigin := out.kind != outcomeFailed && out.kind != outcomeKept && !out.remote
	switch {
	case fromOrigin && out.keep && !detached:
		w := remoteWrite[V]{fill: Fill[V]{
			Key: f.str, Fence: f.fence, Entry: out.entry, Took: out.took, Dead: deadAt(&c.rules, &out.entry),
		}, lapse: f.lapse, refresh: f.refresh}
		if c.lone {
			w.done = func() { c.table.dropLingering(f) }
		}
		return c.backfill.add(w) && w.done != nil
	case f.leased, fromOrigin && !detached:
		// A lease that will not be filled, or a value that the origin took back.
		w := remoteWrite[V]{release: true, marked: f.revoked, fill: Fill[V]{Key: f.str, Fence: f.fence}, refresh: f.refresh}
		if !c.backfill.add(w) && f.revoked {
			c.insist(f.str)
		}
	case f.refresh != (Fence{}):
		c.backfill.add(remoteWrite[V]{release: true, fill: Fill[V]{Key: f.str, Fence: f.refresh, Refresh: true}})
	}
	return false
}
