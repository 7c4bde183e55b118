package dewar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// closePatience is how long Close waits for loaders that ignore their context
// and for writes that the remote tier does not answer.
const closePatience = 5 * time.Second

// Cache keeps the answers of an origin in up to two tiers. Open one with
// [New]. All methods are safe for concurrent use.
type Cache[K comparable, V any] struct {
	cfg    Config[K, V] // with defaults filled in
	keys   keyer[K]
	rules  rules
	local  LocalTier[V]  // noLocal when there is none
	remote RemoteTier[V] // nil when there is none
	lone   bool          // there is no local tier
	trace  *Trace
	log    *slog.Logger
	track  *track // nil: keys are not tracked

	table     *table[K, V]
	origin    *Origin
	dialled   dialled
	self      *member // of origin's and the dial's audience
	lookups   lookups[K, V]
	scratch   sync.Pool // *scratch[V]
	reads     sync.Pool // *[]read[K, V]
	lingering lingering[K, V]
	bucket    bucket[K, V]
	pins      pins[K, V]
	backfill  backfill[K, V]
	journal   journal[K, V]
	echoes    echoes[K, V]
	awaited   awaited[K, V]
	doubts    doubts

	overdue     atomic.Int64 // loaders running past their timeout
	toldLate    sparing      // of those
	toldFailed  sparing      // of failed writes
	toldAccepts sparing      // of panics in Stale.Accepts

	life  context.Context // ends with Close, cause ErrClosed: loads and waiting
	end   context.CancelCauseFunc
	write context.Context // ends when Close has run out of patience: remote writes
	quit  context.CancelFunc

	// wg counts flights and goroutines. It grows from zero only under a lock
	// under which Close has not yet said closed.
	wg      sync.WaitGroup
	closed  atomic.Bool
	closing atomic.Bool   // somebody is in Close
	gone    chan struct{} // closed when that has ended
	lost    error         // what Close returned; written before gone is closed

	count counters
	seen  histograms
}

// New opens a cache. The error, if any, tells every problem of the
// configuration at once. New succeeds also while the remote tier cannot be
// reached.
func New[K comparable, V any](cfg Config[K, V]) (*Cache[K, V], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Cache[K, V]{
		cfg:   cfg,
		keys:  newKeyer(cfg.Key),
		rules: newRules(cfg.TTL, cfg.NegativeTTL, cfg.Jitter, cfg.Warm.Ahead, cfg.Stale),
		trace: cfg.Trace,
		log:   cfg.Logger,
		gone:  make(chan struct{}),
	}
	c.rules.localTTL = int64(cfg.LocalTTL)
	if c.origin = cfg.Origin; c.origin == nil {
		c.origin = newOrigin(cfg.Name, cfg.Guard, c.rules.keep > 0 || cfg.Guard.Breaker.isSet())
	}
	c.dialled = newDialled(cfg.Defcon, cfg.Levels)
	c.self = &member{trace: cfg.Trace, log: cfg.Logger, keys: cfg.LogKeys, health: c.health, run: c.tryRun}
	if err := c.openLocal(); err != nil {
		return nil, err
	}
	c.track = newTrack(cfg.Track, c.staysStale)
	c.table = newTable[K](c)
	c.life, c.end = context.WithCancelCause(context.Background())
	c.write, c.quit = context.WithCancel(context.Background())
	c.bucket.open(c)
	c.pins.open(c)
	c.backfill.open(c)
	c.journal.open(c)
	c.awaited.c = c
	if err := c.openRemote(); err != nil { // last: it may tell of the fleet at once
		c.local.Close()
		return nil, err
	}
	c.origin.heard.join(c.self)
	c.dialled.dial.heard.join(c.self)
	cfg.logEffective(c.origin)
	return c, nil
}

func (c *Cache[K, V]) openLocal() (err error) {
	c.local, c.lone = noLocal[V]{}, true
	if c.cfg.Local != nil {
		if c.local, err = c.cfg.Local.OpenLocal(c.cfg.Name); err != nil {
			return fmt.Errorf("dewar: cache %q: local tier: %w", c.cfg.Name, err)
		}
		c.lone = false
	}
	return nil
}

func (c *Cache[K, V]) openRemote() (err error) {
	if c.cfg.Remote == nil {
		return nil
	}
	heard := &fleet[K, V]{c: c, opened: make(chan struct{})}
	c.remote, err = c.cfg.Remote.OpenRemote(RemoteOptions{
		Name: c.cfg.Name, Schema: c.cfg.Schema,
		LeaseFor: c.cfg.Flight.Lease, Logger: c.cfg.Logger, Events: heard,
	})
	close(heard.opened)
	if err != nil {
		return fmt.Errorf("dewar: cache %q: remote tier: %w", c.cfg.Name, err)
	}
	return nil
}

