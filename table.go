package dewar

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// shardCount locks guard shardCount*stripesPerShard generation stripes. An
// invalidation moves its key's stripe, and refuses the promotions of all keys
// in it that are under way: many stripes, few refused in vain.
const (
	shardCount      = 128
	stripesPerShard = 32
)

// table is where everything that must change together about a key changes
// together: its flight, its generation, its mark, and the local copy. Single
// and batch reads share it.
type table[K comparable, V any] struct {
	seed   maphash.Seed
	local  LocalTier[V]
	rules  *rules
	links  bool                                                                     // a Trace wants to know who joins a flight
	judge  func(e *Entry[V], now int64, o readOptions, checked func() bool) verdict // Cache.judgeDoubted
	wg     *sync.WaitGroup                                                          // counts flights and writes: it grows under a lock, where closed is false
	writes atomic.Uint64                                                            // Sets, Invalidates and Expires so far, the fleet's too: the source of generations
	shards [shardCount]shard[K, V]

	// barred counts what keeps this process away from the remote copies of all
	// keys. It changes under the locks of all shards, so each guards a reader.
	barred int
}

// shard is one lock of the table and the keys that hash to it.
type shard[K comparable, V any] struct {
	// mu guards all below, the fields of flights that say so, and every
	// change of the local copies of the shard's keys. It is held for no I/O
	// and no user code but Config.Local's Cost.
	mu      sync.Mutex
	closed  bool
	flights map[string]*flight[K, V]
	marks   map[string]mark      // keys with writes whose remote part is not confirmed
	own     map[string]*ownWrite // keys with writes of ours that we have not yet heard of: see fleet.go
	failing map[string]failure   // keys with a stale value whose last load failed
	sweepAt int                  // the size of failing at which it is next swept
	checked checked              // keys whose doubted local copy the remote tier has confirmed
	gens    [stripesPerShard]uint64
}

// mark keeps readers of this process away from the remote copy of a key while
// writes of the key are on their way there.
type mark struct {
	writes int    // how many
	gen    uint64 // the newest one's generation
}

func newTable[K comparable, V any](c *Cache[K, V]) *table[K, V] {
	t := &table[K, V]{seed: maphash.MakeSeed(), local: c.local, rules: &c.rules, links: c.trace.Load != nil, judge: c.judgeDoubted, wg: &c.wg}
	for i := range t.shards {
		s := &t.shards[i]
		s.flights = make(map[string]*flight[K, V])
		s.marks = make(map[string]mark)
		s.own = make(map[string]*ownWrite)
		s.failing = make(map[string]failure)
		s.sweepAt = 64
	}
	return t
}

// of returns the shard of a key and the index of its generation.
func (t *table[K, V]) of(key string) (*shard[K, V], int) {
	h := maphash.String(t.seed, key)
	return &t.shards[h%shardCount], int(h / shardCount % stripesPerShard)
}

// need is what a caller asks of the flight that it joins or starts.
type need struct {
	readOptions
	refusal    error // of the dial's level, with StaleOnly: why a stale value is not reloaded
	origin     bool  // only a load will do: Refresh
	background bool  // the bucket's and Preload's: joins nothing
	preload    bool  // Preload's: waits where another process loads
	newerThan  int64 // background only: a fresh entry loaded after this needs no refresh

	caller context.Context // its values go to the loader
	chain  *chain          // the loads that caller runs inside of
}

// covers reports whether what a flight started for n brings will do for a
// reader that wants m: one that started over must not join another that will
// not do either, and another, and so on.
func (n *need) covers(m *need) bool {
	return (!m.origin || n.origin || n.reload) && (!m.noStale || n.noStale) &&
		(!m.hasMaxAge || n.reload || n.origin || n.hasMaxAge && n.maxAge <= m.maxAge)
}

// claim is how a caller came out of the table: with a flight, with an entry
// that it may serve after all, or with an error.
type claim[K comparable, V any] struct {
	flight  *flight[K, V]
	own     bool // the caller must launch the flight
	entry   *Entry[V]
	verdict verdict
	err     error // ErrClosed; with an entry: why a stale one must do
}

// claim joins the flight of a key or starts one. seen is the entry on which
// the caller decided to come here, wanting a flight that it joined before and
// that did not bring what it needs: not to be joined again.
//
// It looks at the local tier once more under the lock, since:
//
//	A: Get misses in the local tier
//	B:                               flight ends, stores, leaves the table
//	A: finds no flight: without the look it would load a second time
func (t *table[K, V]) claim(k K, key string, seen *Entry[V], wanting *flight[K, V], now int64, n *need,
	from *slab[K, V],
) (c claim[K, V]) {
	if n.chain.loads(t, key) {
		c.err = ErrRecursiveLoad
		return c
	}
	s, stripe := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.err = ErrClosed
		return c
	}
	f := s.flights[key]
	current := t.local.Get(key)
	if f != nil && f.lingers(now) && !n.reload && f != wanting && (wanting == nil || f.need.covers(n)) {
		switch {
		case n.background:
		case f.parked && canFallBack(t.rules, current, now, n.readOptions):
			c.entry, c.verdict, c.err = current, verdictStale, errElsewhere
		default:
			c.flight = f
			if t.links && n != f.need && len(f.joined) < maxJoined && !slices.Contains(f.joined, n) {
				f.joined = append(f.joined, n)
			}
		}
		return c
	}
	if n.background {
		if current != nil && now < current.Fresh && current.Loaded > n.newerThan {
			return c
		}
	} else if !n.reload && !n.origin && current != seen {
		if c.verdict = t.judge(current, now, n.readOptions, func() bool { return s.checked.has(key) }); c.verdict > verdictCheck {
			c.entry = current
			return c
		}
	}
	if fail := s.failing[key]; fail.fallsBack && !n.noStale && !n.reload && !n.origin && !n.background &&
		now < fail.until && canFallBack(t.rules, current, now, n.readOptions) {
		c.entry, c.verdict, c.err = current, verdictStale, fail.err
		return c
	}
	superseded := f
	if superseded != nil {
		superseded.detached = true
	}
	f = from.next()
	f.key, f.str, f.need, f.begun, f.local = k, key, n, now, current
	f.shard, f.stripe, f.superseded = s, uint8(stripe), superseded
	f.writes, f.marked, f.state = t.writes.Load(), t.markedLocked(s, key), RemoteForeign
	s.flights[key] = f
	t.wg.Add(1)
	c.flight, c.own = f, true
	return c
}

