package dewar

import (
	"math"
	"math/rand/v2"
	"time"
)

// This file decides by time alone: which age an entry has, and what a read
// may do with it. Nothing here locks, waits or reads a clock.

// verdict is what a read does with the entry that it found.
type verdict uint8

const (
	verdictLoad       verdict = iota // nothing to serve: load
	verdictFallback                  // load; serve the entry if that fails or takes too long
	verdictAtOnce                    // serve the stale entry at once, and load
	verdictCheck                     // fresh, but ask the remote tier first; serve it where that cannot be asked
	verdictRevalidate                // serve the stale entry at once, reload behind
	verdictStale                     // serve the stale entry (CacheOnly)
	verdictStaleOnly                 // serve the stale entry: the dial lets nothing reload it
	verdictDue                       // serve, and refresh off the path
	verdictHit                       // serve
	verdictNegative                  // the origin has no such key
)

// stale reports whether the verdict is to serve a stale entry.
func (v verdict) stale() bool {
	switch v {
	case verdictAtOnce, verdictRevalidate, verdictStale, verdictStaleOnly:
		return true
	}
	return false
}

// rules are the ages of the entries of one cache. Durations are in ns.
type rules struct {
	ttl, negativeTTL int64 // negativeTTL < 0: not remembered
	jitter           float64
	ahead            float64 // fraction of the TTL; < 0: refresh-ahead is off
	ifError          int64
	whileRevalidate  int64
	keep             int64 // how long past fresh an entry is of any use
	retryAfter       int64
	softTimeout      int64
	localTTL         int64 // 0: local copies serve as long as they are fresh
}

func newRules(ttl, negativeTTL time.Duration, jitter, ahead float64, s Stale) rules {
	return rules{
		ttl: int64(ttl), negativeTTL: int64(negativeTTL), jitter: jitter, ahead: ahead,
		ifError: int64(s.IfError), whileRevalidate: int64(s.WhileRevalidate),
		keep:       int64(max(s.IfError, s.WhileRevalidate)),
		retryAfter: int64(s.RetryAfter), softTimeout: int64(s.SoftTimeout),
	}
}

// judge says what a read with options o does at the instant now with e, which
// is nil when the tier had nothing. At an exact deadline e has left the
// earlier age.
func judge[V any](r *rules, e *Entry[V], now int64, o readOptions) verdict {
	if e == nil {
		return verdictLoad
	}
	tooOld := o.hasMaxAge && now-e.Loaded > o.maxAge
	if e.Negative() {
		if now >= e.Fresh || o.reload || tooOld {
			return verdictLoad
		}
		return verdictNegative
	}
	if !o.reload && !tooOld {
		switch {
		case now < e.Due, now < e.Fresh && o.cacheOnly:
			return verdictHit
		case now < e.Fresh && r.localTTL > 0:
			return verdictCheck // or due: the remote tier's copy will tell
		case now < e.Fresh:
			return verdictDue
		case o.noStale, o.cacheOnly:
		case o.stale > StaleConfigured && now < later(e.Fresh, r.keep):
			return dialVerdicts[o.stale]
		case now < later(e.Fresh, r.whileRevalidate):
			return verdictRevalidate
		}
	}
	if o.cacheOnly && !o.noStale && now < later(e.Fresh, r.keep) {
		if r.keep > 0 {
			return verdictStale
		}
		return verdictLoad // fresh, but older than MaxAge, and nothing stale is ever served
	}
	if canFallBack(r, e, now, o) {
		return verdictFallback
	}
	return verdictLoad
}

// dialVerdicts is what a dial turned down makes of a stale entry.
var dialVerdicts = [...]verdict{
	StaleAtOnce: verdictAtOnce, StaleFromBucket: verdictRevalidate, StaleOnly: verdictStaleOnly,
}

// canFallBack reports whether e may stand in at the instant now for a load
// that failed. An entry that is still fresh may as well: it did not do for a
// Reload or a MaxAge, but is better than the error.
func canFallBack[V any](r *rules, e *Entry[V], now int64, o readOptions) bool {
	return e != nil && !e.Negative() && !o.noStale && r.ifError > 0 && now < later(e.Fresh, r.ifError)
}

