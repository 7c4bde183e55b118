package dewartest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
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
// It keeps the contract of dewar.RemoteTier: leases, fences and expiry, the
// latter to the nanosecond of dewar.Clock, so that in a testing/synctest
// bubble it follows the bubble's clock. It starts no goroutine and never
// blocks. Values are kept as they are, not copied. Wrap it in a Chaos to make
// it fail.
//
// All methods are safe for concurrent use.
type Remote[V any] struct {
	// mu guards everything below.
	mu     sync.Mutex
	items  map[itemKey]item[V]
	writes uint64 // stamps given out
	counts RemoteCounts
}

// NewRemote returns an empty server.
func NewRemote[V any]() *Remote[V] {
	return &Remote[V]{items: make(map[itemKey]item[V])}
}

var _ dewar.RemoteOpener[string] = (*Remote[string])(nil)

type itemKey struct{ name, schema, key string }

// item is one write.
type item[V any] struct {
	fence dewar.Fence
	lease bool
	entry dewar.Entry[V] // unless lease
	took  time.Duration
	dead  int64 // on dewar.Clock; gone from here on
}

// OpCount says how often an operation was called.
type OpCount struct {
	Calls int // calls, each of any number of keys
	Keys  int // keys of all calls
}

// RemoteCounts says what was asked of a Remote since it was made or last
// reset.
type RemoteCounts struct {
	Read, Lease, Seize, Fill, Release, Unlink, Expire OpCount
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

// Has reports whether a value or negative entry is there, under any schema. A
// lease is not.
func (r *Remote[V]) Has(name, key string) bool {
	_, ok := r.Entry(name, key)
	return ok
}

// Entry returns the value or negative entry that is there, under any schema.
func (r *Remote[V]) Entry(name, key string) (dewar.Entry[V], bool) {
	it, ok := r.find(name, key, false)
	return it.entry, ok
}

// Leased reports whether a lease is there, under any schema.
func (r *Remote[V]) Leased(name, key string) bool {
	_, ok := r.find(name, key, true)
	return ok
}

func (r *Remote[V]) find(name, key string, lease bool) (item[V], bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.items {
		if k.name != name || k.key != key {
			continue
		}
		if it, ok := r.aliveLocked(k); ok && it.lease == lease {
			return it, true
		}
	}
	return item[V]{}, false
}

// Len returns how many values and negative entries are there, of all names.
// Leases are not counted.
func (r *Remote[V]) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for k := range r.items {
		if it, ok := r.aliveLocked(k); ok && !it.lease {
			n++
		}
	}
	return n
}

// Drop removes whatever is there under the key of name, as an eviction does.
func (r *Remote[V]) Drop(name, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.items {
		if k.name == name && k.key == key {
			delete(r.items, k)
		}
	}
}

// Clear removes everything, as a server does that restarts empty.
func (r *Remote[V]) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.items)
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
	return &memoryTier[V]{srv: r, name: o.Name, schema: o.Schema, leaseFor: o.LeaseFor}, nil
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

// fenceLocked returns a fence that was never given out before.
func (r *Remote[V]) fenceLocked() dewar.Fence {
	r.writes++
	f := dewar.Fence{'m', 'e', 'm'}
	binary.BigEndian.PutUint64(f[12:], r.writes)
	return f
}

// memoryTier is one process's view of a Remote.
type memoryTier[V any] struct {
	srv          *Remote[V]
	name, schema string
	leaseFor     time.Duration
	closed       atomic.Bool
	refused      atomic.Uint64
	failed       atomic.Uint64
}

func (t *memoryTier[V]) key(key string) itemKey { return itemKey{t.name, t.schema, key} }

// begin counts an operation and locks the server, or returns why it fails. The
// caller unlocks.
func (t *memoryTier[V]) begin(ctx context.Context, op func(*RemoteCounts) *OpCount, keys int) error {
	if t.closed.Load() {
		return dewar.ErrClosed
	}
	if ctx.Err() != nil {
		t.failed.Add(1)
		return context.Cause(ctx)
	}
	t.srv.mu.Lock()
	c := op(&t.srv.counts)
	c.Calls++
	c.Keys += keys
	return nil
}

