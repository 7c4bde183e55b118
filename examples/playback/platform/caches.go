package platform

import (
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
)

// Times are how long answers are good for. They differ by what goes stale in
// them, and by what it costs to be wrong.
type Times struct {
	Metadata time.Duration // a title's name, and when it starts and ends; changes are announced by ScheduleChanged
	Artwork  time.Duration // and recommendations
	Ads      time.Duration // short, since ads rotate

	// Stream is how long a signed URL is handed out, StreamValid how long it
	// can be played: a stale one is as good as any until then.
	Stream, StreamValid time.Duration

	// Stale is how long answers bridge an outage of what they come from.
	// Negative: nothing stale is ever served.
	Stale time.Duration

	// Pause is how long a service that fails is left alone. What it did four
	// times as long ago counts no more.
	Pause time.Duration
}

// DefaultTimes are those of a service that runs for longer than a night.
func DefaultTimes() Times {
	return Times{
		Metadata: 5 * time.Minute, Artwork: 10 * time.Minute, Ads: 10 * time.Second,
		Stream: 2 * time.Minute, StreamValid: 30 * time.Minute,
		Stale: 6 * time.Hour, Pause: 5 * time.Second,
	}
}

// What keeps metadata up to date takes so many titles with a call, in so many
// calls at once.
const (
	MetadataBatch  = 20
	MetadataAtOnce = 4
)

// origins are the guards of the three services, each within what that bears.
// What a service refuses, or fails, for one part of an answer, its other parts
// hear of: they have one breaker.
type origins struct {
	metadata, streams, ads *dewar.Origin
}

func newOrigins(t Times) origins {
	breaker := dewar.Breaker{Window: 4 * t.Pause, OpenFor: t.Pause, MinRequests: 10}
	return origins{
		metadata: dewar.NewOrigin("metadata", dewar.Guard{
			MaxConcurrent: 16, MaxBackground: MetadataAtOnce,
			LoadsPerSecond: 200, QueueTimeout: 500 * time.Millisecond, Breaker: breaker,
		}),
		streams: dewar.NewOrigin("streams", dewar.Guard{
			MaxConcurrent: 32, LoadsPerSecond: 400, QueueTimeout: time.Second, Breaker: breaker,
			Retry: dewar.Retry{Idempotent: true}, // signing twice does no harm
		}),
		ads: dewar.NewOrigin("ads", dewar.Guard{
			MaxConcurrent: 8, LoadsPerSecond: 100, QueueTimeout: 500 * time.Millisecond, Breaker: breaker,
		}),
	}
}

// What the caches are called, in Redis, in logs and in Cache-Status.
const (
	streamsCache         = "streams"
	metadataCache        = "metadata"
	adsCache             = "ads"
	artworkCache         = "artwork"
	recommendationsCache = "recommendations"
)

