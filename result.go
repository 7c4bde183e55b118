package dewar

import "time"

// Status says how a read was answered.
type Status uint8

const (
	StatusLoaded   Status = iota + 1 // by a load, this caller's or another's
	StatusHit                        // by a tier, fresh
	StatusStale                      // by a tier, past its TTL (or MaxAge)
	StatusNegative                   // the origin has no such key
)

// String returns "loaded", "hit", "stale" or "negative".
func (s Status) String() string {
	switch s {
	case StatusLoaded:
		return "loaded"
	case StatusHit:
		return "hit"
	case StatusStale:
		return "stale"
	case StatusNegative:
		return "negative"
	}
	return "none"
}

// Where an answer came from, in Result.Tier.
const (
	TierLocal  = "local"
	TierRemote = "remote"
	TierOrigin = "origin"
)

// Result is a value and where it came from.
type Result[V any] struct {
	Value     V
	Status    Status
	Tier      string        // TierLocal, TierRemote or TierOrigin
	Age       time.Duration // since the load that produced it began
	Collapsed bool          // it was somebody else's flight that brought it
	Err       error         // with StatusStale: why, or nil inside WhileRevalidate
}

// ReadOption changes how one read treats the cache.
type ReadOption struct {
	kind   optionKind
	maxAge time.Duration
}

type optionKind uint8

const (
	optCacheOnly optionKind = iota + 1
	optReload
	optMaxAge
	optNoStale
)

// CacheOnly never loads, joins no load and makes nothing due. What no tier may
// serve, fresh or inside its stale window, is ErrNotCached.
func CacheOnly() ReadOption { return ReadOption{kind: optCacheOnly} }

// Reload skips the tiers, loads, and stores. It supersedes a load that began
// before it. If it fails, Stale.IfError decides as usual; a fresh value counts
// as fallback too.
func Reload() ReadOption { return ReadOption{kind: optReload} }

// MaxAge treats whatever was loaded longer than d ago as stale: it is loaded
// anew, also inside WhileRevalidate, with Stale.IfError as fallback. A
// negative d counts as 0.
func MaxAge(d time.Duration) ReadOption { return ReadOption{kind: optMaxAge, maxAge: max(d, 0)} }

// NoStale returns the error rather than a stale value, and waits for the load
// whatever SoftTimeout, WhileRevalidate and RetryAfter say.
func NoStale() ReadOption { return ReadOption{kind: optNoStale} }

// readOptions is what the options of one read amount to.
type readOptions struct {
	cacheOnly, reload, noStale, hasMaxAge bool

	stale  StalePolicy // of the dial's level; 0 is StaleConfigured
	maxAge int64       // ns, with hasMaxAge
}

func gatherOptions(opts []ReadOption) (o readOptions) {
	for _, opt := range opts {
		switch opt.kind {
		case optCacheOnly:
			o.cacheOnly = true
		case optReload:
			o.reload = true
		case optNoStale:
			o.noStale = true
		case optMaxAge:
			if d := int64(opt.maxAge); !o.hasMaxAge || d < o.maxAge {
				o.hasMaxAge, o.maxAge = true, d
			}
		}
	}
	return o
}
