package dewar

import (
	"context"
	"errors"
	"sync"
	"time"
)

// This file asks for the right to load, once per key for the whole fleet. Who
// gets it loads, and renews it for as long as that takes. All others serve
// stale if they can, or wait: see awaited.go.

// errElsewhere is why a stale value is served while another process loads.
var errElsewhere = errors.New("dewar: another process is loading the key")

// lease takes the lease of keys that the remote tier does not have, and the
// refresh lease of those that it has to be replaced. It returns the flights
// that are to load; the others are settled, or wait for who has the lease.
func (c *Cache[K, V]) lease(fs []*flight[K, V]) (mine []*flight[K, V]) {
	mine, waiting := c.tryLease(fs)
	c.awaited.add(waiting)
	return mine
}

// tryLease is lease that returns the flights that are to wait.
//
// For a refresh the lease comes first and the look after it:
//
//	A: sees the old value
//	B:                      holds the lease, loads, fills, gives the lease back
//	A: takes the lease: without another look it would load a second time
func (c *Cache[K, V]) tryLease(fs []*flight[K, V]) (mine, waiting []*flight[K, V]) {
	if c.remote == nil {
		return fs, nil
	}
	vacant, fs := partition(fs, func(f *flight[K, V]) bool { return f.state == RemoteAbsent })
	reloads, fs := partition(fs, func(f *flight[K, V]) bool { return f.state == RemoteValue && !f.need.reload && !f.need.origin })
	c.awaitWrites(vacant, anyNeed)
	c.awaitWrites(reloads, anyNeed)
	var left []*flight[K, V]
	if len(vacant) > 0 && len(reloads) > 0 {
		done := make(chan struct{})
		c.goRun(func() {
			defer close(done)
			left = c.remotely(vacant, c.remote.Lease)
		})
		defer func() { <-done }() // should the other panic
		more := c.remotely(reloads, c.remote.LeaseRefresh)
		<-done
		left = append(left, more...)
	} else if len(vacant) > 0 {
		left = c.remotely(vacant, c.remote.Lease)
	} else {
		left = c.remotely(reloads, c.remote.LeaseRefresh)
	}
	// Of those left in fs, some were answered by another's lease.
	return c.sortOut(append(fs, left...))
}

func anyNeed(*need) bool { return true }

// leaseRefresh is lease for keys that came due here: they are not looked up
// before.
func (c *Cache[K, V]) leaseRefresh(fs []*flight[K, V]) (mine []*flight[K, V]) {
	if c.remote == nil {
		return fs
	}
	c.awaitWrites(fs, anyNeed)
	asked, marked := partition(fs, func(f *flight[K, V]) bool { return !f.marked })
	mine, waiting := c.sortOut(c.remotely(asked, c.remote.LeaseRefresh))
	c.awaited.add(waiting)
	return append(marked, mine...)
}

// sortOut deals with flights by what came of asking for their leases.
func (c *Cache[K, V]) sortOut(fs []*flight[K, V]) (mine, waiting []*flight[K, V]) {
	// The value that was to be replaced may be gone by now: it takes the lease
	// of the key itself to fill it.
	gone, fs := partition(fs, func(f *flight[K, V]) bool { return f.state == RemoteAbsent && f.refresh != (Fence{}) })
	if len(gone) > 0 {
		fs = append(fs, c.remotely(gone, c.remote.Lease)...)
	}
	for _, f := range fs {
		switch n := f.need; {
		case n.reload, n.origin, f.ours(), f.waitedEnough():
			mine = append(mine, f)
		case n.background && !n.preload, c.hasFallback(f):
			c.count.add(countElsewhere, 1)
			c.settle(f, loadedElsewhere[V]())
		default:
			c.park(f)
			waiting = append(waiting, f)
		}
	}
	return mine, waiting
}

// holdersAwaited is for how many holders of a lease a flight waits, one after
// the other. More than one, since a holder may die or fail; not many, since
// values that are not to be stored would be loaded by one process of the fleet
// after the other.
const holdersAwaited = 3

