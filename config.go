package dewar

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"time"
)

// Config describes a cache for [New]. Name, TTL, a tier and a loader are
// required; the zero value of everything else is its default. Every duration
// and number is checked: NaN is an error everywhere, a negative value is an
// error except where it is said to switch something off.
type Config[K comparable, V any] struct {
	// Name is the namespace of the keys and the label of the metrics: 1 to 64
	// of A-Z a-z 0-9 . _ -. Required.
	Name string

	// Schema is the version of V's encoding, of the same letters as Name.
	// Changing it makes values written under another Schema misses. Defaults
	// to "0".
	Schema string

	// Key turns a key into the string under which the tiers know it. It must
	// be injective: see [JoinKey]. Required unless K's kind is string or an
	// integer.
	Key func(K) string

	// TTL is how long an entry is fresh, counted from when its load began; an
	// origin that takes longer than the TTL leaves a quarter of it after the
	// load has ended. Required.
	TTL time.Duration

	// TTLOf gives each value a TTL of its own; at 0 or less the value is
	// returned but not stored, and what was there is removed. Defaults to TTL
	// for every value.
	TTLOf func(K, V) time.Duration

	// LocalTTL is how long a copy in the local tier serves before the remote
	// tier is asked again; what that still has as fresh serves on, and where it
	// cannot be asked the local copy does. It bounds how long a process that
	// hears no invalidations serves what was invalidated. Needs both tiers.
	// Defaults to 0: as long as the entry is fresh.
	LocalTTL time.Duration

	// NotFound tells which loader errors mean "no such key". Defaults to
	// errors.Is(err, ErrNotFound).
	NotFound func(error) bool

	// NegativeTTL is how long "no such key" is remembered; negative: never.
	// Defaults to the smaller of TTL and 5s.
	NegativeTTL time.Duration

	// Jitter shortens each TTL by a random fraction of up to this much, so
	// that entries loaded together do not expire together; at least 0 and
	// below 1, negative: none. Defaults to 0.05.
	Jitter float64

	Stale  Stale
	Warm   Warm
	Batch  Batch
	Flight Flight

	// Guard stands before the origin; Origin is one that several caches share
	// instead. Defaults to a guard of its own with the defaults of its fields.
	Guard  Guard
	Origin *Origin

	// Defcon is a dial that trades features for survival while the program
	// runs; several caches may share one. Levels are this cache's exceptions
	// from the dial's policies. Defaults to a dial that nobody turns.
	Defcon *Defcon
	Levels map[Level]Policy

	// Local is the in-process tier, such as memory.Config[V]. Nil: no local
	// tier; then Remote is required.
	Local LocalOpener[V]

	// Remote is the tier that a fleet of processes shares, such as
	// redistier.Config[V]. Nil: no remote tier; then Local is required.
	Remote RemoteOpener[V]

	// Load asks the origin for one key. LoadMany asks it for several, and
	// returns those it has: a key that is not in the map does not exist. When
	// it returns an error as well, the keys in the map are obtained and the
	// others failed with that error; a *BatchError[K] fails just the keys it
	// names. Keys that were not asked for fill gaps in the local tier.
	//
	// One of the two is required. With both, Get uses Load and GetMany uses
	// LoadMany. The context carries the values of the first caller's context,
	// for tracing, and ends with Flight.Timeout or Close. The returned values
	// are shared with every reader unless Clone is set, and must not be
	// changed afterwards; the map must not be either.
	Load     func(context.Context, K) (V, error)
	LoadMany func(context.Context, []K) (map[K]V, error)

	// Clone copies a value, so that each caller, and the cache in Set, gets a
	// copy of its own. Defaults to sharing the value.
	Clone func(V) V

	// Trace has optional hooks. Defaults to none.
	Trace *Trace

	// Track is of how many keys the console may tell that they are read most,
	// or served stale for longest: keys are personal data, and telling them
	// apart costs a few nanoseconds a read. At most 1000. Defaults to 0: none.
	Track int

	// ParseKey makes a key of the string that Key made of it, for operators'
	// tools ([Cache.Operate]). It is not needed where Key is not.
	ParseKey func(string) (K, error)

	// LogKeys says how keys stand in log lines. Defaults to KeysQuoted.
	LogKeys KeyLogging

	// Logger hears of what goes wrong out of the callers' sight. Defaults to
	// discarding.
	Logger *slog.Logger
}

// Stale says when an entry past its TTL may be served. The zero value never
// serves one.
type Stale struct {
	// IfError keeps an entry after its TTL for this long, to be served when
	// the origin fails or takes longer than SoftTimeout. Defaults to 0: off.
	IfError time.Duration

	// WhileRevalidate serves an entry at once for this long after its TTL,
	// and reloads it behind through the bucket of Warm. Defaults to 0: off.
	WhileRevalidate time.Duration

	// SoftTimeout is how long after the flight began a reader with a stale
	// value at hand waits for the load; needs IfError. Defaults to 0: as long
	// as the load takes.
	SoftTimeout time.Duration

	// RetryAfter is how long stale is served after a failed load without
	// asking the origin for the key again. Defaults to 1s.
	RetryAfter time.Duration

	// Accepts tells for which errors of a load the stale value stands in;
	// needs IfError. An overload and the caller's own deadline always fall
	// back; "no such key" never does, it is an answer. Defaults to every error.
	Accepts func(error) bool
}

