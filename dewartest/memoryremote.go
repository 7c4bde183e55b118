package dewartest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// Remote stands in for the server of a remote tier, in memory. Every cache
// that is made with it in its Config is a process of the fleet that shares it:
//
//	srv := dewartest.NewRemote[Video]()
//	a, err := dewar.New(dewar.Config[string, Video]{Name: "videos", Remote: srv, ...})
//	b, err := dewar.New(dewar.Config[string, Video]{Name: "videos", Remote: srv, ...})
//
// It keeps the contract of dewar.RemoteTier: leases, fences, announcements,
// epochs and expiry, the latter to the nanosecond of dewar.Clock, so that in a
// testing/synctest bubble it follows the bubble's clock. No operation blocks. A
// tier whose options have Events hears announcements on a goroutine of its own,
// which its Close waits for, and moves to a new epoch when it hears of it; a
// tier without starts no goroutine and moves at once. Values are kept as they
// are, not copied. Wrap it in a Chaos to make it fail.
//
// All methods are safe for concurrent use.
type Remote[V any] struct {
	// mu guards everything below.
	mu     sync.Mutex
	items  map[itemKey]item[V]
	writes uint64 // stamps given out
	undo   []change[V]
	names  map[string]*nameState[V]
	counts RemoteCounts
}

// nameState is what the server keeps for all schemas of a name.
type nameState[V any] struct {
	epoch  uint64
	places uint64 // announcements made
	ears   []*ear[V]
}

// NewRemote returns an empty server.
func NewRemote[V any]() *Remote[V] {
	return &Remote[V]{items: make(map[itemKey]item[V]), names: make(map[string]*nameState[V])}
}

var _ dewar.RemoteOpener[string] = (*Remote[string])(nil)

type itemKey struct {
	name, schema string
	epoch        uint64
	key          string
	refresh      bool // it is the key's refresh lease
}

// item is one write.
type item[V any] struct {
	fence dewar.Fence
	lease bool
	entry dewar.Entry[V] // unless lease
	took  time.Duration
	dead  int64 // on dewar.Clock; gone from here on
}

// change is what a write or deletion has changed: what Failover restores.
type change[V any] struct {
	key    itemKey
	before item[V] // the zero fence: nothing
}

// maxUndo is how many changes are remembered at least.
const maxUndo = 1024

// OpCount says how often an operation was called.
type OpCount struct {
	Calls int // calls, each of any number of keys
	Keys  int // keys of all calls
}

// RemoteCounts says what was asked of a Remote since it was made or last
// reset.
type RemoteCounts struct {
	Read, Lease, Seize, Fill, Release, Unlink, Expire OpCount
	LeaseRefresh, Renew, Announce                     OpCount
	NextEpoch                                         OpCount // of no keys
}

// Counts returns what was asked so far, by all tiers opened.
func (r *Remote[V]) Counts() RemoteCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// ResetCounts sets the counts to zero.
func (r *Remote[V]) ResetCounts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts = RemoteCounts{}
}

// Has reports whether a value or negative entry is there, under any schema, in
// the name's epoch. A lease is not.
func (r *Remote[V]) Has(name, key string) bool {
	_, ok := r.Entry(name, key)
	return ok
}

// Entry returns the value or negative entry that is there, under any schema.
func (r *Remote[V]) Entry(name, key string) (dewar.Entry[V], bool) {
	it, ok := r.find(name, key, false, false)
	return it.entry, ok
}

// Leased reports whether a lease is there, under any schema.
func (r *Remote[V]) Leased(name, key string) bool {
	_, ok := r.find(name, key, true, false)
	return ok
}

// Refreshing reports whether a refresh lease is there, under any schema.
func (r *Remote[V]) Refreshing(name, key string) bool {
	_, ok := r.find(name, key, true, true)
	return ok
}

func (r *Remote[V]) find(name, key string, lease, refresh bool) (item[V], bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	epoch := r.nameLocked(name).epoch
	for k := range r.items {
		if k.name != name || k.key != key || k.epoch != epoch || k.refresh != refresh {
			continue
		}
		if it, ok := r.aliveLocked(k); ok && it.lease == lease {
			return it, true
		}
	}
	return item[V]{}, false
}

