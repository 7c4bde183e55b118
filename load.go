package dewar

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// This file loads: it shapes what flights need into calls of Load and
// LoadMany, and what those return into outcomes.

// loadsAtOnce is how many Load calls stand in for one LoadMany.
const loadsAtOnce = 32

// load asks the origin for flights that nothing else could answer. held is the
// slot that background flights come with; they are few enough for one call.
func (c *Cache[K, V]) load(fs []*flight[K, V], held *permit) {
	if len(fs) == 0 {
		return
	}
	defer c.keepLeases(fs).stop()
	if c.cfg.LoadMany == nil {
		c.loadEach(fs, held)
		return
	}
	size := c.cfg.Batch.MaxSize
	if len(fs) <= size {
		c.loadChunk(fs, held)
		return
	}
	var g errgroup.Group
	g.SetLimit(c.cfg.Batch.Parallel)
	for len(fs) > 0 {
		chunk := fs[:min(size, len(fs))]
		fs = fs[len(chunk):]
		g.Go(func() error { c.loadChunk(chunk, held); return nil })
	}
	_ = g.Wait() // a failed chunk fails its own flights
}

// loadEach stands in for LoadMany where there is none.
func (c *Cache[K, V]) loadEach(fs []*flight[K, V], held *permit) {
	if len(fs) == 1 {
		c.loadOne(fs[0], held)
		return
	}
	var g errgroup.Group
	g.SetLimit(loadsAtOnce)
	for _, f := range fs {
		g.Go(func() error { c.loadOne(f, held); return nil })
	}
	_ = g.Wait()
}

// loadOne asks the origin for one key with Load.
func (c *Cache[K, V]) loadOne(f *flight[K, V], held *permit) {
	var out outcome[V]
	c.ask([]*flight[K, V]{f}, held, func(ctx context.Context, begun int64) error {
		v, err := c.cfg.Load(ctx, f.key)
		ended := Clock()
		switch {
		case err == nil:
			out = c.loaded(f, v, begun, ended)
		case c.cfg.NotFound(err):
			out = c.missing(begun, ended, err)
			err = nil
		}
		return err
	}, func(err error) {
		if err != nil {
			out = c.failed(err)
		}
		c.settle(f, out)
	})
}

// loadChunk asks the origin for at most Batch.MaxSize keys with LoadMany.
func (c *Cache[K, V]) loadChunk(fs []*flight[K, V], held *permit) {
	outs := make([]outcome[V], len(fs))
	before := c.table.writes.Load()
	var extra []storable[V]
	c.ask(fs, held, func(ctx context.Context, begun int64) error {
		clear(outs) // of the call that this one repeats
		keys := make([]K, len(fs))
		for i, f := range fs {
			keys[i] = f.key
		}
		m, err := c.cfg.LoadMany(ctx, keys)
		ended := Clock()
		err = causeOf(ctx, err)
		answered, got := 0, 0
		errOf := keyErrors(fs, err)
		for i, f := range fs {
			if v, ok := m[f.key]; ok {
				outs[i] = c.loaded(f, v, begun, ended)
				got++
				answered++
			} else if err := errOf(f.key); err == nil || c.cfg.NotFound(err) {
				outs[i] = c.missing(begun, ended, err)
				answered++
			} else {
				outs[i] = c.failed(err)
			}
		}
		if len(m) > got {
			extra = c.extras(fs, m, begun, ended)
		}
		if answered > 0 {
			return nil
		}
		return err
	}, func(err error) {
		if c.remote != nil {
			c.backfill.cork()
			defer c.backfill.uncork()
		}
		for i, f := range fs {
			if outs[i].kind == outcomeNone {
				outs[i] = c.failed(err)
			}
			c.settle(f, outs[i])
		}
		for _, s := range extra {
			if c.table.promote(s.str, s.entry, before, true) {
				c.brought(s.str, fs[0].source())
			}
		}
	})
}

// keyErrors turns the error of a LoadMany for fs into one for each key that
// its map does not have: nil for a key that a *BatchError does not name. One
// that names none of the keys is not about them, and fails them all: "no such
// key" would be remembered.
func keyErrors[K comparable, V any](fs []*flight[K, V], err error) func(K) error {
	all := func(K) error { return err }
	var batch *BatchError[K]
	if !errors.As(err, &batch) {
		return all
	}
	named := make(map[K]error, len(batch.Errs))
	for _, e := range batch.Errs {
		named[e.Key] = e.Err
	}
	if !slices.ContainsFunc(fs, func(f *flight[K, V]) bool { return named[f.key] != nil }) {
		return all
	}
	return func(k K) error { return named[k] }
}

// storable is an entry and the key to store it under.
type storable[V any] struct {
	str   string
	entry Entry[V]
}

// extras are the values that LoadMany returned though nobody asked for them.
func (c *Cache[K, V]) extras(fs []*flight[K, V], m map[K]V, begun, ended int64) (extra []storable[V]) {
	asked := make(map[K]struct{}, len(fs))
	for _, f := range fs {
		asked[f.key] = struct{}{}
	}
	for k, v := range m {
		if _, ok := asked[k]; ok {
			continue
		}
		if ttl := c.ttl(k, v); ttl > 0 {
			extra = append(extra, storable[V]{c.keys.str(k), newEntry(&c.rules, v, begun, ended, ttl)})
		}
	}
	return extra
}

// ttl is the TTL of a loaded or set value; 0 or less: it is not to be stored.
func (c *Cache[K, V]) ttl(k K, v V) int64 {
	if c.cfg.TTLOf != nil {
		return int64(c.cfg.TTLOf(k, v))
	}
	return c.rules.ttl
}

func (c *Cache[K, V]) loaded(f *flight[K, V], v V, begun, ended int64) outcome[V] {
	out := outcome[V]{kind: outcomeLoaded, took: time.Duration(ended - begun)}
	if ttl := c.ttl(f.key, v); ttl > 0 {
		out.entry, out.keep = newEntry(&c.rules, v, begun, ended, ttl), true
	} else {
		out.entry = Entry[V]{Value: v, Loaded: begun}
	}
	return out
}

func (c *Cache[K, V]) missing(begun, ended int64, err error) outcome[V] {
	out := outcome[V]{kind: outcomeNegative, took: time.Duration(ended - begun), err: err}
	if c.rules.negativeTTL > 0 {
		out.entry, out.keep = newNegative[V](&c.rules, begun, ended), true
	} else {
		out.entry = NegativeEntry[V](begun, begun)
	}
	return out
}

func (c *Cache[K, V]) failed(err error) outcome[V] {
	return outcome[V]{kind: outcomeFailed, err: err, fallsBack: c.fallsBack(err)}
}

// fallsBack reports whether a stale value may stand in after err.
func (c *Cache[K, V]) fallsBack(err error) (yes bool) {
	if errors.Is(err, ErrOverloaded) || errors.Is(err, ErrBreakerOpen) || errors.Is(err, ErrDefcon) {
		return true
	}
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrRecursiveLoad) {
		return false
	}
	defer func() {
		if p := recover(); p != nil { // Accepts is the user's, and this may be nobody's goroutine
			if unsaid, yes := c.toldAccepts.may(); yes {
				c.log.Error("dewar: Stale.Accepts panicked; the error is not accepted", "panic", p, "unsaid", unsaid)
			}
		}
	}()
	return c.cfg.Stale.Accepts(err)
}
