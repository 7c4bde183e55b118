package dewar

import (
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

// Invalidate removes keys. No read that begins after it returns is answered
// with what was there before, by this cache: a load that is under way stores
// nothing, and later readers load anew. Call it after the origin's change is
// committed.
//
// The local part is done when Invalidate returns, whatever the error; ctx
// bounds only the waiting for the remote tier. [ErrInvalidationPending] means
// accepted, but not confirmed by the remote tier yet. With several keys all
// are tried, and the error is a *BatchError[K] in their order.
func (c *Cache[K, V]) Invalidate(ctx context.Context, keys ...K) error {
	ws, err := c.overwrite(keys, func(_ int, w *write[K, V]) { c.local.Delete(w.str) })
	if err != nil {
		return err
	}
	return c.finish(ctx, ws, c.unlink)
}

// Expire makes keys stale: they are loaded anew when next read, and what was
// there serves as fallback as Config.Stale says. Without IfError and
// WhileRevalidate it removes them. A load that is under way stores nothing.
// Errors and ctx are as with Invalidate.
func (c *Cache[K, V]) Expire(ctx context.Context, keys ...K) error {
	if c.rules.keep == 0 {
		return c.Invalidate(ctx, keys...)
	}
	ws, err := c.overwrite(keys, func(_ int, w *write[K, V]) {
		now := Clock()
		switch e := c.local.Get(w.str); {
		case e == nil:
		case e.Negative():
			c.local.Delete(w.str)
		case now < e.Fresh:
			stale := *e
			stale.Due, stale.Fresh = now, now
			c.local.Set(w.str, stale)
		}
	})
	if err != nil {
		return err
	}
	return c.finish(ctx, ws, func(ctx context.Context, ws []*write[K, V]) {
		c.confirm(ws, func(keys []string, errs []error) {
			c.remote.Expire(ctx, keys, time.Duration(c.rules.keep), errs)
		})
	})
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
	ws, err := c.overwrite(keys, func(i int, w *write[K, V]) {
		if keep[i] {
			w.entry = entries[i]
			c.local.Set(w.str, w.entry)
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

// overwrite does the local part of a write of several keys.
func (c *Cache[K, V]) overwrite(keys []K, edit func(int, *write[K, V])) ([]*write[K, V], error) {
	ws := make([]*write[K, V], len(keys))
	for i, k := range keys { // all of Config.Key's calls before the first change: it may panic
		ws[i] = &write[K, V]{key: k, str: c.keys.str(k)}
	}
	for i, w := range ws {
		gen, err := c.table.overwrite(w.str, c.remote != nil, func() { edit(i, w) })
		if err != nil {
			for _, before := range ws[:i] { // closed half-way: the remote part will not be done
				if c.remote != nil {
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
	done := make(chan struct{})
	go func() { // counted, once per key, since overwrite
		defer c.wg.Add(-len(ws))
		defer close(done)
		limited, cancel := context.WithTimeout(c.write, c.cfg.Flight.Timeout)
		defer cancel()
		remotely(limited, ws)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err := fmt.Errorf("%w: %w", ErrInvalidationPending, ctx.Err())
		return writeError(ws, func(*write[K, V]) error { return err })
	}
	return writeError(ws, func(w *write[K, V]) error { return w.err })
}

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
	c.inChunks(len(fills), func(from, to int) { c.remote.Fill(ctx, fills[from:to]) })
	for i, w := range filling {
		err := fills[i].Err
		switch {
		case err == nil:
			c.count.add(countFilled, 1)
			c.table.unmark(w.str)
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
	return remove
}

// unlink deletes the remote copies of the written keys.
func (c *Cache[K, V]) unlink(ctx context.Context, ws []*write[K, V]) {
	c.confirm(ws, func(keys []string, errs []error) { c.remote.Unlink(ctx, keys, errs) })
}

// confirm takes the marks from the writes that the remote tier confirms, and
// hands the others to the journal.
func (c *Cache[K, V]) confirm(ws []*write[K, V], do func(keys []string, errs []error)) {
	keys := strs(ws)
	errs := make([]error, len(ws))
	c.inChunks(len(ws), func(from, to int) { do(keys[from:to], errs[from:to]) })
	for i, w := range ws {
		switch {
		case errs[i] == nil:
			c.table.unmark(w.str)
		case c.journal.add(w.str):
			w.err = fmt.Errorf("%w: %w", ErrInvalidationPending, errs[i])
		default:
			c.table.unmark(w.str)
			w.err = fmt.Errorf("dewar: %d invalidations wait for the remote tier already, this one is lost: repeat it once the tier answers: %w",
				journalSize, errs[i])
		}
	}
}

func strs[K comparable, V any](ws []*write[K, V]) []string {
	keys := make([]string, len(ws))
	for i, w := range ws {
		keys[i] = w.str
	}
	return keys
}