// waitedEnough counts the holders that the flight has found.
func (f *flight[K, V]) waitedEnough() bool {
	if f.state == RemoteLeased && f.holder != f.seen {
		f.holder = f.seen
		f.holders++
	}
	return f.holders > holdersAwaited
}

// park notes that a flight waits for another process. A refresh lease of its
// own, for a value that is gone, it gives back.
func (c *Cache[K, V]) park(f *flight[K, V]) {
	f.shard.mu.Lock()
	f.parked = true
	refresh := f.refresh
	f.refresh = Fence{}
	f.shard.mu.Unlock()
	if refresh != (Fence{}) {
		c.backfill.add(remoteWrite[V]{release: true, fill: Fill[V]{Key: f.str, Fence: refresh, Refresh: true}})
	}
}

// ours reports whether this process is to load the key: it has the lease, or
// the remote tier cannot say who has it. In the latter case the flight will
// write nothing.
func (f *flight[K, V]) ours() bool {
	switch f.state {
	case RemoteGranted, RemoteFailed, RemoteForeign:
		return true
	case RemoteLeased:
		return false
	}
	return f.refresh != (Fence{})
}

// loadedElsewhere is the outcome of a flight that leaves the load to another
// process.
func loadedElsewhere[V any]() outcome[V] {
	return outcome[V]{kind: outcomeFailed, err: errElsewhere, fallsBack: true, unasked: true, elsewhere: true}
}

// hasFallback reports whether there is a stale value for whoever started the
// flight.
func (c *Cache[K, V]) hasFallback(f *flight[K, V]) bool {
	now, o := Clock(), f.need.readOptions
	best := c.local.Get(f.str) // as Cache.fallBack chooses
	if found := f.copy.Load(); found != nil && (best == nil || best.Loaded <= found.Loaded) {
		best = found
	}
	return canFallBack(&c.rules, best, now, o)
}

// renewals keeps the leases of flights alive while they load.
type renewals[K comparable, V any] struct {
	c  *Cache[K, V]
	fs []*flight[K, V]

	mu      sync.Mutex  // guards what follows
	timer   *time.Timer // nil: there is nothing to renew
	stopped bool
}

// keepLeases renews the leases of flights every third of their life, until it
// is stopped.
func (c *Cache[K, V]) keepLeases(fs []*flight[K, V]) *renewals[K, V] {
	r := &renewals[K, V]{c: c, fs: fs}
	if c.remote == nil || !holdsAny(fs) {
		return r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = time.AfterFunc(c.cfg.Flight.Lease/3, r.renew) // counted by enter: Close waits for it
	return r
}

func holdsAny[K comparable, V any](fs []*flight[K, V]) bool {
	for _, f := range fs {
		if f.state == RemoteGranted || f.refresh != (Fence{}) {
			return true
		}
	}
	return false
}

func (r *renewals[K, V]) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped = true; r.timer != nil {
		r.timer.Stop()
	}
}

func (r *renewals[K, V]) renew() {
	c := r.c
	if !c.table.enter() {
		return // closed: the loads are called off
	}
	defer c.wg.Done()
	var held []Fill[V]
	for _, f := range r.fs {
		f.shard.mu.Lock()
		if !f.settled && f.leased {
			held = append(held, Fill[V]{Key: f.str, Fence: f.fence})
		}
		if !f.settled && f.refresh != (Fence{}) {
			held = append(held, Fill[V]{Key: f.str, Fence: f.refresh, Refresh: true})
		}
		f.shard.mu.Unlock()
	}
	if len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(c.life, c.cfg.Flight.Lease)
	defer cancel()
	// A lease that is lost already needs nothing: its fill will be refused.
	c.inChunks(len(held), func(from, to int) { c.remote.Renew(ctx, held[from:to]) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.timer.Reset(c.cfg.Flight.Lease / 3)
	}
}
