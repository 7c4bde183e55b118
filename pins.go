package dewar

import (
	"container/heap"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// KeepWarm pins keys: they are refreshed when they come due, without being
// read, until LetGo; a key that is not cached is loaded. The refreshes go
// through the bucket of Warm, and happen at 0.8 of the TTL where refresh-ahead
// is off. Loads that fail are tried again, also after the entry is dead.
func (c *Cache[K, V]) KeepWarm(keys ...K) {
	for _, k := range keys {
		c.pins.pin(k, c.keys.str(k))
	}
}

// LetGo unpins keys. What is cached of them stays, and ages like any other.
func (c *Cache[K, V]) LetGo(keys ...K) {
	for _, k := range keys {
		c.pins.unpin(c.keys.str(k))
	}
}

// pin is a key that is kept warm.
type pin[K comparable] struct {
	key    K
	str    string
	loaded int64 // when the load of what is known of it began, on Clock
	next   int64 // when to look at it, on Clock
	at     int   // its place in the heap
}

// pins wakes when the first of its keys comes due and puts that into the
// bucket. Its goroutine exists only while there are pins.
type pins[K comparable, V any] struct {
	c     *Cache[K, V]
	count atomic.Int64  // len(byKey), for those who only want to know whether to bother
	wake  chan struct{} // of capacity 1: the head of the heap has changed

	mu      sync.Mutex // guards what follows
	byKey   map[string]*pin[K]
	heap    pinHeap[K]
	running bool
	closed  bool
}

func (p *pins[K, V]) open(c *Cache[K, V]) {
	p.c = c
	p.wake = make(chan struct{}, 1)
	p.byKey = make(map[string]*pin[K])
}

func (p *pins[K, V]) pin(k K, str string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.byKey[str] != nil {
		return
	}
	added := &pin[K]{key: k, str: str, loaded: math.MinInt64, next: Clock()}
	p.byKey[str] = added
	heap.Push(&p.heap, added)
	p.count.Store(int64(len(p.byKey)))
	if !p.running {
		p.running = true
		p.c.wg.Add(1)
		go p.run() // Close waits for it
	}
	p.nudge()
}

func (p *pins[K, V]) unpin(str string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pinned := p.byKey[str]; pinned != nil {
		delete(p.byKey, str)
		heap.Remove(&p.heap, pinned.at)
		p.count.Store(int64(len(p.byKey)))
		p.nudge()
	}
}

// learn tells when a pinned key that was just stored was loaded and comes due.
func (p *pins[K, V]) learn(str string, loaded, due int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pinned := p.byKey[str]; pinned != nil {
		pinned.loaded, pinned.next = loaded, due
		heap.Fix(&p.heap, pinned.at)
		p.nudge()
	}
}

// poke tells that a pinned key was written or removed: look at it.
func (p *pins[K, V]) poke(str string) {
	if p.any() {
		p.learn(str, math.MinInt64, Clock())
	}
}

// pokeAll tells that every key was removed.
func (p *pins[K, V]) pokeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := Clock()
	for _, pinned := range p.heap {
		pinned.loaded, pinned.next = math.MinInt64, now
	}
	p.nudge() // all are equal: it still is a heap
}

func (p *pins[K, V]) has(str string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[str] != nil
}

func (p *pins[K, V]) any() bool { return p.count.Load() > 0 }

func (p *pins[K, V]) len() int { return int(p.count.Load()) }

func (p *pins[K, V]) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pins[K, V]) run() {
	defer p.c.wg.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next, ok := p.look()
		for _, k := range due {
			p.c.bucket.add(k)
		}
		if !ok {
			return
		}
		timer.Reset(time.Duration(next - Clock()))
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.c.life.Done():
		}
	}
}

// look returns what is due and when the next pin comes due; ok is false when
// there is none left.
func (p *pins[K, V]) look() (due []dueKey[K], next int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := Clock()
	for len(p.heap) > 0 && !p.closed {
		first := p.heap[0]
		if first.next > now {
			return due, first.next, true
		}
		isDue := false
		if first.next, isDue = p.tend(first, now); isDue {
			due = append(due, dueKey[K]{first.key, first.str, first.loaded, duePinned})
		}
		heap.Fix(&p.heap, 0)
	}
	p.running = false
	return due, 0, false
}

// tend looks at one pin whose time has come, and returns when to look again and
// whether the key is due.
func (p *pins[K, V]) tend(pinned *pin[K], now int64) (next int64, due bool) {
	if e := p.c.local.Get(pinned.str); e != nil {
		if due := pinDue(&p.c.rules, e); due > now {
			return due, false
		}
		pinned.loaded = e.Loaded
	} else if !p.c.lone {
		pinned.loaded = math.MinInt64 // evicted: whatever the remote tier has will do
	}
	if rest := p.c.table.resting(pinned.str); rest > now {
		return rest, false
	}
	// Storing the entry tells when it comes due. Should the load fail, or the
	// bucket be full, the pin is looked at again.
	return later(now, max(1, p.c.rules.retryAfter)), true
}

func (p *pins[K, V]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.nudge()
}

// pinHeap orders pins by when they are to be looked at.
type pinHeap[K comparable] []*pin[K]

func (h pinHeap[K]) Len() int           { return len(h) }
func (h pinHeap[K]) Less(i, j int) bool { return h[i].next < h[j].next }
func (h pinHeap[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *pinHeap[K]) Push(x any) {
	p := x.(*pin[K])
	p.at = len(*h)
	*h = append(*h, p)
}

func (h *pinHeap[K]) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
