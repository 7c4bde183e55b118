package dewar

import (
	"sync/atomic"
	"time"
)

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
	found    chan struct{} // closed when copy is set; nil while nobody waits for that

	joined []*need // of readers that joined, at most maxJoined; none unless Trace.Load is there

	// copy is what the remote tier has and this flight is to replace: stale, or
	// due.
	copy atomic.Pointer[Entry[V]]

	out  outcome[V]  // to be read once over is true
	over atomic.Bool // set under shard.mu
}

// maxJoined bounds the waiters that a Trace hears of.
const maxJoined = 32

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

// waitingForCopy returns a channel that is closed once there is a copy.
func (f *flight[K, V]) waitingForCopy() <-chan struct{} {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.copy.Load() != nil {
		return closedChan
	}
	if f.found == nil {
		f.found = make(chan struct{})
	}
	return f.found
}

// foundCopy sets the copy and tells whoever waits for it.
func (f *flight[K, V]) foundCopy(e *Entry[V]) {
	if f.copy.Swap(e) != nil {
		return
	}
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.found != nil {
		close(f.found)
	}
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
	refused   bool // with outcomeFailed: the guard or the dial let no load through
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
	c.load(c.lease(c.allowed(c.rest(c.consult(fs)))), nil)
}

// slab allocates the flights of a batch together: they live and die together.
type slab[K comparable, V any] struct {
	free []flight[K, V]
	want int // how many more may be asked for
}

// slabSize keeps a slab under 32 KiB, above which allocation is slower.
const slabSize = 100

func (s *slab[K, V]) next() *flight[K, V] {
	if len(s.free) == 0 {
		s.free = make([]flight[K, V], min(max(s.want, 1), slabSize))
	}
	f := &s.free[0]
	s.free = s.free[1:]
	s.want--
	return f
}