// Warm is refresh-ahead: what reads find due falls into a bucket that leaks
// towards the origin.
type Warm struct {
	// Ahead is the fraction of the TTL after which a read makes an entry due,
	// below 1; negative: refresh-ahead is off. Defaults to 0.8.
	Ahead float64

	// KeysPerSecond is how fast the bucket drains to the origin. Defaults to
	// 0: unlimited.
	KeysPerSecond float64

	// Bucket is how many keys may wait; what does not fit is dropped and
	// counted, and falls in again with a later read. Defaults to 1024.
	Bucket int

	// Gather is how long keys gather for one LoadMany. Defaults to 5ms.
	Gather time.Duration
}

// Batch shapes what is asked for together.
type Batch struct {
	// MaxSize bounds the keys of one LoadMany call and of one round trip to
	// the remote tier. Defaults to 200.
	MaxSize int

	// Parallel is how many chunks of one GetMany may be under way at once.
	// Defaults to 4.
	Parallel int

	// Linger, above 0, gathers the loads of concurrent Gets for this long
	// into one LoadMany; needs LoadMany. Defaults to 0: no waiting.
	Linger time.Duration
}

// Flight bounds one load in progress.
type Flight struct {
	// Timeout bounds a flight as a whole: look-up in the remote tier, waiting
	// for a slot, and the load. Defaults to 10s; none is unbounded.
	Timeout time.Duration

	// Lease is how long the right to load a key for the whole fleet lives
	// unless its holder renews it, which it does for as long as it loads: what
	// the fleet waits for a process that died while loading. At least 10ms.
	// Defaults to 3s.
	Lease time.Duration
}

// Validate returns every problem of the configuration, joined, or nil.
func (cfg Config[K, V]) Validate() error {
	var p problems
	p.check(validName(cfg.Name), "Name must be 1 to 64 of A-Z a-z 0-9 . _ -, not %.80q", cfg.Name)
	p.check(cfg.Schema == "" || validName(cfg.Schema), "Schema must be empty or 1 to 64 of A-Z a-z 0-9 . _ -, not %.80q", cfg.Schema)
	p.check(cfg.Key != nil || newKeyer[K](nil).known(), "Key is required: %T is neither a string nor an integer", *new(K))
	p.check(cfg.TTL > 0, "TTL must be above 0, not %v", cfg.TTL)
	p.check(!math.IsNaN(cfg.Jitter) && cfg.Jitter < 1, "Jitter must be below 1 (negative: none), not %v", cfg.Jitter)
	p.check(cfg.Load != nil || cfg.LoadMany != nil, "Load or LoadMany is required")

	s := cfg.Stale
	p.notNegative("Stale.IfError", s.IfError)
	p.notNegative("Stale.WhileRevalidate", s.WhileRevalidate)
	p.notNegative("Stale.SoftTimeout", s.SoftTimeout)
	p.notNegative("Stale.RetryAfter", s.RetryAfter)
	p.check(s.SoftTimeout <= 0 || s.IfError > 0, "Stale.SoftTimeout needs Stale.IfError: without it there is no stale value to serve")
	p.check(s.Accepts == nil || s.IfError > 0, "Stale.Accepts needs Stale.IfError: without it there is no stale value to serve")

	w := cfg.Warm
	p.check(!math.IsNaN(w.Ahead) && w.Ahead < 1, "Warm.Ahead must be below 1 (negative: off), not %v", w.Ahead)
	p.check(w.KeysPerSecond >= 0 && !math.IsInf(w.KeysPerSecond, 0), "Warm.KeysPerSecond must be a number from 0 (unlimited) up, not %v", w.KeysPerSecond)
	p.check(w.Bucket >= 0, "Warm.Bucket must not be negative, but is %d", w.Bucket)
	p.notNegative("Warm.Gather", w.Gather)

	p.check(cfg.Batch.MaxSize >= 0, "Batch.MaxSize must not be negative, but is %d", cfg.Batch.MaxSize)
	p.check(cfg.Batch.Parallel >= 0, "Batch.Parallel must not be negative, but is %d", cfg.Batch.Parallel)
	p.notNegative("Batch.Linger", cfg.Batch.Linger)
	p.check(cfg.Batch.Linger <= 0 || cfg.LoadMany != nil, "Batch.Linger needs LoadMany: it gathers Gets into one LoadMany")
	p.notNegative("Flight.Timeout", cfg.Flight.Timeout)
	p.check(cfg.Flight.Lease == 0 || cfg.Flight.Lease >= minLease, "Flight.Lease must be at least %v, not %v", minLease, cfg.Flight.Lease)
	p.notNegative("LocalTTL", cfg.LocalTTL)
	p.check(cfg.LocalTTL <= 0 || cfg.Local != nil && cfg.Remote != nil, "LocalTTL needs Local and Remote: it says how long the one serves before the other is asked")

	p.check(cfg.Track >= 0 && cfg.Track <= maxTrack, "Track must be 0 to %d keys, not %d", maxTrack, cfg.Track)
	p.check(cfg.LogKeys <= KeysHashed, "LogKeys is no KeyLogging: %d", cfg.LogKeys)
	cfg.Guard.check(&p, "Guard.")
	if cfg.Origin != nil {
		p.check(reflect.ValueOf(cfg.Guard).IsZero(), "Guard stands before this cache's loads only, Origin before those of several: set one of them")
		p.add(cfg.Origin.problems)
	}
	checkLevels(&p, "Levels", cfg.Levels)
	if cfg.Defcon != nil {
		checkLevels(&p, "Defcon.Levels", cfg.Defcon.Levels)
	}

	p.check(cfg.Local != nil || cfg.Remote != nil, "Local or Remote is required: a cache without a tier keeps nothing")
	if cfg.Local != nil {
		p.add(cfg.Local.Validate())
	}
	if cfg.Remote != nil {
		p.add(cfg.Remote.Validate())
	}
	return p.joined("cache", cfg.Name)
}

