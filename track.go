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
	keep int // keys to tell of

	mu     sync.Mutex // mu guards these
	hot    map[string]uint64
	halved int64 // when counts were last halved, on Clock
	aged   map[string]int64
	source map[string]Source
	order  []string // the keys of source, in a ring
	next   int
}

const (
	// trackSample is the share of hits that are counted: one in so many.
	trackSample = 16

	// trackRoom is how many keys are counted for each one that is told of.
	trackRoom = 8

	// trackHalf is after how long a read counts half.
	trackHalf = int64(time.Minute)
)

func newTrack(keep int) *track {
	if keep == 0 {
		return nil
	}
	return &track{
		keep: keep, hot: make(map[string]uint64), halved: Clock(),
		aged: make(map[string]int64), source: make(map[string]Source), order: make([]string, 16*trackRoom*keep),
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
	if now-t.halved > trackHalf {
		t.halved = now
		for k, n := range t.hot {
			if n /= 2; n == 0 {
				delete(t.hot, k)
			} else {
				t.hot[k] = n
			}
		}
	}
	n, known := t.hot[key]
	if !known && len(t.hot) >= trackRoom*t.keep {
		least, found := "", false
		for k, m := range t.hot {
			if !found || m < n {
				least, n, found = k, m, true
			}
		}
		delete(t.hot, least) // the newcomer takes over its count: it may be too high, never too low
	}
	t.hot[key] = n + 1
}

// stale notes that a value loaded at that instant was served stale.
func (t *track) stale(key string, loaded int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.aged[key]; !known && len(t.aged) >= trackRoom*t.keep {
		youngest, at, found := "", int64(0), false
		for k, l := range t.aged {
			if !found || l > at {
				youngest, at, found = k, l, true
			}
		}
		if at <= loaded {
			return
		}
		delete(t.aged, youngest)
	}
	t.aged[key] = loaded
}

// brought notes where the value of a key came from.
func (t *track) brought(key string, from Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.source[key]; !known {
		if old := t.order[t.next]; old != "" {
			delete(t.source, old)
		}
		t.order[t.next] = key
		t.next = (t.next + 1) % len(t.order)
	}
	t.source[key] = from
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
// hottest first; nil without Track. Counts are estimates from a sample.
func (c *Cache[K, V]) HotKeys() []HotKey {
	if c.track == nil {
		return nil
	}
	return c.track.hottest()
}

func (t *track) hottest() []HotKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Counts halve every minute: what is read evenly stands between one and two
	// minutes of reads.
	span := time.Duration(trackHalf + Clock() - t.halved).Seconds()
	keys := make([]HotKey, 0, len(t.hot))
	for k, n := range t.hot {
		keys = append(keys, HotKey{k, float64(n) * trackSample / span})
	}
	slices.SortFunc(keys, func(a, b HotKey) int { return cmp.Or(cmp.Compare(b.Reads, a.Reads), cmp.Compare(a.Key, b.Key)) })
	return keys[:min(len(keys), t.keep)]
}

// StaleKeys returns up to Config.Track of the keys whose values, served stale,
// are the oldest and have not been reloaded, the oldest first; nil without
// Track.
func (c *Cache[K, V]) StaleKeys() []StaleKey {
	if c.track == nil {
		return nil
	}
	now := Clock()
	return c.track.oldest(now, func(key string) bool {
		e := c.local.Get(key)
		return c.lone || e != nil && now >= e.Fresh
	})
}

// oldest drops the keys that are not stale any more.
func (t *track) oldest(now int64, still func(key string) bool) []StaleKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make([]StaleKey, 0, len(t.aged))
	for k, loaded := range t.aged {
		if !still(k) {
			delete(t.aged, k)
			continue
		}
		keys = append(keys, StaleKey{k, time.Duration(now - loaded)})
	}
	slices.SortFunc(keys, func(a, b StaleKey) int { return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Key, b.Key)) })
	return keys[:min(len(keys), t.keep)]
}
