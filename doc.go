// Package dewar keeps a service fast and alive when what stands behind it is
// slow, overloaded or down. It is a typed two-tier cache: a local tier in the
// process (package memory), a remote tier shared by a fleet (package
// redistier, in folder redis), and behind them a loader.
//
// # Usage
//
// Describe a cache in a [Config], open it with [New], read with [Cache.Get] and
// [Cache.GetMany], and [Cache.Invalidate] what you have changed:
//
//	videos, err := dewar.New(dewar.Config[string, Video]{
//		Name:     "videos",
//		TTL:      30 * time.Second,
//		Stale:    dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond},
//		Local:    memory.Config[Video]{MaxEntries: 100_000},
//		Remote:   redistier.Config[Video]{Client: rdb},
//		LoadMany: catalog.Videos,
//	})
//	defer videos.Close()
//	vs, err := videos.GetMany(ctx, []string{"id-1", "id-2"})
//
// Values are shared between all readers of a process: they must not be changed,
// or [Config].Clone must copy them.
//
// # Life of an entry
//
//	load begins                due                fresh until          stale until = dead
//	   |------- fresh ----------|------ fresh ------|------ stale --------|
//	            serve            serve, and refresh   fallback or, inside
//	                             off the path         WhileRevalidate, serve and reload
//
// Age counts from when the load began. An entry is fresh for its TTL, shortened
// by a random part of [Config].Jitter. A read after about [Warm].Ahead of it
// makes the entry due: it is served, its key falls into a bucket, and the
// bucket leaks to the origin at Warm.KeysPerSecond. Past its TTL an entry is
// stale for as long as [Stale] says, and then dead. That the origin has no such
// key is remembered too, for [Config].NegativeTTL.
//
// # Concurrency
//
// All methods are safe for concurrent use. Per key there is one flight at a
// time: one look-up in the remote tier and one load, which all readers of the
// key wait for, of Get and GetMany alike. A flight runs apart from its callers;
// one that leaves gets its ctx.Err() at once and harms nobody. The loader's
// context has the values of the first caller's, the cache's lifetime, and
// Flight.Timeout. Calls of the origin pass the [Guard], which caches of
// one service share as an [Origin].
//
// What Set or Invalidate has done is never undone by a load that was under way:
// its result goes to those who wait for it and is stored in no tier.
//
// # A fleet
//
// Processes with caches of one Name on one remote tier are a fleet. A key is
// loaded by one of them at a time: the others serve stale if they can, or wait
// for the value to be there. A key that is due is reloaded by one process, and
// adopted by the others. What one writes or invalidates, the others hear of
// within milliseconds; [Cache.InvalidateAll] is for everything at once. A
// process that may have missed something compares what it keeps with the remote
// tier, entry by entry as they are read. Processes that write one key at the
// same time should Invalidate it rather than Set it.
//
// # Failure modes
//
//   - The origin fails or is slow: the last good answer inside Stale.IfError,
//     with a nil error ([Cache.GetResult] tells why); else the loader's error.
//   - The origin hangs: the flight ends at Flight.Timeout with [ErrTimeout].
//   - The origin is overloaded: [ErrOverloaded] after Guard.QueueTimeout. It
//     keeps failing: its breaker opens, [ErrBreakerOpen]. Both only where
//     there is no stale value.
//   - Somebody has turned a [Defcon] down: what each [Level] does is a
//     [Policy]; what it does not load is [ErrDefcon].
//   - A loader panics or exits its goroutine: [*PanicError], [ErrLoaderExited].
//   - Some keys of a batch fail: the map has the others, the error is a
//     [*BatchError] with one [KeyError] for each that failed.
//   - The remote tier is down, slow, or full of bytes that are not ours: reads
//     go on without it and see no error; writes that must reach it return
//     [ErrInvalidationPending] and are repeated until confirmed.
//
// # Testing
//
// Package dewartest opens caches for tests, has a remote tier in memory that
// works inside testing/synctest, and a decorator that makes it fail on command.
// Time is the standard library's: inside a synctest bubble entries age when the
// bubble's time advances.
package dewar