func (t *memoryTier[V]) Read(ctx context.Context, keys []string, found []dewar.Found[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Read }, len(keys)); err != nil {
		failFound(found[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	for i, key := range keys {
		found[i] = t.lookLocked(key)
	}
}

// lookLocked answers as Read does.
func (t *memoryTier[V]) lookLocked(key string) dewar.Found[V] {
	it, ok := t.srv.aliveLocked(t.key(key))
	switch {
	case !ok:
		return dewar.Found[V]{State: dewar.RemoteAbsent}
	case it.lease:
		return dewar.Found[V]{State: dewar.RemoteLeased, Fence: it.fence}
	default:
		return dewar.Found[V]{State: dewar.RemoteValue, Entry: it.entry, Took: it.took, Fence: it.fence}
	}
}

func (t *memoryTier[V]) Lease(ctx context.Context, keys []string, found []dewar.Found[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Lease }, len(keys)); err != nil {
		failFound(found[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	for i, key := range keys {
		if found[i] = t.lookLocked(key); found[i].State == dewar.RemoteAbsent {
			found[i] = t.grantLocked(key)
		}
	}
}

// grantLocked puts a new lease under key, whatever is there.
func (t *memoryTier[V]) grantLocked(key string) dewar.Found[V] {
	fence := t.srv.fenceLocked()
	t.srv.items[t.key(key)] = item[V]{fence: fence, lease: true, dead: after(t.leaseFor)}
	return dewar.Found[V]{State: dewar.RemoteGranted, Fence: fence}
}

func (t *memoryTier[V]) Seize(ctx context.Context, keys []string, found []dewar.Found[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Seize }, len(keys)); err != nil {
		failFound(found[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	for i, key := range keys {
		found[i] = t.grantLocked(key)
	}
}

func (t *memoryTier[V]) Fill(ctx context.Context, fills []dewar.Fill[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Fill }, len(fills)); err != nil {
		failFills(fills, err)
		return
	}
	defer t.srv.mu.Unlock()
	for i := range fills {
		f := &fills[i]
		if f.Err = t.checkLocked(f); f.Err != nil {
			continue
		}
		e := f.Entry
		e.Fresh = min(e.Fresh, f.Dead)
		if !e.Negative() {
			e.Due = e.Fresh
		}
		t.srv.items[t.key(f.Key)] = item[V]{fence: t.srv.fenceLocked(), entry: e, took: f.Took, dead: f.Dead}
	}
}

// checkLocked returns nil if what f.Fence names is still there.
func (t *memoryTier[V]) checkLocked(f *dewar.Fill[V]) error {
	it, ok := t.srv.aliveLocked(t.key(f.Key))
	if !ok || it.fence != f.Fence {
		t.refused.Add(1)
		return dewar.ErrFenced
	}
	return nil
}

func (t *memoryTier[V]) Release(ctx context.Context, fills []dewar.Fill[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Release }, len(fills)); err != nil {
		failFills(fills, err)
		return
	}
	defer t.srv.mu.Unlock()
	for i := range fills {
		if fills[i].Err = t.checkLocked(&fills[i]); fills[i].Err == nil {
			delete(t.srv.items, t.key(fills[i].Key))
		}
	}
}

func (t *memoryTier[V]) Unlink(ctx context.Context, keys []string, errs []error) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Unlink }, len(keys)); err != nil {
		failErrs(errs[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	for i, key := range keys {
		delete(t.srv.items, t.key(key))
		errs[i] = nil
	}
}

func (t *memoryTier[V]) Expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Expire }, len(keys)); err != nil {
		failErrs(errs[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	now := dewar.Clock()
	for i, key := range keys {
		errs[i] = nil
		k := t.key(key)
		it, ok := t.srv.aliveLocked(k)
		switch {
		case !ok:
		case it.lease, it.entry.Negative(), keep <= 0:
			delete(t.srv.items, k)
		default:
			// A new fence also when it was stale before: a load that began
			// earlier must not make it fresh.
			it.fence = t.srv.fenceLocked()
			it.entry.Fresh = min(it.entry.Fresh, now)
			it.entry.Due = it.entry.Fresh
			it.dead = min(it.dead, after(keep))
			t.srv.items[k] = it
		}
	}
}

func (t *memoryTier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	failFound(found[:len(keys)], dewar.ErrClosed)
}

func (t *memoryTier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	failFills(fills, dewar.ErrClosed)
}

func (t *memoryTier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	failErrs(errs[:len(keys)], nil)
}

func (t *memoryTier[V]) NextEpoch(ctx context.Context) error { return nil }

func (t *memoryTier[V]) Stats() dewar.RemoteStats {
	return dewar.RemoteStats{Refused: t.refused.Load(), Errors: t.failed.Load()}
}

// Close implements dewar.RemoteTier. The server goes on: what the tier wrote
// stays, its leases too, as when a process dies.
func (t *memoryTier[V]) Close() error {
	t.closed.Store(true)
	return nil
}

// after returns the instant d from now, d positive, or the last one there is.
// In a synctest bubble now is negative.
func after(d time.Duration) int64 {
	now := dewar.Clock()
	if at := now + int64(d); at > now {
		return at
	}
	return math.MaxInt64
}

func failFound[V any](found []dewar.Found[V], err error) {
	for i := range found {
		found[i] = dewar.Found[V]{State: dewar.RemoteFailed, Err: err}
	}
}

func failFills[V any](fills []dewar.Fill[V], err error) {
	for i := range fills {
		fills[i].Err = err
	}
}

func failErrs(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}