// markedLocked reports whether readers are to keep away from the remote copy
// of a key of shard s.
func (t *table[K, V]) markedLocked(s *shard[K, V], key string) bool {
	return t.barred > 0 || s.marks[key].writes > 0
}

// overwrite is the local part of Set, Invalidate and Expire, as one section:
// from its end on, no load begun before stores anything, nothing read from the
// remote tier before is promoted, and, if marked, readers keep away from the
// remote copy until unmark. It returns the key's new generation.
func (t *table[K, V]) overwrite(key string, marked, sets bool, edit func()) (gen uint64, err error) {
	s, stripe := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	t.wg.Add(1)
	if marked {
		s.marks[key] = mark{s.marks[key].writes + 1, 0}
		s.beginOwnLocked(key, sets)
	}
	return t.moveLocked(s, stripe, key, edit), nil
}

// moveLocked moves the generation of a key, as whoever writes it does, and
// detaches its flight.
func (t *table[K, V]) moveLocked(s *shard[K, V], stripe int, key string, edit func()) (gen uint64) {
	gen = t.writes.Add(1)
	s.gens[stripe] = gen
	if m, ok := s.marks[key]; ok {
		s.marks[key] = mark{m.writes, gen}
	}
	if f := s.flights[key]; f != nil {
		f.detached = true
		delete(s.flights, key)
	}
	delete(s.failing, key)
	edit()
	return gen
}

// newest reports whether the write of the given generation, whose mark is still
// up, is the newest of its key.
func (t *table[K, V]) newest(key string, gen uint64) bool {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[key].gen == gen
}

// unmark takes back the mark of one finished write.
func (t *table[K, V]) unmark(key string) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unmarkLocked(key)
}

func (s *shard[K, V]) unmarkLocked(key string) {
	if m := s.marks[key]; m.writes > 1 {
		s.marks[key] = mark{m.writes - 1, m.gen}
	} else {
		delete(s.marks, key)
	}
}

// glance notes what a look into the remote tier without a flight must note
// first: how many writes there have been, and whether the key is marked.
func (t *table[K, V]) glance(key string) (writes uint64, marked bool) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.writes.Load(), t.markedLocked(s, key)
}

// promote stores an entry that is newer than the local one and nobody asked a
// flight for, unless the stripe was written since, the key is marked, or a
// flight is about to bring something newer. It reports whether it has.
func (t *table[K, V]) promote(key string, e Entry[V], writes uint64, onlyIfVacant bool) bool {
	s, stripe := t.of(key)
	now := Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.gens[stripe] > writes || t.markedLocked(s, key) || s.flights[key] != nil {
		return false
	}
	if current := t.local.Get(key); current != nil && !dead(t.rules, current, now) &&
		(onlyIfVacant || current.Loaded > e.Loaded) {
		return false
	}
	t.putLocked(s, key, e, !onlyIfVacant)
	return true
}

// putLocked stores a local copy. promoted says that it was read in the
// remote tier after any reason to doubt it.
func (t *table[K, V]) putLocked(s *shard[K, V], key string, e Entry[V], promoted bool) {
	limitLocal(t.rules, &e, Clock())
	t.local.Set(key, e)
	if promoted {
		s.checked.add(key, e.Loaded, func(key string) bool { return t.local.Get(key) != nil })
	}
}

// replace swaps the local copy for an altered one if it is still the same.
func (t *table[K, V]) replace(key string, old *Entry[V], altered Entry[V]) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && t.local.Get(key) == old {
		t.local.Set(key, altered)
	}
}

// forget removes the local copy that was loaded at that instant: the remote
// tier refused it, so somebody has written or invalidated the key since its
// load began, perhaps another process. One that was made stale since stays: it
// is nobody's but a failed load's answer.
func (t *table[K, V]) forget(key string, loaded int64) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := t.local.Get(key); e != nil && e.Loaded == loaded && Clock() < e.Fresh {
		t.local.Delete(key)
	}
}

// dropLingering takes a settled flight out of the table: see flight.lingers.
func (t *table[K, V]) dropLingering(f *flight[K, V]) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.shard.flights[f.str] == f {
		delete(f.shard.flights, f.str)
	}
}

// enter counts work that has no key yet, unless the table is closed.
func (t *table[K, V]) enter() bool {
	s := &t.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	t.wg.Add(1)
	return true
}

// close refuses every further claim and write.
func (t *table[K, V]) close() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
}

// flying returns how many flights are in progress, and when the oldest of them
// began, on Clock.
func (t *table[K, V]) flying() (n int, oldest int64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, f := range s.flights {
			if f.settled {
				continue // it lingers
			}
			if n++; oldest == 0 || f.begun < oldest {
				oldest = f.begun
			}
		}
		s.mu.Unlock()
	}
	return n, oldest
}
