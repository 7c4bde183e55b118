package dewar

import (
	"context"
	"time"
)

// Reads that missed the hit path are counted here once they are answered; a hit
// is one counter, where it is found.

// tally counts the reads of a GetMany, and tells the trace of them; hits is
// how many more keys of the call were answered on the hit path.
func (c *Cache[K, V]) tally(ctx context.Context, rs []read[K, V], hits int) {
	now := Clock()
	info := ReadInfo{Cache: c.cfg.Name, Keys: hits + len(rs), Hits: hits}
	for i := range rs {
		c.tallyOne(&rs[i], now, &info)
	}
	if c.trace.ReadDone != nil && len(rs) > 0 {
		info.Took = time.Duration(now - rs[0].now)
		c.trace.ReadDone(ctx, info)
	}
}

// tallyGet counts the read of a Get, and tells the trace of it.
func (c *Cache[K, V]) tallyGet(ctx context.Context, r *read[K, V]) {
	now := Clock()
	info := ReadInfo{Cache: c.cfg.Name, Keys: 1}
	c.tallyOne(r, now, &info)
	if c.trace.ReadDone != nil {
		info.Took = time.Duration(now - r.now)
		c.trace.ReadDone(ctx, info)
	}
}

func (c *Cache[K, V]) tallyOne(r *read[K, V], now int64, info *ReadInfo) {
	which := countFailed
	remote := r.result.Tier == TierRemote
	if remote {
		info.Remote++
	}
	switch r.result.Status {
	case StatusLoaded:
		which = countLoaded
		info.Loaded++
	case StatusHit:
		which = countLocalHits
		if remote {
			which = countRemoteHits
		}
		info.Hits++
	case StatusStale:
		which = countStaleLocal
		if remote {
			which = countStaleRemote
		}
		info.Stale++
		c.seen.staleAge.seeTime(time.Duration(now - r.loaded))
		if c.track != nil {
			c.track.stale(r.str, r.loaded, r.dead)
		}
		if c.trace.StaleServed != nil {
			c.trace.StaleServed(r.result.Err)
		}
	case StatusNegative:
		switch r.result.Tier {
		case TierLocal:
			which = countNegativeLocal
		case TierRemote:
			which = countNegativeRemote
		default:
			which = countNegativeOrigin
		}
		info.Negative++
	default:
		info.Failed++
		info.Err = r.err
	}
	c.count.add(which, 1)
	if r.waited {
		c.seen.waitTime.seeTime(time.Duration(now - r.now))
	}
	if r.loaded != 0 {
		age := time.Duration(now - r.loaded)
		c.seen.serveAge.seeTime(age)
		info.OldestAge = max(info.OldestAge, age)
	}
	if r.result.Collapsed {
		c.count.add(countCollapsed, 1)
		info.Collapsed++
	}
	if c.track != nil {
		c.track.touch(r.str)
	}
}
