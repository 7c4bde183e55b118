package platform

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/console"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// part reads one part of an answer from its cache.
type part interface {
	name() wire.Part

	// read sets the part in each title that it is to be had for.
	read(ctx context.Context, titles []*wire.Title) reading

	// warm loads the part for titles that have not been asked for.
	warm(ctx context.Context, ids []string) error

	stats() dewar.Stats
	watched() console.Part
	close() error
}

// cachedPart is a part whose values are of type V.
type cachedPart[V any] struct {
	part  wire.Part
	id    string // of the cache
	cache *dewar.Cache[string, V]
	ttl   time.Duration

	// patience is how long an answer waits for this part; 0: as long as it
	// takes. What comes later is there for the next.
	patience time.Duration

	key  func(id string) string        // nil: titles are the keys
	put  func(t *wire.Title, v V) bool // reports whether it did
	each bool                          // the service takes one key in a call
}

func (p *cachedPart[V]) name() wire.Part       { return p.part }
func (p *cachedPart[V]) stats() dewar.Stats    { return p.cache.Stats() }
func (p *cachedPart[V]) watched() console.Part { return p.cache }
func (p *cachedPart[V]) close() error          { return p.cache.Close() }

func (p *cachedPart[V]) read(ctx context.Context, titles []*wire.Title) reading {
	if p.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.patience)
		defer cancel()
	}
	keys := make([]string, len(titles))
	for i, t := range titles {
		keys[i] = p.keyOf(t.ID)
	}
	results, err := p.cache.GetManyResults(ctx, keys)
	r := reading{part: p.part, cache: p.id, uncached: 1}
	if p.each {
		r.uncached = len(titles)
	}
	if len(keys) == 1 {
		r.key = keys[0]
	}
	for _, result := range results {
		p.note(&r, result)
	}
	r.fail(err)
	for i, t := range titles {
		result, ok := results[keys[i]]
		switch {
		case ok && result.Status == dewar.StatusNegative:
			r.unknown = append(r.unknown, t.ID)
		case !ok || !p.put(t, result.Value):
			r.missing = append(r.missing, t.ID)
		}
	}
	return r
}

func (p *cachedPart[V]) keyOf(id string) string {
	if p.key == nil {
		return id
	}
	return p.key(id)
}

// warm also reads what it has loaded. Preload leaves keys to the loads of viewers
// who came first, and those may fail; and a copy that Redis then refuses is gone.
func (p *cachedPart[V]) warm(ctx context.Context, ids []string) error {
	var keys []string
	for _, id := range ids {
		keys = append(keys, p.keyOf(id))
	}
	// What these two are missing is in the answer of the third.
	_ = p.cache.Preload(ctx, slices.Values(keys))
	_ = p.cache.Wait(ctx)
	_, err := p.cache.GetMany(ctx, keys)
	return err
}

// note takes down one result of the cache.
func (p *cachedPart[V]) note(r *reading, result dewar.Result[V]) {
	first, ttl := r.got() == 0, p.ttl
	if result.Status == dewar.StatusNegative {
		ttl = min(ttl, negativeTTL)
	}
	left := max(0, ttl-result.Age) // a slow load is fresh for a while after that
	switch {
	case result.Status == dewar.StatusStale:
		r.stale++
		left = min(-time.Second, ttl-result.Age)
		r.because(result.Err)
	case result.Tier == dewar.TierOrigin:
		r.collapsed = result.Collapsed && (r.collapsed || r.loaded == 0)
		r.loaded++
		r.forwarded = true
		if p.each && result.Status == dewar.StatusNegative {
			r.status = http.StatusNotFound // in an answer about many keys it is just not there
		}
	default:
		r.hits++
	}
	if first || left < r.ttl {
		r.ttl = left
	}
	r.oldest = max(r.oldest, result.Age)
}

// negativeTTL is how long a cache remembers at most that there is no such key:
// the default.
const negativeTTL = 5 * time.Second

// reading is how a part of one answer was come by.
type reading struct {
	part    wire.Part
	cache   string
	key     string   // of the cache, when it was one
	missing []string // titles that it could not be had for
	unknown []string // titles that do not exist

	uncached int // how many calls of the service it would have been without a cache

	// Keys of the cache, by how they were answered.
	hits, stale, loaded, failed int

	forwarded bool          // a load was waited for
	collapsed bool          // all loads were somebody else's
	status    int           // what the service last answered that was not 200; 0: nothing
	oldest    time.Duration // age of the oldest value
	ttl       time.Duration // what is left of the shortest; below 0: stale
	detail    string        // why, when something is stale or failed
}

// fail takes down what GetManyResults says of the keys that it has no result
// for.
func (r *reading) fail(err error) {
	if err == nil {
		return
	}
	batch, ok := errors.AsType[*dewar.BatchError[string]](err)
	if !ok { // the player has left
		r.failed++
		r.because(err)
		return
	}
	for _, e := range batch.Errs {
		r.failed++
		r.because(e.Err)
	}
}

// because takes down why a load brought nothing. Refusals did not go forward.
func (r *reading) because(err error) {
	switch {
	case err == nil: // inside WhileRevalidate
		return
	case errors.Is(err, dewar.ErrDefcon):
		r.detail = "defcon"
		return
	case errors.Is(err, dewar.ErrBreakerOpen):
		r.detail = "breaker-open"
		return
	case errors.Is(err, dewar.ErrOverloaded):
		r.detail = "overloaded"
		return
	case errors.Is(err, context.DeadlineExceeded): // ErrTimeout is one too
		r.detail = "timeout"
	case errors.Is(err, context.Canceled):
		r.detail = "canceled"
	default:
		r.detail = "error"
	}
	r.forwarded = true
	if status, ok := errors.AsType[*statusError](err); ok {
		r.status = status.code
	}
}
