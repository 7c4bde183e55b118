package dewar

import (
	"math/rand/v2"
	"sync"
	"time"
)

// How long the poller waits between two questions: less while somebody has
// just begun to wait.
const (
	pollMinWait = 10 * time.Millisecond
	pollMaxWait = 100 * time.Millisecond
)

// awaited is the flights whose key another process is loading. One poller asks
// for all of them together, as long as there are any: the answer is the value,
// or the lease, when that is free.
type awaited[K comparable, V any] struct {
	c *Cache[K, V]

	mu      sync.Mutex // guards what follows
	flights []*flight[K, V]
	fresh   bool // some came since the last question
	running bool
}

// add makes flights wait. The caller has them in hand no longer, and is counted
// in the cache's wait group.
func (a *awaited[K, V]) add(fs []*flight[K, V]) {
	if len(fs) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flights = append(a.flights, fs...)
	a.fresh = true
	if !a.running {
		a.running = true
		a.c.goRun(a.run)
	}
}

func (a *awaited[K, V]) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.flights)
}

func (a *awaited[K, V]) run() {
	wait := pollMinWait
	for {
		a.mu.Lock()
		if a.fresh {
			wait = pollMinWait
		}
		a.fresh = false
		a.mu.Unlock()
		pause(a.c.life, wait/2+rand.N(wait/2+1))
		wait = min(wait*3/2, pollMaxWait)
		a.poll()
		a.mu.Lock()
		if len(a.flights) == 0 {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
	}
}

// poll asks once for all flights. Those that got their lease load; those still
// without an answer are back in a.flights when it returns.
func (a *awaited[K, V]) poll() {
	c := a.c
	a.mu.Lock()
	waiting := a.flights
	a.flights = nil
	a.mu.Unlock()
	var asked []*flight[K, V]
	for _, f := range waiting {
		if c.stillWaits(f) {
			asked = append(asked, f)
		}
	}
	if c.dialled.policy().forbids() != nil { // another process's value will do, its lease will not
		asked = c.allowed(c.consult(asked))
	}
	mine, waiting := c.tryLease(asked)
	a.mu.Lock()
	a.flights = append(a.flights, waiting...)
	a.mu.Unlock()
	for len(mine) > 0 { // a group is one batch: what it is nested in is the same
		var group []*flight[K, V]
		group, mine = partition(mine, func(f *flight[K, V]) bool { return f.need == mine[0].need })
		if len(group) == 1 {
			c.goRun(func() { c.loadSingle(group[0]) })
		} else {
			c.goRun(func() { c.load(group, nil) })
		}
	}
}

// stillWaits notes anew what guards against writes since the last look, before
// the next one, and settles a flight that need not wait any longer.
func (c *Cache[K, V]) stillWaits(f *flight[K, V]) bool {
	if c.life.Err() != nil {
		c.settle(f, c.failed(ErrClosed))
		return false
	}
	if Clock() >= later(f.begun, int64(c.cfg.Flight.Timeout)) {
		c.settle(f, c.failed(ErrTimeout))
		return false
	}
	s := f.shard
	s.mu.Lock()
	detached := f.detached
	f.writes, f.marked = c.table.writes.Load(), c.table.markedLocked(s, f.str)
	if f.marked {
		f.fence = Fence{}
	}
	s.mu.Unlock()
	if detached { // nothing that it would find may be stored: its waiters start over
		c.settle(f, loadedElsewhere[V]())
		return false
	}
	switch {
	case f.marked:
		f.state = RemoteForeign
	case f.state == RemoteLeased:
		f.state = RemoteAbsent
	}
	return true
}
