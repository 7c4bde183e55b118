package dewar

import "time"

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

	// WriteFailed is called when a background write to the remote tier failed
	// or was dropped for want of room, on the goroutine that noticed. Fills
	// refused by the fence are no failures.
	WriteFailed func(err error)
}

// LoadInfo tells a Trace of one call of the origin.
type LoadInfo struct {
	Keys       int           // how many keys it asks for
	Repeated   bool          // the call before failed, and Guard.Retry makes it again
	Background bool          // a refresh or Preload rather than a waiting reader
	Took       time.Duration // LoadDone only
	Err        error         // LoadDone only; nil also when keys were not found
}
