package dewar

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// track knows the hottest keys, the keys whose stale values are the oldest, and
// who brought the last values: what an operator looks for. Keys are personal
// data, so there is none unless Config.Track asks for it. It is bounded.
//
// The hottest are found by Space-Saving (Metwally, Agrawal, El Abbadi,
// "Efficient Computation of Frequent and Top-k Elements in Data Streams",
// ICDT 2005) over a sample of the reads, halved as time goes by, so that what
// was hot yesterday makes room.
type track struct {
	keep  int                   // keys to tell of
	stays func(key string) bool // what was served stale is not fresh again, nor gone

	mu     sync.Mutex // mu guards these; it may be taken under a shard's
	hot    ranking    // by sampled reads
	halved int64      // when those were last halved, on Clock
	past   int64      // ns: for how long they count what was before, halved as they are
	aged   ranking    // by when the value was loaded, the youngest first to go
	swept  int64      // when those that do not stay were last dropped to make room
	source map[string]Source
	order  []string // the keys of source, in a ring
	next   int
}

const (
	// trackSample is the share of reads that are counted: one in so many.
	trackSample = 16

	// trackRoom is how many keys are counted for each one that is told of.
	trackRoom = 8

	// trackHalf is after how long a read counts half.
	trackHalf = int64(time.Minute)

	// trackSweep is how often room is made among the keys served stale.
	trackSweep = int64(time.Second)
)

func newTrack(keep int, stays func(key string) bool) *track {
	if keep == 0 {
		return nil
	}
	room := trackRoom * keep
	return &track{
		keep: keep, stays: stays, halved: Clock(),
		hot: newRanking(room), aged: newRanking(room),
		source: make(map[string]Source), order: make([]string, 16*room),
	}
}

// touch counts a read of key, or more often does not.
func (t *track) touch(key string) {
	if rand.Uint32()%trackSample != 0 {
		return
	}
	now := Clock()
	if !t.mu.TryLock() {
		return // a sample that is missing says as little as one more
	}
	defer t.mu.Unlock()
	t.fadeLocked(now)
	switch r := t.hot.byKey[key]; {
	case r != nil:
		t.hot.rank(r, r.by+1)
	case t.hot.full():
		least := t.hot.first()
		least.over = least.by // its count may be too high now by that, never too low
		t.hot.replace(least, key, least.by+1)
	default:
		t.hot.add(key, 1)
	}
}

// fadeLocked halves the counts of reads once for each trackHalf that has gone by.
func (t *track) fadeLocked(now int64) {
	for ; now-t.halved >= trackHalf; t.halved += trackHalf {
		t.past = (t.past + trackHalf) / 2
		for _, r := range t.hot.heap {
			r.by /= 2 // it still is a heap
			r.over /= 2
		}
		for len(t.hot.heap) > 0 && t.hot.first().by == 0 {
			t.hot.remove(t.hot.first())
		}
		if len(t.hot.heap) == 0 { // nothing to halve for longer
			t.past, t.halved = trackHalf, now
			return
		}
	}
}

// stale notes that a value, loaded and of no use from those instants on, was
// served stale.
func (t *track) stale(key string, loaded, dead int64) {
	if !t.noteStale(key, loaded, dead) && t.maySweep() {
		t.stillStale()
		t.noteStale(key, loaded, dead)
	}
}

// noteStale reports false when there is no room for a value as young.
func (t *track) noteStale(key string, loaded, dead int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.aged.byKey[key]
	switch {
	case r != nil:
		t.aged.rank(r, -loaded)
	case !t.aged.full():
		r = t.aged.add(key, -loaded)
	case -t.aged.first().by > loaded:
		r = t.aged.first()
		t.aged.replace(r, key, -loaded)
	default:
		return false
	}
	r.until = dead
	return true
}

// maySweep reports whether it is time to look for keys that need no room any
// more: old ones that nobody reads would keep out those of the next outage.
func (t *track) maySweep() bool {
	now := Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now-t.swept < trackSweep {
		return false
	}
	t.swept = now
	return true
}

