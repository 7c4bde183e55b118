package dewar

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Stats is a snapshot of a cache's counters since New, and of its gauges. The
// counters are read one after another, so a busy cache's snapshot is
// consistent only to within the reads under way.
type Stats struct {
	// Each read of a key counts as exactly one of these six.
	LocalHits  uint64 // fresh, from the local tier
	RemoteHits uint64 // fresh, from the remote tier
	Loaded     uint64 // brought by a load, this reader's or another's
	Stale      uint64 // a stale value
	Negative   uint64 // the origin has no such key
	Failed     uint64 // an error, ErrNotCached and a departed caller included

	StaleRemote    uint64 // of Stale: from the remote tier, the others from the local one
	NegativeRemote uint64 // of Negative: remembered by the remote tier
	NegativeOrigin uint64 // of Negative: said by the origin; the others remembered locally

	Collapsed uint64 // reads that were answered by a flight that another read had started

	Loads      uint64 // calls of the origin
	LoadedKeys uint64 // keys asked for in them
	LoadErrors uint64 // calls that answered no key and failed
	Retries    uint64 // calls that repeated one that failed

	// Loads that were refused without asking the origin.
	Overloaded     uint64 // for want of a slot, or of a turn
	BreakerRefused uint64 // by the open breaker
	DefconRefused  uint64 // at the dial's level

	Refreshed      uint64 // keys reloaded by the bucket, by Refresh or by Preload
	Adopted        uint64 // refreshes that found a newer value in the remote tier instead
	RefreshDropped uint64 // keys that found the bucket full
	Elsewhere      uint64 // refreshes and loads left to another process of the fleet

	Filled        uint64 // entries written to the remote tier
	FillsRefused  uint64 // writes refused by the fence
	WritesFailed  uint64 // writes that failed or whose outcome is unknown
	WritesDropped uint64 // writes that found the backfill queue full

	// Gauges.
	Flights              int           // flights in progress
	OldestFlight         time.Duration // for how long the oldest of them has been
	Awaiting             int           // flights that wait for another process's load
	OverdueLoads         int           // loaders still running past their timeout
	Bucket               int           // keys waiting in the bucket or being refreshed from it
	Pinned               int           // keys kept warm
	BackfillQueue        int           // writes waiting for the remote tier
	PendingInvalidations int           // keys whose remote deletion is not confirmed yet

	// What is seen of times, in seconds, and sizes; none of it on the hit path.
	LoadTime      Histogram // calls of the origin
	WaitTime      Histogram // reads that waited for a flight
	ServeAge      Histogram // ages of the values served off the hit path
	StaleAge      Histogram // ages of stale values served
	BatchSize     Histogram // keys of a call of the origin
	FillTime      Histogram // round trips that write to the remote tier
	BackfillDelay Histogram // from the end of a load until its value was written there

	Closed    bool // Close has been called
	HasRemote bool // there is a remote tier, and Remote tells of it

	Level  Level       // of the dial
	Origin OriginStats // what stands before the origin, shared or not
	Local  LocalStats  // of the local tier
	Remote RemoteStats // of the remote tier
}

// counter names one of the counters that a stripe holds.
type counter uint8

const (
	countLocalHits counter = iota
	countRemoteHits
	countLoaded
	countStaleLocal
	countStaleRemote
	countNegativeLocal
	countNegativeRemote
	countNegativeOrigin
	countFailed
	countCollapsed
	countLoads
	countLoadedKeys
	countLoadErrors
	countRetries
	countOverloaded
	countBreakerRefused
	countDefconRefused
	countRefreshed
	countAdopted
	countRefreshDropped
	countElsewhere
	countFilled
	countFillsRefused
	countWritesFailed
	countWritesDropped
	counterCount
)

// counterStripes is how many copies of the counters there are; a power of two.
const counterStripes = 32

// counters are striped by goroutine, so that cores that count at the same time
// seldom write to the same cache line.
type counters struct {
	stripes [counterStripes]counterStripe
}

type counterStripe struct {
	n [counterCount]atomic.Uint64
	_ [(256 - int(counterCount)*8%256) % 256]byte // whole lines, in pairs: prefetchers fetch two
}

