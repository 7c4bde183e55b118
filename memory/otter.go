package memory

import (
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
)

// otterTier keeps entries in otter. Time stays in the entry: otter is given
// neither an expiry nor a refresh, and so runs no goroutine of its own.
type otterTier[V any] struct {
	limits   limits[V]
	capacity int64
	unit     int64 // costs are counted in units of it, so that each fits the 32 bits of an otter weight
	cache    *otter.Cache[string, *weighed[V]]
	evicted  atomic.Uint64
	closed   atomic.Bool
}

// weighed is an entry with its weight, taken before otter locks anything.
type weighed[V any] struct {
	entry  dewar.Entry[V]
	weight uint32
}

// maxWeight is the largest MaxCost whose every cost is a weight as it is.
const maxWeight = 1<<32 - 1

func openOtter[V any](l limits[V]) (dewar.LocalTier[V], error) {
	t := &otterTier[V]{limits: l, capacity: l.capacity(), unit: 1}
	options := &otter.Options[string, *weighed[V]]{
		// Who fills a buffer empties it: an asynchronous executor would leave a
		// goroutine behind Close, and the bound open until it is scheduled.
		Executor: func(maintain func()) { maintain() },
		OnAtomicDeletion: func(e otter.DeletionEvent[string, *weighed[V]]) {
			if e.WasEvicted() {
				t.evicted.Add(1)
			}
		},
	}
	if l.Cost == nil {
		options.MaximumSize = int(t.capacity)
		options.InitialCapacity = int(t.capacity)
	} else {
		t.unit = 1 + (t.capacity-1)/maxWeight
		options.MaximumWeight = uint64(t.capacity / t.unit)
		options.Weigher = func(_ string, w *weighed[V]) uint32 { return w.weight }
	}
	cache, err := otter.New(options)
	if err != nil {
		return nil, err
	}
	t.cache = cache
	return t, nil
}

func (t *otterTier[V]) Get(key string) *dewar.Entry[V] {
	w, ok := t.cache.GetIfPresent(key)
	if !ok {
		return nil
	}
	return &w.entry
}

func (t *otterTier[V]) Set(key string, e dewar.Entry[V]) {
	cost := t.limits.costOf(key, &e)
	if cost > t.capacity {
		t.cache.Invalidate(key)
		return
	}
	if t.closed.Load() {
		return
	}
	weight := uint32((cost + t.unit - 1) / t.unit)
	t.cache.Set(key, &weighed[V]{entry: e, weight: weight})
	// 1. Set finds the tier open.
	// 2. Close marks it closed and empties it.
	// 3. Set stores its entry, which nobody would remove.
	if t.closed.Load() {
		t.cache.Invalidate(key)
	}
}

func (t *otterTier[V]) Delete(key string) { t.cache.Invalidate(key) }

func (t *otterTier[V]) Stats() dewar.LocalStats {
	entries := int64(t.cache.EstimatedSize())
	cost := entries
	if t.limits.Cost != nil {
		cost = int64(t.cache.WeightedSize()) * t.unit
	}
	return dewar.LocalStats{Entries: entries, Cost: cost, Evicted: t.evicted.Load()}
}

func (t *otterTier[V]) Close() {
	if !t.closed.Swap(true) {
		t.cache.InvalidateAll()
	}
}
