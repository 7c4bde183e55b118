package memory

import (
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
)

// maxWeight is the largest MaxCost whose every cost is an otter weight as it is.
const maxWeight = 1<<32 - 1

// otterTier is the otter engine. Time stays in the entry: otter is given
// neither an expiry nor a refresh, and so runs no goroutine of its own.
type otterTier[V any, W weight] struct {
	weigh    func(key string, e *dewar.Entry[V]) W
	capacity int64
	unit     int64 // what a weight of 1 is in units of cost
	weighted bool  // each entry has a cost
	cache    *otter.Cache[string, *weighed[V, W]]
	evicted  atomic.Uint64
	closed   atomic.Bool
}

// weighed is an entry with its weight, found before otter locked anything.
type weighed[V any, W weight] struct {
	weight W
	entry  dewar.Entry[V]
}

func openOtter[V any](l limits[V]) (dewar.LocalTier[V], error) {
	if l.Cost == nil {
		weigh := func(string, *dewar.Entry[V]) one { return one{} }
		return newOtter(l.capacity(), false, weigh)
	}
	weigh := func(key string, e *dewar.Entry[V]) cost { return cost(l.costOf(key, e)) }
	return newOtter(l.capacity(), true, weigh)
}

func newOtter[V any, W weight](capacity int64, weighted bool, weigh func(string, *dewar.Entry[V]) W) (*otterTier[V, W], error) {
	t := &otterTier[V, W]{weigh: weigh, capacity: capacity, unit: 1, weighted: weighted}
	options := &otter.Options[string, *weighed[V, W]]{
		// Whoever fills a buffer empties it: another goroutine would outlive
		// Close, and leave the bound open until it is scheduled.
		Executor: func(maintain func()) { maintain() },
		OnAtomicDeletion: func(e otter.DeletionEvent[string, *weighed[V, W]]) {
			if e.WasEvicted() {
				t.evicted.Add(1)
			}
		},
	}
	if weighted {
		t.unit = 1 + (capacity-1)/maxWeight
		options.MaximumWeight = uint64(capacity / t.unit)
		options.Weigher = func(_ string, w *weighed[V, W]) uint32 {
			// Rounded up, so that the bound holds; up to all there is.
			return uint32(min((w.weight.units()+t.unit-1)/t.unit, t.capacity/t.unit))
		}
	} else {
		options.MaximumSize = int(capacity)
		options.InitialCapacity = int(capacity)
	}
	cache, err := otter.New(options)
	if err != nil {
		return nil, err
	}
	t.cache = cache
	return t, nil
}

// Get returns the entry of key, or nil.
func (t *otterTier[V, W]) Get(key string) *dewar.Entry[V] {
	w, ok := t.cache.GetIfPresent(key)
	if !ok {
		return nil
	}
	return &w.entry
}

// Set keeps e under key and makes room for it.
func (t *otterTier[V, W]) Set(key string, e dewar.Entry[V]) {
	w := t.weigh(key, &e) // user code: before any lock
	if w.units() > t.capacity {
		t.cache.Invalidate(key)
		return
	}
	if t.closed.Load() {
		return
	}
	t.cache.Set(key, &weighed[V, W]{weight: w, entry: e})
	// While another goroutine empties otter's buffers, ours only adds to them.
	if t.weighted || int64(t.cache.EstimatedSize()) > t.capacity {
		t.cache.CleanUp()
	}
	// 1. Set finds the tier open.
	// 2. Close marks it closed and empties it.
	// 3. Set stores its entry, which nobody else would remove.
	if t.closed.Load() {
		t.cache.Invalidate(key)
		t.cache.CleanUp()
	}
}

// Delete removes the entry of key.
func (t *otterTier[V, W]) Delete(key string) { t.cache.Invalidate(key) }

// Clear removes every entry.
func (t *otterTier[V, W]) Clear() { t.cache.InvalidateAll() }

// Stats returns what the tier holds.
func (t *otterTier[V, W]) Stats() dewar.LocalStats {
	s := dewar.LocalStats{Entries: int64(t.cache.EstimatedSize()), Evicted: t.evicted.Load()}
	s.Cost = s.Entries
	if t.weighted {
		s.Cost = int64(t.cache.WeightedSize()) * t.unit
	}
	return s
}

// Close empties the tier for good.
//
//  1. Get or Set has looked at otter, and not yet at closed.
//  2. Close marks the tier closed and empties it.
//  3. Set stores, sees closed and removes again; a Get in between may answer
//     with that entry, as its Set has not returned.
func (t *otterTier[V, W]) Close() {
	t.closed.Store(true)
	t.cache.InvalidateAll()
	t.cache.CleanUp()
}
