package dewar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// write is one key of a Set, Invalidate or Expire on its way.
type write[K comparable, V any] struct {
	key   K
	str   string
	gen   uint64
	entry Entry[V] // of a Set
	err   error
}

// Set stores a value as if it had just been loaded. It wins over a load of the
// key that is under way: that load's result goes to those who wait for it and
// is stored nowhere. Where Config.TTLOf gives it no TTL, what was there is
// removed instead.
//
// The other processes of the fleet are told, and read the value in the remote
// tier from then on.
//
// The local part is done when Set returns, whatever the error; ctx bounds only
// the waiting for the remote tier. [ErrInvalidationPending]: the remote tier
// did not confirm; the value is kept locally, and the deletion of the old
// remote value is repeated until it is confirmed. [ErrUnencodable]: the value
// is kept locally only.
//
// Processes that may write the same key at the same time should Invalidate it
// instead: the last Set of a process wins there, not in the fleet.
func (c *Cache[K, V]) Set(ctx context.Context, k K, v V) error {
	return c.set(ctx, []K{k}, func(int) V { return v })
}

// SetMany is Set for several values; all are tried. The error of several is a
// *BatchError[K].
func (c *Cache[K, V]) SetMany(ctx context.Context, vs map[K]V) error {
	keys := slices.Collect(maps.Keys(vs))
	return c.set(ctx, keys, func(i int) V { return vs[keys[i]] })
}

// Invalidate removes keys, here and in the whole fleet. No read that begins
// after it returns is answered with what was there before, by this cache: a
// load that is under way stores nothing, and later readers load anew. The other
// processes hear of it within milliseconds. Call it after the origin's change
// is committed.
//
// The local part is done when Invalidate returns, whatever the error; ctx
// bounds only the waiting for the remote tier. [ErrInvalidationPending] means
// accepted, but not confirmed by the remote tier yet. With several keys all
// are tried, and the error is a *BatchError[K] in their order.
func (c *Cache[K, V]) Invalidate(ctx context.Context, keys ...K) error {
	ws, err := c.overwrite(keys, false, func(_ int, w *write[K, V]) { c.local.Delete(w.str) })
	if err != nil {
		return err
	}
	return c.finish(ctx, ws, c.unlink)
}

// InvalidateAll removes every key of the cache's name, under any Schema, here
// and in the whole fleet, as Invalidate does: nothing of what was there is
// found again, and the origin is asked anew for all that is read. Errors and
// ctx are as with Invalidate.
func (c *Cache[K, V]) InvalidateAll(ctx context.Context) error {
	if err := c.table.overwriteAll(c.remote != nil, func() {}); err != nil {
		return err
	}
	c.pins.pokeAll()
	if c.remote == nil {
		return nil
	}
	var err error
	return c.behind(ctx, func(limited context.Context) {
		defer c.wg.Done() // counted since overwriteAll
		if err = c.remote.NextEpoch(limited); err == nil {
			c.delete(limited, c.table.unbar(), true)
			return
		}
		c.journal.addAll()
		c.table.lift() // the journal's bar stands
		err = fmt.Errorf("%w: %w", ErrInvalidationPending, err)
	}, func() error { return err })
}

// Expire makes keys stale: they are loaded anew when next read, and what was
// there serves as fallback as Config.Stale says. Without IfError and
// WhileRevalidate it removes them. A load that is under way stores nothing.
// Errors and ctx are as with Invalidate.
func (c *Cache[K, V]) Expire(ctx context.Context, keys ...K) error {
	if c.rules.keep == 0 {
		return c.Invalidate(ctx, keys...)
	}
	ws, err := c.overwrite(keys, false, func(_ int, w *write[K, V]) { c.makeStale(w.str) })
	if err != nil {
		return err
	}
	return c.finish(ctx, ws, func(ctx context.Context, ws []*write[K, V]) {
		keys, errs := strs(ws), make([]error, len(ws))
		c.inChunks(len(ws), func(from, to int) {
			c.remote.Expire(ctx, keys[from:to], time.Duration(c.rules.keep), errs[from:to])
		})
		c.announce(ctx, AnnounceExpire, c.confirmed(ws, errs))
	})
}

