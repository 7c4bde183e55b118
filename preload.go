package dewar

import (
	"context"
	"errors"
	"iter"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"
)

// preloadErrors is how many errors of single keys a Preload tells.
const preloadErrors = 10

// Preload fills the tiers ahead of traffic, as background work: at most
// Guard.MaxBackground calls of the origin at once. Keys that are fresh are
// skipped, keys that the origin does not have are no error. Keys to which
// readers leave no turn of Guard.LoadsPerSecond wait for another. It goes on past
// keys that fail, joins the first ten errors (as KeyError[K]), and ends early
// only with ctx or the cache.
func (c *Cache[K, V]) Preload(ctx context.Context, keys iter.Seq[K]) error {
	if c.closed.Load() {
		return ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(ErrClosed) })()
	if err := c.dialled.policy().forbids(); err != nil {
		return err
	}
	p := preload[K, V]{c: c, ctx: ctx}
	size, parallel := 1, loadsAtOnce
	if c.cfg.LoadMany != nil {
		size, parallel = c.cfg.Batch.MaxSize, c.cfg.Batch.Parallel
	}
	p.calls.SetLimit(parallel)
	var chunk []dueKey[K]
	for k := range keys {
		if ctx.Err() != nil {
			break
		}
		str := c.keys.str(k)
		if e := c.local.Get(str); e != nil && Clock() < e.Fresh {
			continue
		}
		if chunk = append(chunk, dueKey[K]{k, str, math.MinInt64, dueAhead}); len(chunk) >= size {
			p.load(chunk)
			chunk = nil
		}
	}
	if len(chunk) > 0 {
		p.load(chunk)
	}
	_ = p.calls.Wait() // errors are gathered key by key
	return errors.Join(append(p.errs, context.Cause(ctx))...)
}

// preload is one Preload under way.
type preload[K comparable, V any] struct {
	c     *Cache[K, V]
	ctx   context.Context
	calls errgroup.Group

	mu   sync.Mutex // guards errs
	errs []error
}

// load starts the load of a chunk, once there is room for it. Keys that lost
// their turn to readers are loaded over.
func (p *preload[K, V]) load(keys []dueKey[K]) {
	p.calls.Go(func() error {
		for len(keys) > 0 {
			keys = p.call(keys)
		}
		p.c.backfill.room(p.ctx)
		return nil
	})
}

// call waits for one load of keys, and returns those that lost their turn.
func (p *preload[K, V]) call(keys []dueKey[K]) (lost []dueKey[K]) {
	c := p.c
	s, err := c.origin.admitBackground(p.ctx)
	if err != nil {
		return nil // told once, as the context's cause
	}
	if !c.table.enter() {
		s.release()
		p.add(ErrClosed)
		return nil
	}
	started := make(chan []*flight[K, V], 1)
	go func() { // counted since enter; lives on when Preload's caller leaves
		defer c.wg.Done()
		defer s.release()
		fs := c.claimAll(keys, true)
		started <- fs
		c.loadAhead(c.lease(c.allowed(c.consult(fs))), &s)
	}()
	for _, f := range <-started {
		select {
		case <-f.waiting():
		case <-p.ctx.Done():
			return nil
		}
		switch {
		case f.out.kind != outcomeFailed || f.out.elsewhere:
		case f.out.refused && errors.Is(f.out.err, ErrOverloaded):
			lost = append(lost, dueKey[K]{f.key, f.str, math.MinInt64, dueAhead})
		default:
			p.add(KeyError[K]{f.key, f.out.err})
		}
	}
	return lost
}

func (p *preload[K, V]) add(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) < preloadErrors {
		p.errs = append(p.errs, err)
	}
}