func (c *counters) add(which counter, n int) {
	// The address of a local variable tells goroutines apart for the price of
	// a shift: each has a stack of its own, of at least 2 KiB.
	var here byte
	at := uintptr(unsafe.Pointer(&here)) >> 11
	stripe := (at ^ at>>5) % counterStripes
	c.stripes[stripe].n[which].Add(uint64(n))
}

func (c *counters) sum(which counter) (n uint64) {
	for i := range c.stripes {
		n += c.stripes[i].n[which].Load()
	}
	return n
}

// Stats returns a snapshot. It takes a few microseconds and blocks no reader.
func (c *Cache[K, V]) Stats() Stats {
	s := Stats{
		LocalHits:  c.count.sum(countLocalHits),
		RemoteHits: c.count.sum(countRemoteHits),
		Loaded:     c.count.sum(countLoaded),
		Failed:     c.count.sum(countFailed),

		StaleRemote:    c.count.sum(countStaleRemote),
		NegativeRemote: c.count.sum(countNegativeRemote),
		NegativeOrigin: c.count.sum(countNegativeOrigin),

		Collapsed: c.count.sum(countCollapsed),

		Loads:      c.count.sum(countLoads),
		LoadedKeys: c.count.sum(countLoadedKeys),
		LoadErrors: c.count.sum(countLoadErrors),
		Retries:    c.count.sum(countRetries),

		Overloaded:     c.count.sum(countOverloaded),
		BreakerRefused: c.count.sum(countBreakerRefused),
		DefconRefused:  c.count.sum(countDefconRefused),

		Refreshed:      c.count.sum(countRefreshed),
		Adopted:        c.count.sum(countAdopted),
		RefreshDropped: c.count.sum(countRefreshDropped),
		Elsewhere:      c.count.sum(countElsewhere),

		Filled:        c.count.sum(countFilled),
		FillsRefused:  c.count.sum(countFillsRefused),
		WritesFailed:  c.count.sum(countWritesFailed),
		WritesDropped: c.count.sum(countWritesDropped),

		Awaiting:             c.awaited.len(),
		OverdueLoads:         int(c.overdue.Load()),
		Bucket:               c.bucket.len(),
		Pinned:               c.pins.len(),
		BackfillQueue:        c.backfill.len(),
		PendingInvalidations: c.journal.len(),

		Closed:    c.closing.Load(),
		HasRemote: c.remote != nil,

		Level:  c.dialled.dial.Level(),
		Origin: c.origin.Stats(),
		Local:  c.local.Stats(),
	}
	s.Stale = s.StaleRemote + c.count.sum(countStaleLocal)
	s.Negative = s.NegativeRemote + s.NegativeOrigin + c.count.sum(countNegativeLocal)
	flights, oldest := c.table.flying()
	if s.Flights = flights; flights > 0 {
		s.OldestFlight = time.Duration(Clock() - oldest)
	}
	if c.remote != nil {
		s.Remote = c.remote.Stats()
	}
	c.seen.snapshot(&s)
	return s
}

// Gets returns how many keys were read.
func (s *Stats) Gets() uint64 {
	return s.LocalHits + s.RemoteHits + s.Loaded + s.Stale + s.Negative + s.Failed
}

// histograms are what is seen of times and sizes, all of it off the hit path.
type histograms struct {
	loadTime, waitTime, serveAge, staleAge, batchSize, fillTime, backfillDelay histogram
}

func (h *histograms) snapshot(s *Stats) {
	s.LoadTime, s.WaitTime = h.loadTime.snapshot(), h.waitTime.snapshot()
	s.ServeAge, s.StaleAge = h.serveAge.snapshot(), h.staleAge.snapshot()
	s.BatchSize, s.FillTime, s.BackfillDelay = h.batchSize.snapshot(), h.fillTime.snapshot(), h.backfillDelay.snapshot()
}

// health is how the cache's loads have gone, for the rule of its dial.
func (c *Cache[K, V]) health() health {
	h := health{loads: c.count.sum(countLoads), failed: c.count.sum(countLoadErrors)}
	// A user's breaker tells what it last said, and at Lockdown is not asked.
	if b := c.origin.breaker; b != nil && (b.own != nil || c.dialled.policy().forbids() == nil) {
		h.breaker = b.state()
	}
	return h
}