// makeStale makes the local copy of a key stale. The key's shard is locked.
func (c *Cache[K, V]) makeStale(key string) {
	now := Clock()
	switch e := c.local.Get(key); {
	case e == nil:
	case e.Negative():
		c.local.Delete(key)
	case now < e.Fresh:
		stale := *e
		stale.Due, stale.Fresh = now, now
		c.local.Set(key, stale)
	}
}

func (c *Cache[K, V]) set(ctx context.Context, keys []K, value func(i int) V) error {
	entries := make([]Entry[V], len(keys))
	keep := make([]bool, len(keys))
	for i, k := range keys {
		v := value(i)
		if ttl := c.ttl(k, v); ttl > 0 {
			now := Clock()
			entries[i], keep[i] = newEntry(&c.rules, c.own(v), now, now, ttl), true
		}
	}
	ws, err := c.overwrite(keys, true, func(i int, w *write[K, V]) {
		if keep[i] {
			w.entry = entries[i]
			local := w.entry
			limitLocal(&c.rules, &local, Clock())
			c.local.Set(w.str, local)
			c.brought(w.str, SourceSet)
		} else {
			c.local.Delete(w.str)
		}
	})
	if err != nil {
		return err
	}
	return c.finish(ctx, ws, func(ctx context.Context, ws []*write[K, V]) {
		var fill, remove []*write[K, V]
		for i, w := range ws {
			if keep[i] {
				fill = append(fill, w)
			} else {
				remove = append(remove, w)
			}
		}
		c.unlink(ctx, append(remove, c.fill(ctx, fill)...))
	})
}

// overwrite does the local part of a write of several keys; sets says that it
// is a Set.
func (c *Cache[K, V]) overwrite(keys []K, sets bool, edit func(int, *write[K, V])) ([]*write[K, V], error) {
	ws := make([]*write[K, V], len(keys))
	for i, k := range keys { // all of Config.Key's calls before the first change: it may panic
		ws[i] = &write[K, V]{key: k, str: c.keys.str(k)}
	}
	for i, w := range ws {
		gen, err := c.table.overwrite(w.str, c.remote != nil, sets, func() { edit(i, w) })
		if err != nil {
			for _, before := range ws[:i] { // closed half-way: the remote part will not be done
				if c.remote != nil {
					c.table.endOwn(before.str, Place{})
					c.table.unmark(before.str)
				}
				c.wg.Done()
			}
			return nil, err
		}
		w.gen = gen
		c.pins.poke(w.str)
	}
	return ws, nil
}

// finish does the remote part of a write on a goroutine of its own, and waits
// for it as long as ctx lives: a caller who hangs up after the origin's commit
// must not leave the old value behind.
func (c *Cache[K, V]) finish(ctx context.Context, ws []*write[K, V], remotely func(context.Context, []*write[K, V])) error {
	if c.remote == nil || len(ws) == 0 {
		for range ws {
			c.wg.Done()
		}
		return nil
	}
	err := c.behind(ctx, func(limited context.Context) {
		defer c.wg.Add(-len(ws)) // counted, once per key, since overwrite
		remotely(limited, ws)
	}, func() error { return writeError(ws, func(w *write[K, V]) error { return w.err }) })
	if left, ok := errors.AsType[*callerLeft](err); ok {
		return writeError(ws, func(*write[K, V]) error { return left })
	}
	return err
}

// behind runs the remote part of a write on a goroutine of its own, which the
// caller has counted and which do uncounts, and waits for it and its result as
// long as ctx lives.
func (c *Cache[K, V]) behind(ctx context.Context, do func(context.Context), result func() error) error {
	done := make(chan struct{})
	go func() { // Close waits for it
		defer close(done)
		limited, cancel := context.WithTimeout(c.write, c.cfg.Flight.Timeout)
		defer cancel()
		do(limited)
	}()
	select {
	case <-done:
		return result()
	case <-ctx.Done():
		return &callerLeft{ctx.Err()}
	}
}

// callerLeft says that the caller's context ended before the remote part of a
// write did: that goes on.
type callerLeft struct{ err error }

func (e *callerLeft) Error() string   { return ErrInvalidationPending.Error() + ": " + e.err.Error() }
func (e *callerLeft) Unwrap() []error { return []error{ErrInvalidationPending, e.err} }