// Len returns how many values and negative entries are there, of all names, in
// their epochs. Leases are not counted.
func (r *Remote[V]) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for k := range r.items {
		if k.epoch != r.nameLocked(k.name).epoch {
			continue
		}
		if it, ok := r.aliveLocked(k); ok && !it.lease {
			n++
		}
	}
	return n
}

// Drop removes whatever is there under the key of name, as an eviction does. A
// refresh lease stays.
func (r *Remote[V]) Drop(name, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.items {
		if k.name == name && k.key == key && !k.refresh {
			delete(r.items, k)
		}
	}
}

// Clear removes everything, as a server does that restarts empty. The fleet is
// not told, and the epochs stay.
func (r *Remote[V]) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.items)
}

// Epoch returns the epoch of name: one more for each NextEpoch and Failover.
func (r *Remote[V]) Epoch(name string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nameLocked(name).epoch
}

// Failover makes a replica take over for name that the last lost changes of its
// keys have not reached, writes, leases and deletions alike, of which a
// thousand are remembered: what they replaced is there again. Announcements
// that were not heard yet are lost. The name moves to its next epoch; each tier
// moves, and calls Missed, when it notices, and uses the old epoch until then.
func (r *Remote[V]) Failover(name string, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.undo) - 1; i >= 0 && lost > 0; i-- {
		c := r.undo[i]
		if c.key.name != name {
			continue
		}
		if c.before.fence == (dewar.Fence{}) {
			delete(r.items, c.key)
		} else {
			r.items[c.key] = c.before
		}
		r.undo = slices.Delete(r.undo, i, i+1)
		lost--
	}
	n := r.nameLocked(name)
	n.epoch++
	for _, e := range n.ears {
		e.push(notice{failover: true, epoch: n.epoch})
	}
}

// Validate implements dewar.RemoteOpener.
func (r *Remote[V]) Validate() error {
	if r == nil || r.items == nil {
		return errors.New("dewartest: make a Remote with NewRemote")
	}
	return nil
}

// OpenRemote implements dewar.RemoteOpener. It can be called any number of
// times; tiers of the same name and schema share their keys.
func (r *Remote[V]) OpenRemote(o dewar.RemoteOptions) (dewar.RemoteTier[V], error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if o.LeaseFor <= 0 {
		return nil, fmt.Errorf("dewartest: RemoteOptions.LeaseFor is %v; it must be positive", o.LeaseFor)
	}
	t := &memoryTier[V]{srv: r, name: o.Name, schema: o.Schema, leaseFor: o.LeaseFor}
	if o.Events != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		n := r.nameLocked(o.Name)
		t.epoch = n.epoch
		t.ear = newEar(t, o.Events)
		n.ears = append(n.ears, t.ear)
		go t.ear.run() // Close waits
	}
	return t, nil
}

// nameLocked returns what the server keeps for name.
func (r *Remote[V]) nameLocked(name string) *nameState[V] {
	n := r.names[name]
	if n == nil {
		n = &nameState[V]{epoch: 1}
		r.names[name] = n
	}
	return n
}

// aliveLocked returns what is under k, and forgets it when it is dead.
func (r *Remote[V]) aliveLocked(k itemKey) (item[V], bool) {
	it, ok := r.items[k]
	if ok && dewar.Clock() >= it.dead {
		delete(r.items, k)
		return item[V]{}, false
	}
	return it, ok
}

// putLocked writes, so that Failover can undo it. The zero item is a deletion.
func (r *Remote[V]) putLocked(k itemKey, it item[V]) {
	before, there := r.aliveLocked(k)
	deletion := it.fence == (dewar.Fence{})
	if deletion && !there {
		return
	}
	if len(r.undo) == 2*maxUndo {
		r.undo = slices.Delete(r.undo, 0, maxUndo)
	}
	r.undo = append(r.undo, change[V]{k, before})
	if deletion {
		delete(r.items, k)
		return
	}
	r.items[k] = it
}

// fenceLocked returns a fence that was never given out before.
func (r *Remote[V]) fenceLocked() dewar.Fence {
	r.writes++
	f := dewar.Fence{'m', 'e', 'm'}
	binary.BigEndian.PutUint64(f[12:], r.writes)
	return f
}
