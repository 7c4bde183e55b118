// Package memory has the in-process tiers of dewar: [Config], which decides by
// ristretto who stays, and [Otter], which decides by otter.
//
// # Usage
//
//	videos, err := dewar.New(dewar.Config[string, Video]{
//		Local: memory.Config[Video]{MaxEntries: 100_000},
//		...
//	})
//
// Both engines keep the same contract: after Set returns, Get answers that
// entry or a miss, never an older one; after Delete returns, a miss; the bound
// holds at all times, but for entries whose Set has not returned yet; keys are
// compared whole, never by their hash alone; Close may race anything.
//
// # Choosing an engine
//
// Config is the faster one to read from and takes more memory: ristretto's
// bookkeeping stands beside our own index. Otter is the smaller one. Their hit
// ratios are within a few points of each other; replay your own trace with
// bench/hitratio to see.
//
// # How Config works
//
// Our index is the truth, ristretto decides who stays. ristretto by itself
// queues a Set and may drop it, loses the second of two quick Sets, answers
// deleted values, and identifies keys by hash. So reads never reach it: they
// are answered by an index of our own (index.go), without a lock. An entry
// starts in a window, first in first out (window.go). Whoever leaves it unused
// is evicted; whoever was used is offered to ristretto, which weighs its use
// against that of its victims and tells us whom to let go (tier.go). How much
// of the capacity ristretto governs moves with the ghosts of those who were
// evicted too early (room.go).
//
// # Concurrency
//
// Every method may be called from any goroutine, also while Close runs. The
// ristretto engine has two goroutines, which Close ends and awaits; the otter
// engine has none. Both work in a testing/synctest bubble.
package memory