// Get returns the value of k: from the local tier, the remote tier, or the
// origin, in this order. Concurrent Gets and GetManys of a key share one
// flight. Its errors:
//
//   - what the loader returned, [*PanicError] or [ErrLoaderExited], unless a
//     stale value stands in (Config.Stale): then the error is nil;
//   - [ErrNotFound], also for every error for which Config.NotFound is true;
//   - ctx.Err() as soon as ctx is done; the flight goes on. A ctx past its
//     deadline gets a stale value where there is one;
//   - [ErrTimeout], [ErrOverloaded], [ErrBreakerOpen], [ErrDefcon],
//     [ErrRecursiveLoad], [ErrClosed].
//
// A fresh hit in the local tier allocates nothing and looks at no ctx.
func (c *Cache[K, V]) Get(ctx context.Context, k K, opts ...ReadOption) (V, error) {
	if len(opts) == 0 {
		str := c.keys.str(k)
		if e := c.local.Get(str); e != nil && Clock() < e.Due && (c.doubts.none() || c.trusts(str, e)) {
			c.count.add(countLocalHits, 1)
			if c.track != nil {
				c.track.touch(str)
			}
			return c.own(e.Value), nil
		}
	}
	r := c.get(ctx, k, c.needs(opts))
	return r.result.Value, r.err
}

// GetResult is Get that also tells where the value came from, how old it is
// and, when it is stale, why.
func (c *Cache[K, V]) GetResult(ctx context.Context, k K, opts ...ReadOption) (Result[V], error) {
	r := c.get(ctx, k, c.needs(opts))
	return r.aged(Clock()), r.err
}

// get is a read that missed the hit path, or has options.
func (c *Cache[K, V]) get(ctx context.Context, k K, n need) read[K, V] {
	r := read[K, V]{key: k, str: c.keys.str(k), now: Clock()}
	r.seen = c.local.Get(r.str)
	n.caller, n.chain = ctx, chainOf(ctx)
	var alone slab[K, V]
	for again := true; again; again = r.flight != nil && c.await(ctx, &r, &n) {
		if f := c.start(ctx, &r, &n, &alone); f != nil {
			c.launch(ctx, f)
		}
	}
	if n.cacheOnly && c.remote != nil && errors.Is(r.err, ErrNotCached) {
		rs := []read[K, V]{r}
		c.peek(ctx, rs, n)
		r = rs[0]
	}
	if c.closed.Load() && r.err != nil && r.err == ErrNotCached {
		r.err = ErrClosed
	}
	c.tallyGet(ctx, &r)
	return r
}

// own is the value as a caller gets it.
func (c *Cache[K, V]) own(v V) V {
	if c.cfg.Clone != nil {
		return c.cfg.Clone(v)
	}
	return v
}

// goRun runs do on a goroutine that Close waits for. The caller is itself
// counted, so the count cannot be at zero.
func (c *Cache[K, V]) goRun(do func()) {
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		do()
	}()
}

// tryRun is goRun for callers that are not counted; it runs nothing once the
// cache is closed.
func (c *Cache[K, V]) tryRun(do func()) bool {
	if !c.table.enter() {
		return false
	}
	go func() { // counted since enter
		defer c.wg.Done()
		do()
	}()
	return true
}

// Wait returns once the background writes to the remote tier that had begun
// when it was called have ended, or ctx is done. The error says how many of
// the writes since the last Wait failed or were dropped; a write refused
// because the key was written or invalidated meanwhile is none of them.
func (c *Cache[K, V]) Wait(ctx context.Context) error {
	if c.closed.Load() {
		return ErrClosed
	}
	return c.backfill.wait(ctx)
}

// Close ends the cache: waiting readers get ErrClosed, loads are cancelled,
// writes under way to the remote tier are finished, every goroutine ends, and
// the tiers that New opened are closed. It waits up to 5s for loaders that
// ignore their context and for a remote tier that does not answer; its error
// says what was lost or is still running. Closing again returns the same.
func (c *Cache[K, V]) Close() error {
	if c.closing.CompareAndSwap(false, true) {
		c.lost = c.close()
		close(c.gone)
	}
	<-c.gone
	return c.lost
}

func (c *Cache[K, V]) close() error {
	c.table.close()
	c.bucket.close()
	c.pins.close()
	c.closed.Store(true)
	c.end(ErrClosed)
	defer c.origin.heard.leave(c.self)
	defer c.dialled.dial.heard.leave(c.self)

	var errs []error
	done := make(chan struct{})
	go func() { // ends with the last loader
		c.wg.Wait()
		close(done)
	}()
	c.journal.close()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.quit()
		if n := c.overdue.Load(); n > 0 {
			errs = append(errs, fmt.Errorf("dewar: %d loads ignore their context and are still running: make the loader return when its context ends", n))
			break
		}
		<-done // what is left are remote writes, and they have just been called off
	}
	c.quit()
	errs = append(errs, c.backfill.lost(), c.journal.lost())
	c.local.Close()
	if c.remote != nil {
		errs = append(errs, c.remote.Close())
	}
	return errors.Join(errs...)
}

// noLocal stands where there is no local tier.
type noLocal[V any] struct{}

func (noLocal[V]) Get(string) *Entry[V]  { return nil }
func (noLocal[V]) Set(string, Entry[V])  {}
func (noLocal[V]) Delete(string)         {}
func (noLocal[V]) Clear()                {}
func (noLocal[V]) Stats() (s LocalStats) { return s }
func (noLocal[V]) Close()                {}
