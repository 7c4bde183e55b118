package dewartest

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// maxAnnounced is how many keys one announcement tells of, as in Redis: more
// are several announcements.
const maxAnnounced = 64

// memoryTier is one process's view of a Remote.
type memoryTier[V any] struct {
	srv          *Remote[V]
	name, schema string
	leaseFor     time.Duration
	ear          *ear[V] // nil: nobody listens
	epoch        uint64  // with an ear: the one in use; guarded by srv.mu

	closed                                  atomic.Bool
	refused, failed, announced, heard, gaps atomic.Uint64
}

func (t *memoryTier[V]) keyLocked(key string) itemKey {
	return itemKey{name: t.name, schema: t.schema, epoch: t.epochLocked(), key: key}
}

// epochLocked returns the epoch in use.
func (t *memoryTier[V]) epochLocked() uint64 {
	if t.ear == nil {
		return t.srv.nameLocked(t.name).epoch
	}
	return t.epoch
}

// fillKeyLocked returns what is under the fence of f.
func (t *memoryTier[V]) fillKeyLocked(f *dewar.Fill[V]) itemKey {
	k := t.keyLocked(f.Key)
	k.refresh = f.Refresh
	return k
}

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
	it, ok := t.srv.aliveLocked(t.keyLocked(key))
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
	t.srv.putLocked(t.keyLocked(key), item[V]{fence: fence, lease: true, dead: after(t.leaseFor)})
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
		t.srv.putLocked(t.keyLocked(f.Key), item[V]{fence: t.srv.fenceLocked(), entry: e, took: f.Took, dead: f.Dead})
	}
}

// checkLocked returns nil if what f.Fence names is still there.
func (t *memoryTier[V]) checkLocked(f *dewar.Fill[V]) error {
	it, ok := t.srv.aliveLocked(t.fillKeyLocked(f))
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
			t.srv.putLocked(t.fillKeyLocked(&fills[i]), item[V]{})
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
		t.srv.putLocked(t.keyLocked(key), item[V]{})
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
		k := t.keyLocked(key)
		it, ok := t.srv.aliveLocked(k)
		switch {
		case !ok:
		case it.lease, it.entry.Negative(), keep <= 0:
			t.srv.putLocked(k, item[V]{})
		default:
			// A new fence also when it was stale before: a load that began
			// earlier must not make it fresh.
			it.fence = t.srv.fenceLocked()
			it.entry.Fresh = min(it.entry.Fresh, now)
			it.entry.Due = it.entry.Fresh
			it.dead = min(it.dead, after(keep))
			t.srv.putLocked(k, it)
		}
	}
}

func (t *memoryTier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.LeaseRefresh }, len(keys)); err != nil {
		failFound(found[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	for i, key := range keys {
		k := t.keyLocked(key)
		k.refresh = true
		var refresh dewar.Fence
		if _, taken := t.srv.aliveLocked(k); !taken {
			refresh = t.srv.fenceLocked()
			t.srv.putLocked(k, item[V]{fence: refresh, lease: true, dead: after(t.leaseFor)})
		}
		found[i] = t.lookLocked(key)
		found[i].Refresh = refresh
	}
}

func (t *memoryTier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Renew }, len(fills)); err != nil {
		failFills(fills, err)
		return
	}
	defer t.srv.mu.Unlock()
	for i := range fills {
		f := &fills[i]
		if f.Err = t.checkLocked(f); f.Err != nil {
			continue
		}
		k := t.fillKeyLocked(f)
		it := t.srv.items[k]
		if !it.lease { // a value's life is its own
			t.refused.Add(1)
			f.Err = dewar.ErrFenced
			continue
		}
		it.dead = after(t.leaseFor)
		t.srv.putLocked(k, it)
	}
}

func (t *memoryTier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.Announce }, len(keys)); err != nil {
		failErrs(errs[:len(keys)], err)
		return
	}
	defer t.srv.mu.Unlock()
	n := t.srv.nameLocked(t.name)
	for at := 0; at < len(keys); at += maxAnnounced {
		end := min(at+maxAnnounced, len(keys))
		n.places++
		place := dewar.Place{Time: n.places}
		for i := at; i < end; i++ {
			places[i], errs[i] = place, nil
		}
		for _, e := range n.ears {
			e.push(notice{under: t.epochLocked(), announced: dewar.Announcement{
				Kind: kind, Place: place, Keys: slices.Clone(keys[at:end]),
				Own: e.tier == t, Elsewhere: e.tier.schema != t.schema,
			}})
		}
	}
	t.announced.Add(uint64(len(keys)))
}

func (t *memoryTier[V]) NextEpoch(ctx context.Context) error {
	if err := t.begin(ctx, func(c *RemoteCounts) *OpCount { return &c.NextEpoch }, 0); err != nil {
		return err
	}
	defer t.srv.mu.Unlock()
	n := t.srv.nameLocked(t.name)
	n.epoch++
	t.epoch = n.epoch
	for _, e := range n.ears {
		if e.tier != t {
			e.push(notice{epoch: n.epoch})
		}
	}
	return nil
}

func (t *memoryTier[V]) Stats() dewar.RemoteStats {
	s := dewar.RemoteStats{
		Refused: t.refused.Load(), Errors: t.failed.Load(),
		Announced: t.announced.Load(), Heard: t.heard.Load(), Gaps: t.gaps.Load(),
	}
	if t.ear != nil {
		s.Deaf, s.SilentFor = t.ear.silence()
	}
	t.srv.mu.Lock()
	defer t.srv.mu.Unlock()
	s.Epoch = t.epochLocked()
	return s
}

// Close implements dewar.RemoteTier. The server goes on: what the tier wrote
// stays, its leases too, as when a process dies. It waits for an event that is
// being told.
func (t *memoryTier[V]) Close() error {
	t.closed.Store(true)
	if t.ear == nil {
		return nil
	}
	t.srv.mu.Lock()
	n := t.srv.nameLocked(t.name)
	n.ears = slices.DeleteFunc(n.ears, func(e *ear[V]) bool { return e == t.ear })
	t.srv.mu.Unlock()
	t.ear.close()
	return nil
}

// after returns the instant d from now, d positive, or the last one there is.
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