const (
	minLease = 10 * time.Millisecond
	maxTrack = 1000
)

// withDefaults fills in what a valid configuration leaves to its defaults.
func (cfg Config[K, V]) withDefaults() Config[K, V] {
	cfg.Schema = cmp.Or(cfg.Schema, "0")
	cfg.NegativeTTL = cmp.Or(cfg.NegativeTTL, min(cfg.TTL, 5*time.Second))
	cfg.Jitter = max(0, cmp.Or(cfg.Jitter, 0.05))
	cfg.Stale.RetryAfter = cmp.Or(cfg.Stale.RetryAfter, time.Second)
	cfg.Warm.Ahead = cmp.Or(cfg.Warm.Ahead, 0.8)
	cfg.Warm.Bucket = cmp.Or(cfg.Warm.Bucket, 1024)
	cfg.Warm.Gather = cmp.Or(cfg.Warm.Gather, 5*time.Millisecond)
	cfg.Batch.MaxSize = cmp.Or(cfg.Batch.MaxSize, 200)
	cfg.Batch.Parallel = cmp.Or(cfg.Batch.Parallel, 4)
	cfg.Flight.Timeout = cmp.Or(cfg.Flight.Timeout, 10*time.Second)
	cfg.Flight.Lease = cmp.Or(cfg.Flight.Lease, 3*time.Second)
	if cfg.NotFound == nil {
		cfg.NotFound = func(err error) bool { return errors.Is(err, ErrNotFound) }
	}
	if cfg.Stale.Accepts == nil {
		cfg.Stale.Accepts = func(error) bool { return true }
	}
	if cfg.Trace == nil {
		cfg.Trace = &Trace{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("cache", cfg.Name)
	return cfg
}

// logEffective tells at Debug what the cache runs with, defaults included.
func (cfg Config[K, V]) logEffective(o *Origin) {
	cfg.Logger.Debug("dewar: cache opened",
		"schema", cfg.Schema, "ttl", cfg.TTL, "negative_ttl", cfg.NegativeTTL, "jitter", cfg.Jitter,
		"stale_if_error", cfg.Stale.IfError, "stale_while_revalidate", cfg.Stale.WhileRevalidate,
		"soft_timeout", cfg.Stale.SoftTimeout, "retry_after", cfg.Stale.RetryAfter,
		"warm_ahead", cfg.Warm.Ahead, "warm_keys_per_second", cfg.Warm.KeysPerSecond,
		"warm_bucket", cfg.Warm.Bucket, "warm_gather", cfg.Warm.Gather,
		"batch_max_size", cfg.Batch.MaxSize, "batch_parallel", cfg.Batch.Parallel, "batch_linger", cfg.Batch.Linger,
		"local_ttl", cfg.LocalTTL, "flight_timeout", cfg.Flight.Timeout, "flight_lease", cfg.Flight.Lease,
		"origin", o.name, "guard_max_concurrent", o.guard.MaxConcurrent, "guard_max_background", o.guard.MaxBackground,
		"guard_queue_timeout", o.guard.QueueTimeout, "guard_loads_per_second", o.guard.LoadsPerSecond,
		"guard_breaker", o.breaker != nil, "guard_retries", o.retries != nil, "defcon", cfg.Defcon != nil,
		"local", cfg.Local != nil, "remote", cfg.Remote != nil,
		"load", cfg.Load != nil, "load_many", cfg.LoadMany != nil)
}

// validName reports whether s may name a cache or a schema: it becomes part
// of every remote key, so nothing in it may need escaping.
func validName(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
