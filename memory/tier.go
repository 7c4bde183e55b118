package memory

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/dewarcache/dewar"
)

const (
	// smallest is the capacity from which ristretto is asked. Below it the
	// window is all there is.
	smallest = 16

	// countersPerEntry sizes ristretto's sketch, 4 bytes an entry each. It is
	// told of few uses, so fewer do than the 10 it recommends.
	countersPerEntry = 4

	// mostCounters bounds the sketch, which is taken at once, where the number
	// of entries is not known before: 4 MB.
	mostCounters = 1 << 20

	// mostPending keeps ristretto's queue of 32,768 from ever being full, when
	// it would drop an item without a word.
	mostPending = 4096
)

// tier is the ristretto engine. An entry is in one of two regions: in the
// window, if its node has a ticket, or in main, if ristretto has or will soon
// have its hash. Each entry begins in the window.
//
// ristretto is told nothing of hits, overwrites and deletions. It learns of an
// entry's use when the entry is offered to it, or was to be its victim. A
// deleted entry's hash stays with ristretto until it is a victim, or the same
// key is offered again; the window has its room meanwhile.
//
// Locks: mu before a shard's mu. ristretto calls us back with none held that
// we wait for, and never under mu or a shard's.
type tier[V any, W weight] struct {
	index[V, W]
	weigh    func(key string, e *dewar.Entry[V]) W
	capacity int64
	evicted  atomic.Uint64
	pending  atomic.Int64 // offers in ristretto's queue

	ristretto *ristretto.Cache[uint64, W] // nil below the smallest capacity

	// mu guards window, ghosts, border and hand, and every call of ristretto
	// that its own goroutine does not make, against closing.
	mu     sync.Mutex
	window window
	ghosts ghosts
	border float64 // the part of the capacity that is main's, in units of cost
	hand   uint64  // the bucket where sweepLocked goes on

	closing atomic.Bool // set under mu: from then on ristretto may not be called
	closed  sync.Once
}

func openTier[V any](l limits[V]) (dewar.LocalTier[V], error) {
	if l.Cost == nil {
		weigh := func(string, *dewar.Entry[V]) one { return one{} }
		return newTier(l.capacity(), l.capacity(), weigh)
	}
	weigh := func(key string, e *dewar.Entry[V]) cost { return cost(l.costOf(key, e)) }
	return newTier(l.capacity(), min(l.capacity(), mostCounters/countersPerEntry), weigh)
}

// newTier opens a tier of that capacity, made ready for so many entries.
func newTier[V any, W weight](capacity, entries int64, weigh func(string, *dewar.Entry[V]) W) (*tier[V, W], error) {
	t := &tier[V, W]{weigh: weigh, capacity: capacity}
	t.index.init(entries)
	t.ghosts = newGhosts(entries)
	t.border = firstBorder * float64(capacity)
	if capacity < smallest {
		return t, nil
	}
	var err error
	t.ristretto, err = ristretto.NewCache(&ristretto.Config[uint64, W]{
		NumCounters:        countersPerEntry * entries,
		MaxCost:            int64(t.border),
		BufferItems:        64,
		IgnoreInternalCost: true,
		// We use none of its expiry. A tick in 68 years disturbs nobody, nor a
		// synctest bubble that sleeps.
		TtlTickerDurationInSec: 1 << 32,
		KeyToHash:              func(hash uint64) (uint64, uint64) { return hash, 0 },
		// Set passes a cost of 0, so ristretto asks for it, and that tells us
		// that the offer has left its queue.
		Cost: func(w W) int64 {
			t.pending.Add(-1)
			return w.units()
		},
		OnEvict:  func(item *ristretto.Item[W]) { t.dismissed(item.Key, false) },
		OnReject: func(item *ristretto.Item[W]) { t.dismissed(item.Key, true) },
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Get returns the entry of key, or nil. It takes no lock and allocates nothing.
func (t *tier[V, W]) Get(key string) *dewar.Entry[V] { return t.get(key) }

// Set keeps e under key and makes room for it.
func (t *tier[V, W]) Set(key string, e dewar.Entry[V]) {
	w := t.weigh(key, &e) // user code: before any lock
	if w.units() > t.capacity {
		t.remove(key)
		return
	}
	hash := t.hash(t.seed, key)
	n := &node[V, W]{key: key, weight: w, entry: e}
	how := t.put(hash, n)
	if how == refused || how == replaced && t.cost.Load() <= t.capacity {
		return
	}
	if t.crowded() {
		t.grow()
	}
	if p := t.pending.Load(); p > 0 && p >= t.patience()/4 {
		runtime.Gosched() // to ristretto's goroutine, if it waits for this very core
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing.Load() {
		return
	}
	if how == entered {
		if from := t.ghosts.take(hash); from != nowhere {
			t.moveBorderLocked(from)
			n.mark.Store(n.tag() | 1) // it came back: that is a use
		}
		// n may have been replaced or deleted since; then the seat it had is
		// its successor's, or nobody's.
		t.window.push(seat{hash, n.ticket})
	}
	t.makeRoomLocked()
}

// Delete removes the entry of key.
func (t *tier[V, W]) Delete(key string) { t.remove(key) }

// Clear removes every entry. To the window and to ristretto it is as if each
// had been deleted.
func (t *tier[V, W]) Clear() { t.clear() }

// Stats returns what the tier holds.
func (t *tier[V, W]) Stats() dewar.LocalStats {
	return dewar.LocalStats{Entries: t.entries.Load(), Cost: t.cost.Load(), Evicted: t.evicted.Load()}
}

// Close empties the tier and ends ristretto's goroutines.
//
// ristretto panics when it is called while it closes. Callers call it under
// mu and look at closing first; its own goroutine calls it from dismissed, and
// ristretto waits for that goroutine to be idle before it closes anything.
// Close waits for it too, so it holds no lock that dismissed takes.
func (t *tier[V, W]) Close() {
	t.closed.Do(func() {
		t.mu.Lock()
		t.closing.Store(true)
		t.window = window{}
		t.mu.Unlock()
		t.index.close()
		if t.ristretto != nil {
			t.ristretto.Close()
		}
	})
}
