package dewar

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadsAtOnce is how many Load calls stand in for one LoadMany.
const loadsAtOnce = 32

// flight is one load of a key in progress, and everybody who waits for it.
type flight[K comparable, V any] struct {
	// Set by claim, never changed.
	key    K
	str    string
	need   *need     // shared with the other flights of its batch
	begun  int64     // on Clock; Flight.Timeout and SoftTimeout count from here
	local  *Entry[V] // what the local tier had
	shard  *shard[K, V]
	stripe uint8

	// Set by claim, and anew under shard.mu before another look at the remote
	// tier, by the goroutine that has the flight in hand.
	writes uint64 // Sets, Invalidates and Expires before that look
	marked bool   // the remote tier is not to be read or written

	// Used by that goroutine, before the flight settles.
	seen, holder Fence       // the lease last found there, and the last that was waited for
	holders      int         // how many were
	state        RemoteState // what the remote tier last answered; RemoteForeign where it was not asked

	// Written by that goroutine under shard.mu, so that a flight that
	// supersedes this one can take its lease over.
	leased     bool          // fence is our lease
	fence      Fence         // what the remote tier has, or our lease
	refresh    Fence         // our refresh lease
	superseded *flight[K, V] // the one to take it from; nil once settled
	lapse      int64         // when the value that fence names expires by itself, on Clock; 0: it is a lease

	// Guarded by shard.mu.
	detached bool          // written over since, or superseded: the outcome is stored nowhere
	parked   bool          // it waits for another process's load
	settled  bool          // out is written and will not change
	revoked  bool          // the origin took back what fence names: the key is marked until that is gone
	done     chan struct{} // closed when over; nil while nobody waits

	// copy is what the remote tier has and this flight is to replace: stale, or
	// due. copyFound is closed when it is set; nil where nobody waits for it.
	copy      atomic.Pointer[Entry[V]]
	copyFound chan struct{}

	out  outcome[V]  // to be read once over is true
	over atomic.Bool // set under shard.mu
}

// waiting returns a channel that is closed once the flight is over.
func (f *flight[K, V]) waiting() <-chan struct{} {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.over.Load() {
		return closedChan
	}
	if f.done == nil {
		f.done = make(chan struct{})
	}
	return f.done
}

// overLocked tells whoever waits. It is called once.
func (f *flight[K, V]) overLocked() {
	f.over.Store(true)
	if f.done != nil {
		close(f.done)
	}
}

var closedChan = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

type outcomeKind uint8

const (
	outcomeNone     outcomeKind = iota // not known yet
	outcomeLoaded                      // a value from the origin
	outcomeHit                         // a fresh value from the remote tier
	outcomeStale                       // a stale one from there, inside WhileRevalidate
	outcomeNegative                    // the origin has no such key
	outcomeKept                        // the local copy, which was to be checked and could not be
	outcomeFailed                      // an error
)

// outcome is how a flight ended.
type outcome[V any] struct {
	entry Entry[V]
	took  time.Duration // of the load behind entry
	err   error         // with outcomeFailed; with outcomeNegative: the loader's, if it had one

	kind      outcomeKind
	remote    bool // the remote tier answered, not the origin
	keep      bool // entry is to be stored; otherwise what was there is removed
	fallsBack bool // with outcomeFailed: a stale value may stand in
	unasked   bool // with outcomeFailed: the origin is resting after an earlier failure
	elsewhere bool // with outcomeFailed: another process loads; whoever cannot do with a stale value starts over
}

// tier is where the outcome came from.
func (o *outcome[V]) tier() string {
	if o.remote {
		return TierRemote
	}
	return TierOrigin
}

// lingers reports whether a settled flight still answers for its key: without
// a local tier its value can be read by others only once it is in the remote
// tier, and until then late callers must find it here, or they would load.
func (f *flight[K, V]) lingers(now int64) bool {
	return !f.settled || now < f.out.entry.Fresh
}

// fly carries claimed flights to their end, on a goroutine of its own.
func (c *Cache[K, V]) fly(fs []*flight[K, V]) {
	c.load(c.lease(c.rest(c.consult(fs))), nil)
}

// load asks the origin for flights that nothing else could answer. held is the
// slot that background flights come with; they are few enough for one call.
func (c *Cache[K, V]) load(fs []*flight[K, V], held *slot) {
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
func (c *Cache[K, V]) loadEach(fs []*flight[K, V], held *slot) {
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
func (c *Cache[K, V]) loadOne(f *flight[K, V], held *slot) {
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
func (c *Cache[K, V]) loadChunk(fs []*flight[K, V], held *slot) {
	outs := make([]outcome[V], len(fs))
	before := c.table.writes.Load()
	var extra []storable[V]
	c.ask(fs, held, func(ctx context.Context, begun int64) error {
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
			c.table.promote(s.str, s.entry, before, true)
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

// ask makes one call of the origin for fs. call runs under a slot; finish gets
// its error, or why it was not made, and settles every flight. When the flight
// runs out of time first, or the cache is closed, the flights settle with that
// at once, and the slot stays taken until the loader returns.
func (c *Cache[K, V]) ask(fs []*flight[K, V], held *slot, call func(ctx context.Context, begun int64) error, finish func(error)) {
	ctx, cancel := c.flightContext(fs)
	defer cancel()

	const waiting, running, overdue, returned = 0, 1, 2, 3
	var state atomic.Int32
	stop := context.AfterFunc(ctx, func() {
		if state.CompareAndSwap(running, overdue) {
			c.overdue.Add(1)
			c.log.Warn("dewar: a load is past its time; it keeps its slot until it returns",
				"keys", len(fs), "why", context.Cause(ctx))
		}
		for _, f := range fs {
			c.settle(f, c.failed(context.Cause(ctx)))
		}
	})
	defer stop()

	if held == nil {
		s, err := c.guard.acquire(ctx, fs[0].need.chain)
		if err != nil {
			if errors.Is(err, ErrOverloaded) {
				c.count.add(countOverloaded, 1)
			}
			finish(err)
			return
		}
		defer s.release()
	}
	// From here on the end of ctx counts the loader as overdue. If it has ended
	// already there is nobody to load for.
	if state.Store(running); ctx.Err() != nil {
		if state.Swap(returned) == overdue { // it has just been counted
			c.overdue.Add(-1)
		}
		finish(context.Cause(ctx))
		return
	}
	info := LoadInfo{Keys: len(fs), Background: fs[0].need.background}
	c.count.add(countLoads, 1)
	c.count.add(countLoadedKeys, len(fs))
	if c.trace.LoadStart != nil {
		c.trace.LoadStart(info)
	}
	begun := Clock()
	err := ErrLoaderExited // unless the call returns or panics, which the deferred function would see
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		if state.Swap(returned) == overdue {
			c.overdue.Add(-1)
		}
		if err != nil {
			c.count.add(countLoadErrors, 1)
		}
		if c.trace.LoadDone != nil {
			info.Took, info.Err = time.Duration(Clock()-begun), err
			c.trace.LoadDone(info)
		}
		finish(err)
	}()
	err = causeOf(ctx, call(ctx, begun))
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
	if errors.Is(err, ErrOverloaded) {
		return true
	}
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrRecursiveLoad) {
		return false
	}
	defer func() {
		if p := recover(); p != nil { // Accepts is the user's, and this may be nobody's goroutine
			c.log.Error("dewar: Stale.Accepts panicked; the error is not accepted", "panic", p)
		}
	}()
	return c.cfg.Stale.Accepts(err)
}