// dead reports whether e is of no use to anybody any more.
func dead[V any](r *rules, e *Entry[V], now int64) bool {
	return now >= deadAt(r, e)
}

// deadAt is the hard expiry of e, the physical TTL in the tiers.
func deadAt[V any](r *rules, e *Entry[V]) int64 {
	if e.Negative() {
		return e.Fresh
	}
	return later(e.Fresh, r.keep)
}

// newEntry is what a load that ran from begun to ended leaves behind. Its age
// counts from begun, since the value can be no newer than that; a load slower
// than the TTL leaves a quarter of the TTL after its end, or it would switch
// the cache off.
func newEntry[V any](r *rules, v V, begun, ended, ttl int64) Entry[V] {
	ttl = r.jittered(ttl)
	e := Entry[V]{Value: v, Loaded: begun, Fresh: max(later(begun, ttl), later(ended, ttl/4))}
	r.drawDue(&e.Due, begun, e.Fresh, ended-begun, -aheadSpread)
	return e
}

// limitLocal makes e, about to be stored in the local tier, one that is asked
// of the remote tier again when LocalTTL is over. With LocalTTL, Due is the
// earlier of that and of when a refresh is due.
func limitLocal[V any](r *rules, e *Entry[V], now int64) {
	switch until := later(now, r.localTTL); {
	case r.localTTL == 0:
	case e.Negative():
		e.Fresh = min(e.Fresh, until)
	case now >= e.Due: // due already, and in the bucket for it
		e.Due = min(e.Fresh, until)
	default:
		e.Due = min(e.Due, until)
	}
}

// newNegative is what remains of a load that found no such key.
func newNegative[V any](r *rules, begun, ended int64) Entry[V] {
	ttl := r.jittered(r.negativeTTL)
	return NegativeEntry[V](begun, max(later(begun, ttl), later(ended, ttl/4)))
}

// redraw gives an entry that comes from another process a due time of its own,
// in the later half of the spread: in a fleet the earliest draw decides when the
// key is reloaded, and it would be the earlier the more processes there are.
func redraw[V any](r *rules, e *Entry[V], took time.Duration) {
	if !e.Negative() {
		r.drawDue(&e.Due, e.Loaded, e.Fresh, int64(took), 0)
	}
}

// aheadSpread is how far around Ahead*TTL the due times of equal entries are
// spread, as a fraction of it, so that processes and keys do not march in step.
const aheadSpread = 0.1

// drawDue sets due to the earlier of two random instants: one around
// Ahead*TTL, between from and aheadSpread of that away, and fresh - delta*E with E exponential of mean 1, where delta is
// how long the load took, so that slow loads start earlier. The second is
// XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache
// Stampede Prevention", VLDB 2015.
func (r *rules) drawDue(due *int64, loaded, fresh, delta int64, from float64) {
	*due = fresh
	if r.ahead < 0 {
		return
	}
	span := float64(fresh - loaded)
	ahead := span * r.ahead * (1 + from + (aheadSpread-from)*rand.Float64())
	xfetch := span - float64(delta)*rand.ExpFloat64()
	if d := min(ahead, xfetch); d < span {
		*due = max(loaded+int64(d), min(loaded+delta, fresh))
	}
}

// pinDue is when a pinned entry is to be refreshed: pins are refreshed ahead
// also where reads do not cause it.
func pinDue[V any](r *rules, e *Entry[V]) int64 {
	switch {
	case e.Negative():
		return e.Fresh
	case r.ahead >= 0 && r.localTTL == 0:
		return e.Due
	}
	return e.Loaded + int64(0.8*float64(e.Fresh-e.Loaded))
}

func (r *rules) jittered(ttl int64) int64 {
	if r.jitter == 0 {
		return ttl
	}
	return max(1, ttl-int64(float64(ttl)*r.jitter*rand.Float64()))
}

// later returns t + d; what would overflow is as good as never.
func later(t, d int64) int64 {
	if sum := t + d; d < 0 || sum >= t {
		return sum
	}
	return math.MaxInt64
}