// openCaches opens a cache for each part of an answer, and appends the part.
func (p *Platform) openCaches() error {
	for _, open := range []func() error{p.openStreams, p.openMetadata, p.openAds, p.openArtwork, p.openRecommendations} {
		if err := open(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Platform) openStreams() (err error) {
	t := p.cfg.Times
	p.streams, err = dewar.New(dewar.Config[string, wire.Stream]{
		Name: p.cfg.Name + "-" + streamsCache,
		TTL:  t.Stream,
		// A URL that is signed for less is not kept for longer than it can be
		// played.
		TTLOf: func(_ string, s wire.Stream) time.Duration { return min(t.Stream, time.Until(s.Expires)) },
		Stale: dewar.Stale{
			IfError:     t.streamStale(), // it must die before the URL does
			SoftTimeout: softTimeout(t.streamStale(), 250*time.Millisecond),
			RetryAfter:  t.Pause,
		},
		Origin: p.origins.streams,
		Defcon: p.dial,
		Flight: p.flight(),
		Local:  memory.Config[wire.Stream]{MaxEntries: localEntries},
		Remote: remote[wire.Stream](p),
		Load:   p.legacy.stream, // the service signs one at a time
		Logger: p.cfg.Logger,
	})
	return add(p, err, &cachedPart[wire.Stream]{
		part: wire.PartStream, id: streamsCache, cache: p.streams, ttl: t.Stream, each: true,
		put: func(t *wire.Title, v wire.Stream) bool {
			if !time.Now().Before(v.Expires) {
				return false // however it came to be here, nobody can play it
			}
			t.Stream = &v
			return true
		},
	})
}

func (p *Platform) openMetadata() (err error) {
	t := p.cfg.Times
	p.metadata, err = dewar.New(dewar.Config[string, wire.Metadata]{
		Name: p.cfg.Name + "-" + metadataCache,
		TTL:  t.Metadata,
		Stale: dewar.Stale{
			WhileRevalidate: t.stale(), // nobody waits for a name that is known,
			IfError:         t.stale(), // nor loses one that Redis has lost
			RetryAfter:      t.Pause,
		},
		// Also when the whole schedule changes at once, the service hears of it
		// at this rate.
		Warm:     dewar.Warm{KeysPerSecond: p.cfg.RefreshPerSecond},
		Batch:    dewar.Batch{MaxSize: MetadataBatch},
		Origin:   p.origins.metadata,
		Defcon:   p.dial,
		Flight:   p.flight(),
		Local:    memory.Config[wire.Metadata]{MaxEntries: localEntries},
		Remote:   remote[wire.Metadata](p),
		LoadMany: many[wire.Metadata](p.legacy, "/metadata", "ids"),
		Logger:   p.cfg.Logger,
	})
	return add(p, err, &cachedPart[wire.Metadata]{
		part: wire.PartMetadata, id: metadataCache, cache: p.metadata, ttl: t.Metadata,
		put: func(t *wire.Title, v wire.Metadata) bool { t.Metadata = &v; return true },
	})
}

func (p *Platform) openAds() (err error) {
	t := p.cfg.Times
	p.ads, err = dewar.New(dewar.Config[string, []wire.Ad]{
		Name: p.cfg.Name + "-" + adsCache,
		TTL:  t.Ads,
		Stale: dewar.Stale{
			IfError:     t.stale(), // an ad seen too often is better than none
			SoftTimeout: softTimeout(t.stale(), 100*time.Millisecond),
			RetryAfter:  t.Pause,
		},
		Origin: p.origins.ads,
		Defcon: p.dial,
		Flight: p.flight(),
		// The dial takes everything else before it takes the ads, which pay for
		// the evening: down to Protect they are loaded as if it were Normal, or
		// nearly so. At Lockdown nothing is asked for them either.
		Levels: map[dewar.Level]dewar.Policy{
			dewar.Elevated: {Ahead: dewar.AheadAll, Stale: dewar.StaleConfigured},
			dewar.Degraded: {Ahead: dewar.AheadAll, Stale: dewar.StaleAtOnce},
			dewar.Protect:  {Stale: dewar.StaleFromBucket, Miss: dewar.MissLoads},
		},
		Local:    memory.Config[[]wire.Ad]{MaxEntries: localEntries},
		Remote:   remote[[]wire.Ad](p),
		LoadMany: many[[]wire.Ad](p.legacy, "/ads", "pods"),
		Logger:   p.cfg.Logger,
	})
	return add(p, err, &cachedPart[[]wire.Ad]{
		part: wire.PartAds, id: adsCache, cache: p.ads, ttl: t.Ads, patience: time.Second, key: wire.PodOf,
		put: func(t *wire.Title, v []wire.Ad) bool { t.Ads = v; return true },
	})
}

func (p *Platform) openArtwork() (err error) {
	p.artwork, err = openOptional[wire.Artwork](p, artworkCache)
	return add(p, err, optionalPart(p, wire.PartArtwork, artworkCache, p.artwork,
		func(t *wire.Title, v wire.Artwork) bool { t.Artwork = &v; return true }))
}

func (p *Platform) openRecommendations() (err error) {
	p.recommendations, err = openOptional[[]string](p, recommendationsCache)
	return add(p, err, optionalPart(p, wire.PartRecommendations, recommendationsCache, p.recommendations,
		func(t *wire.Title, v []string) bool { t.Recommendations = v; return true }))
}

// openOptional opens the cache of something that viewers can do without. It
// comes from the metadata service, and shares its guard.
func openOptional[V any](p *Platform, name string) (*dewar.Cache[string, V], error) {
	t := p.cfg.Times
	return dewar.New(dewar.Config[string, V]{
		Name:     p.cfg.Name + "-" + name,
		TTL:      t.Artwork,
		Stale:    dewar.Stale{WhileRevalidate: t.stale(), IfError: t.stale(), RetryAfter: t.Pause},
		Warm:     dewar.Warm{KeysPerSecond: p.cfg.RefreshPerSecond},
		Batch:    dewar.Batch{MaxSize: MetadataBatch},
		Origin:   p.origins.metadata,
		Defcon:   p.dial,
		Flight:   p.flight(),
		Local:    memory.Config[V]{MaxEntries: localEntries},
		Remote:   remote[V](p),
		LoadMany: many[V](p.legacy, "/"+name, "ids"),
		Logger:   p.cfg.Logger,
	})
}

func optionalPart[V any](p *Platform, part wire.Part, id string, c *dewar.Cache[string, V], put func(*wire.Title, V) bool) *cachedPart[V] {
	return &cachedPart[V]{part: part, id: id, cache: c, ttl: p.cfg.Times.Artwork, patience: 250 * time.Millisecond, put: put}
}

// add appends a part unless its cache could not be opened.
func add[V any](p *Platform, err error, part *cachedPart[V]) error {
	if err == nil {
		p.parts = append(p.parts, part)
	}
	return err
}

// localEntries of each cache are more than the titles of a night.
const localEntries = 20_000

// flight gives leases on a Redis that is slow by nature longer than the default:
// a fill that comes after its lease is refused, and takes the local copy with
// it, with what it was worth in an outage.
func (p *Platform) flight() dewar.Flight {
	return dewar.Flight{Lease: max(3*time.Second, 10*p.cfg.RedisTimeout)}
}

func remote[V any](p *Platform) dewar.RemoteOpener[V] {
	if p.cfg.Redis == nil {
		return nil
	}
	return redistier.Config[V]{Client: p.cfg.Redis, Timeout: p.cfg.RedisTimeout}
}

// stale is how long answers bridge an outage.
func (t Times) stale() time.Duration { return max(t.Stale, 0) }

// streamStale is for how long after its TTL a stream URL can be played: what is
// left of its validity, less what a player needs to start.
func (t Times) streamStale() time.Duration {
	return max(0, min(t.stale(), t.StreamValid-t.Stream-t.StreamValid/10))
}

// softTimeout is d where there is something stale to serve.
func softTimeout(window, d time.Duration) time.Duration {
	if window == 0 {
		return 0
	}
	return d
}
