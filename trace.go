package dewar

import (
	"context"
	"time"
)

// Trace has optional hooks that are called when something happens off the hit
// path. They are called synchronously, on the goroutine named at each, may be
// called concurrently, and must not block or panic. Keys are never passed.
type Trace struct {
	// LoadStart is called before each call of the origin, once it has a slot,
	// on the goroutine that makes the call.
	LoadStart func(LoadInfo)

	// LoadDone is called after each call of the origin, on the same goroutine
	// as LoadStart, also when the loader panicked or came too late.
	LoadDone func(LoadInfo)

	// Load is called before each call of the origin, after LoadStart and on the
	// same goroutine. The loader gets the context that it returns, which must
	// be derived from the one given, with a span in it, say. The function that
	// it returns, which may be nil, is called when the call has ended, as
	// LoadDone is, with the waiters that the call had.
	Load func(context.Context, LoadInfo) (context.Context, func(LoadInfo))

	// ReadDone is called when a call of Get, GetResult, GetMany or
	// GetManyResults that was not answered on the hit path alone is answered,
	// on the caller's goroutine and with its context.
	ReadDone func(context.Context, ReadInfo)

	// StaleServed is called when a reader gets a stale value, on the reader's
	// goroutine; why is nil inside Stale.WhileRevalidate.
	StaleServed func(why error)

	// RefreshDropped is called when a key that is due found the bucket full,
	// on the goroutine that found it due.
	RefreshDropped func()

	// BreakerChanged is called when the breaker of the cache's origin has
	// changed its state, on a goroutine of its own, which may use the cache;
	// for one origin in order and one at a time.
	BreakerChanged func(BreakerChange)

	// DefconTurned is called when the cache's dial was turned, on a goroutine
	// that turns it, in order and one at a time.
	DefconTurned func(Turn)

	// WriteFailed is called when background writes to the remote tier failed,
	// once for all of a round trip, and when one was dropped for want of room,
	// on the goroutine that noticed. Fills refused by the fence are no failures.
	WriteFailed func(err error)
}

// JoinTraces returns a Trace that calls the hooks of several, in their order;
// what is nil is left out. Each Load gets the context that the one before has
// returned, and what they return is called in reverse order.
func JoinTraces(traces ...*Trace) *Trace {
	all := new(Trace)
	for _, t := range traces {
		if t == nil {
			continue
		}
		all.LoadStart = joinHooks(all.LoadStart, t.LoadStart)
		all.LoadDone = joinHooks(all.LoadDone, t.LoadDone)
		all.Load = joinLoads(all.Load, t.Load)
		all.ReadDone = joinReads(all.ReadDone, t.ReadDone)
		all.StaleServed = joinHooks(all.StaleServed, t.StaleServed)
		all.RefreshDropped = joinPlain(all.RefreshDropped, t.RefreshDropped)
		all.BreakerChanged = joinHooks(all.BreakerChanged, t.BreakerChanged)
		all.DefconTurned = joinHooks(all.DefconTurned, t.DefconTurned)
		all.WriteFailed = joinHooks(all.WriteFailed, t.WriteFailed)
	}
	return all
}

func joinHooks[A any](first, second func(A)) func(A) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(a A) {
		first(a)
		second(a)
	}
}

func joinPlain(first, second func()) func() {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func() {
		first()
		second()
	}
}

func joinReads(first, second func(context.Context, ReadInfo)) func(context.Context, ReadInfo) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(ctx context.Context, info ReadInfo) {
		first(ctx, info)
		second(ctx, info)
	}
}

func joinLoads(first, second func(context.Context, LoadInfo) (context.Context, func(LoadInfo))) func(context.Context, LoadInfo) (context.Context, func(LoadInfo)) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(ctx context.Context, info LoadInfo) (context.Context, func(LoadInfo)) {
		outer, outerDone := first(ctx, info)
		if outer == nil {
			outer = ctx
		}
		inner, innerDone := second(outer, info)
		if inner == nil {
			inner = outer
		}
		return inner, joinHooks(innerDone, outerDone)
	}
}

// ReadInfo tells a Trace of one call of Get or GetMany: how many of its keys
// were answered in which way.
type ReadInfo struct {
	Cache string // Config.Name

	Keys                                  int
	Hits, Loaded, Stale, Negative, Failed int           // together Keys
	Remote                                int           // of Hits, Stale and Negative: from the remote tier
	Collapsed                             int           // of them by another call's flight
	OldestAge                             time.Duration // of the values, those of the hit path left out
	Took                                  time.Duration
	Err                                   error // that of a failed key, if any
}

// LoadInfo tells a Trace of one call of the origin.
type LoadInfo struct {
	Cache, Origin string // Config.Name; the name of NewOrigin, or Config.Name again

	Keys       int           // how many keys it asks for
	Repeated   bool          // the call before failed, and Guard.Retry makes it again
	Background bool          // a refresh or Preload rather than a waiting reader
	Took       time.Duration // LoadDone only
	Err        error         // LoadDone only; nil also when keys were not found

	// Waiters are the contexts of up to 32 readers who waited for the call
	// beside the one whose context it began with. Only where Load's function
	// is called.
	Waiters []context.Context
}