// writeError is the error of one write as it is, or of several in their order.
func writeError[K comparable, V any](ws []*write[K, V], of func(*write[K, V]) error) error {
	if len(ws) == 1 {
		return of(ws[0])
	}
	var batch BatchError[K]
	for _, w := range ws {
		if err := of(w); err != nil {
			batch.Errs = append(batch.Errs, KeyError[K]{w.key, err})
		}
	}
	if len(batch.Errs) == 0 {
		return nil
	}
	return &batch
}

// fill writes the values of a Set to the remote tier, and returns the writes
// whose remote copy must be deleted instead. The lease is seized and answered
// first, in a round trip of its own:
//
//	A: Set seizes the lease   B: Invalidate moves the generation, deletes
//	A: sees that it is not the newest any more: does not fill
//	or A: fills, then B deletes; or B deletes, then A's fill finds no lease
func (c *Cache[K, V]) fill(ctx context.Context, ws []*write[K, V]) (remove []*write[K, V]) {
	if len(ws) == 0 {
		return nil
	}
	keys := strs(ws)
	found := make([]Found[V], len(ws))
	c.inChunks(len(ws), func(from, to int) { c.remote.Seize(ctx, keys[from:to], found[from:to]) })
	fills := make([]Fill[V], 0, len(ws))
	filling := make([]*write[K, V], 0, len(ws))
	for i, w := range ws {
		if found[i].State != RemoteGranted || !c.table.newest(w.str, w.gen) {
			remove = append(remove, w)
			continue
		}
		fills = append(fills, Fill[V]{
			Key: w.str, Fence: found[i].Fence, Entry: w.entry, Dead: deadAt(&c.rules, &w.entry),
		})
		filling = append(filling, w)
	}
	c.inChunks(len(fills), func(from, to int) { c.fillRemote(ctx, fills[from:to]) })
	var filled []*write[K, V]
	for i, w := range filling {
		err := fills[i].Err
		switch {
		case err == nil:
			c.count.add(countFilled, 1)
			filled = append(filled, w)
			continue
		case errors.Is(err, ErrFenced):
			c.count.add(countFillsRefused, 1)
		case errors.Is(err, ErrUnencodable):
			w.err = err
			fallthrough
		default:
			c.count.add(countWritesFailed, 1)
		}
		remove = append(remove, w)
	}
	c.announce(ctx, AnnounceSet, filled)
	return remove
}

// unlink deletes the remote copies of the written keys, and tells the fleet
// once they are gone. Told before, a process could read the old copy after it
// was told.
func (c *Cache[K, V]) unlink(ctx context.Context, ws []*write[K, V]) {
	errs := make([]error, len(ws))
	c.remote.Unlink(ctx, strs(ws), errs)
	c.announce(ctx, AnnounceInvalidate, c.confirmed(ws, errs))
}

// announce tells the fleet of writes that the remote tier has confirmed, and
// takes their marks.
func (c *Cache[K, V]) announce(ctx context.Context, kind AnnouncementKind, ws []*write[K, V]) {
	if len(ws) == 0 {
		return
	}
	places, errs := make([]Place, len(ws)), make([]error, len(ws))
	c.remote.Announce(ctx, kind, strs(ws), places, errs)
	for i, w := range ws {
		if errs[i] == nil {
			c.ended(w.str, places[i])
		}
	}
	c.confirmed(ws, errs)
}

// confirmed returns the writes that have no error, and hands the others to the
// journal.
func (c *Cache[K, V]) confirmed(ws []*write[K, V], errs []error) (ok []*write[K, V]) {
	for i, w := range ws {
		if errs[i] == nil {
			ok = append(ok, w)
			continue
		}
		// The journal deletes again, so whatever others did meanwhile is
		// settled by that.
		c.table.endOwn(w.str, Place{})
		c.journal.add(w.str, true)
		w.err = cmp.Or(w.err, fmt.Errorf("%w: %w", ErrInvalidationPending, errs[i]))
	}
	return ok
}

func strs[K comparable, V any](ws []*write[K, V]) []string {
	keys := make([]string, len(ws))
	for i, w := range ws {
		keys[i] = w.str
	}
	return keys
}
