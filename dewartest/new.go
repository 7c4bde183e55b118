package dewartest

import (
	"cmp"
	"container/list"
	"fmt"
	"hash/fnv"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

// New opens a cache for a test and closes it when the test ends:
//
//	cache := dewartest.New(t, dewar.Config[string, Video]{Load: catalog.Video})
//
// What is not set is filled in: Name from the test's name, TTL with a minute,
// Local with a tier of 100,000 entries that starts no goroutine. (For a cache
// without a local tier use dewar.New.) An error fails the test, and so does
// one of Close, which says that writes or invalidations were lost or that a
// loader ignores its context.
//
// It works in a testing/synctest bubble.
func New[K comparable, V any](t testing.TB, cfg dewar.Config[K, V]) *dewar.Cache[K, V] {
	t.Helper()
	cfg.Name = cmp.Or(cfg.Name, cacheName(t.Name()))
	cfg.TTL = cmp.Or(cfg.TTL, time.Minute)
	if cfg.Local == nil {
		cfg.Local = localMap[V](100_000)
	}
	c, err := dewar.New(cfg)
	if err != nil {
		t.Fatalf("dewartest.New: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close of cache %s: %v", cfg.Name, err)
		}
	})
	return c
}

// cacheName makes a valid Config.Name of a test's name. Names that differ stay
// different, as caches of one name share their remote keys.
func cacheName(test string) string {
	name := []byte(test)
	altered := len(name) > 64 || len(name) == 0
	for i, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			name[i], altered = '-', true
		}
	}
	if !altered {
		return test
	}
	sum := fnv.New64a()
	sum.Write([]byte(test))
	return fmt.Sprintf("%s-%016x", name[:min(len(name), 47)], sum.Sum64())
}

// localMap describes a local tier: a map under a mutex, of so many entries, of
// which the least recently used leave first.
type localMap[V any] int

func (m localMap[V]) Validate() error {
	if m < 1 || m > math.MaxInt32 {
		return fmt.Errorf("dewartest: a local tier of %d entries", m)
	}
	return nil
}

func (m localMap[V]) OpenLocal(string) (dewar.LocalTier[V], error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return &localTier[V]{capacity: int(m), items: make(map[string]*list.Element)}, nil
}

type localTier[V any] struct {
	capacity int

	mu      sync.Mutex               // guards what follows
	items   map[string]*list.Element // nil once closed
	recent  list.List                // of *localItem[V], last used first
	evicted uint64
}

type localItem[V any] struct {
	key   string
	entry *dewar.Entry[V]
}

func (l *localTier[V]) Get(key string) *dewar.Entry[V] {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.items[key]
	if !ok {
		return nil
	}
	l.recent.MoveToFront(at)
	return at.Value.(*localItem[V]).entry
}

func (l *localTier[V]) Set(key string, e dewar.Entry[V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.items == nil {
		return
	}
	if at, ok := l.items[key]; ok {
		at.Value.(*localItem[V]).entry = &e // readers may still hold the one before
		l.recent.MoveToFront(at)
		return
	}
	if len(l.items) >= l.capacity {
		l.removeLocked(l.recent.Back())
		l.evicted++
	}
	l.items[key] = l.recent.PushFront(&localItem[V]{key, &e})
}

func (l *localTier[V]) Delete(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.items[key]; ok {
		l.removeLocked(at)
	}
}

func (l *localTier[V]) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.items != nil {
		clear(l.items)
	}
	l.recent.Init()
}

func (l *localTier[V]) removeLocked(at *list.Element) {
	delete(l.items, at.Value.(*localItem[V]).key)
	l.recent.Remove(at)
}

func (l *localTier[V]) Stats() dewar.LocalStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(len(l.items))
	return dewar.LocalStats{Entries: n, Cost: n, Evicted: l.evicted}
}

func (l *localTier[V]) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = nil
	l.recent.Init()
}