// fresh forgets that a value loaded at that instant was served stale.
func (t *track) fresh(key string, loaded int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.aged.byKey[key]; r != nil && -r.by == loaded {
		t.aged.remove(r)
	}
}

// brought notes where the value of a key came from, which is stored now.
func (t *track) brought(key string, from Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.aged.byKey[key]; r != nil {
		t.aged.remove(r)
	}
	if _, known := t.source[key]; !known {
		if old := t.order[t.next]; old != "" {
			delete(t.source, old)
		}
		t.order[t.next] = key
		t.next = (t.next + 1) % len(t.order)
	}
	t.source[key] = from
}

// brought is track.brought, where there is one.
func (c *Cache[K, V]) brought(key string, from Source) {
	if c.track != nil {
		c.track.brought(key, from)
	}
}

func (t *track) sourceOf(key string) Source {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.source[key]
}

// Source says who has brought a value into this process's local tier.
type Source uint8

const (
	SourceUnknown Source = iota
	SourceReader         // a load that a reader waited for
	SourceRefresh        // a refresh: of a due, stale or pinned key, or by Refresh
	SourcePreload
	SourceSet
	SourceRemote // the remote tier: another process has loaded or set it
)

// String returns "reader", "refresh", "preload", "set", "remote" or "unknown".
func (s Source) String() string {
	return [...]string{"unknown", "reader", "refresh", "preload", "set", "remote"}[min(s, SourceRemote)]
}

// HotKey is a key that is read often.
type HotKey struct {
	Key   string
	Reads float64 // a second, about, over the last minute or two
}

// StaleKey is a key whose value was last served stale.
type StaleKey struct {
	Key string
	Age time.Duration // of the value
}

// HotKeys returns up to Config.Track of the keys that are read most, the
// hottest first; nil without Track. Rates are estimates from a sample, and too
// low rather than too high for keys that have become hot lately.
func (c *Cache[K, V]) HotKeys() []HotKey {
	if c.track == nil {
		return nil
	}
	return c.track.hottest()
}

func (t *track) hottest() []HotKey {
	keys := t.hotKeys()
	slices.SortFunc(keys, func(a, b HotKey) int { return cmp.Or(cmp.Compare(b.Reads, a.Reads), cmp.Compare(a.Key, b.Key)) })
	return keys[:min(len(keys), t.keep)]
}

func (t *track) hotKeys() []HotKey {
	now := Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fadeLocked(now)
	seconds := max(time.Second, time.Duration(t.past+now-t.halved)).Seconds()
	keys := make([]HotKey, 0, len(t.hot.heap))
	for _, r := range t.hot.heap {
		keys = append(keys, HotKey{r.key, float64(r.by-r.over) * trackSample / seconds})
	}
	return keys
}

// StaleKeys returns up to Config.Track of the keys whose values, served stale,
// are the oldest and have not been replaced, the oldest first; nil without
// Track.
func (c *Cache[K, V]) StaleKeys() []StaleKey {
	if c.track == nil {
		return nil
	}
	return c.track.oldest()
}

// staysStale is track.stays. Without a local tier nobody knows before the next
// read.
func (c *Cache[K, V]) staysStale(key string) bool {
	if c.lone {
		return true
	}
	e := c.local.Get(key)
	return e != nil && Clock() >= e.Fresh
}

func (t *track) oldest() []StaleKey {
	keys := t.stillStale()
	slices.SortFunc(keys, func(a, b StaleKey) int { return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Key, b.Key)) })
	return keys[:min(len(keys), t.keep)]
}

// stillStale forgets the keys that are not stale any more, and returns the
// others.
func (t *track) stillStale() []StaleKey {
	now := Clock()
	t.mu.Lock()
	all := make([]ranked, 0, len(t.aged.heap))
	for _, r := range t.aged.heap {
		all = append(all, *r)
	}
	t.mu.Unlock()
	keys := make([]StaleKey, 0, len(all))
	for _, r := range all {
		if now < r.until && t.stays(r.key) {
			keys = append(keys, StaleKey{r.key, time.Duration(now + r.by)})
		} else {
			t.fresh(r.key, -r.by)
		}
	}
	return keys
}
