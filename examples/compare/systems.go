package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// answers counts the ids of a request by where their answer came from.
type answers struct {
	memory, redis, origin, stale int

	editions []int64 // of titles that a publisher changes, unless they are said to be stale
}

func (a *answers) note(v Video) {
	if v.Edition > 0 {
		a.editions = append(a.editions, v.Edition)
	}
}

// system is what stands between the readers of one process and the origin.
type system interface {
	// video is a player's request, page a page's.
	video(ctx context.Context, id string) (answers, error)
	page(ctx context.Context, ids []string) (answers, error)

	// changed is for whoever has just changed ids in the origin.
	changed(ctx context.Context, ids []string) error

	close()
}

// times are the durations of a run, all scaled by its length.
type times struct {
	unit       time.Duration // that acts are long
	ttl        time.Duration // of a video
	adTTL      time.Duration // of an ad: ends several times within the ad break
	finalTTL   time.Duration // of what will not be edited any more
	ifError    time.Duration // how long stale answers bridge an outage
	retryAfter time.Duration
	patience   time.Duration // of readers, and of calls of the origin

	// breakerOpen is how long the breaker before the origin stays open: the
	// default, 5s, is longer than an act.
	breakerOpen time.Duration
}

func newTimes(set settings) times {
	unit := set.duration / 25
	return times{
		unit: unit,
		ttl:  4 * unit, adTTL: unit / 2, finalTTL: max(time.Minute, set.duration),
		ifError: max(time.Minute, set.duration), retryAfter: unit / 2, patience: set.patience,
		breakerOpen: unit / 10,
	}
}

func (t times) of(v Video) time.Duration {
	switch {
	case v.Ad:
		return t.adTTL
	case v.Final:
		return t.finalTTL
	}
	return t.ttl
}

// memoryEntries of a process is less than the catalogue: the rest of it is in Redis.
const memoryEntries = 1500

// cached is the platform with dewar: one process of it.
type cached struct {
	videos *dewar.Cache[string, Video]
}

func newCached(name string, o *origin, rdb redis.UniversalClient, t times, set settings) (system, error) {
	videos, err := dewar.New(dewar.Config[string, Video]{
		Name: name,
		TTL:  t.ttl,
		// Ads are rotated often, what is final never changes.
		TTLOf: func(_ string, v Video) time.Duration { return t.of(v) },
		Stale: dewar.Stale{
			IfError:     t.ifError,             // a failing origin goes unseen this long
			SoftTimeout: 50 * time.Millisecond, // a slow one costs no more than this
			RetryAfter:  t.retryAfter,
		},
		Warm: dewar.Warm{
			Ahead:         0.8,                                          // what is read after 80 % of its TTL is reloaded early,
			Gather:        25 * time.Millisecond,                        // many ids in one call,
			KeysPerSecond: float64(2*set.rate) / float64(set.processes), // and never faster than this
		},
		// The origin has other clients too, and the other processes.
		Guard: dewar.Guard{
			MaxConcurrent: max(1, 3*originSlots/4/set.processes),
			Breaker:       dewar.Breaker{OpenFor: t.breakerOpen},
		},
		Flight: dewar.Flight{Timeout: 3 * t.patience}, // what a reader gave up on still serves the next
		Local:  memory.Config[Video]{MaxEntries: memoryEntries},
		Remote: redistier.Config[Video]{
			Client: rdb,
			// The embedded Redis shares two busy cores with everything else
			// here; a Redis of its own can keep the default.
			Timeout: 250 * time.Millisecond,
		},
		Load:     o.Video,
		LoadMany: o.Videos,
	})
	if err != nil {
		return nil, err
	}
	return &cached{videos}, nil
}

// video would be just Get in an application; the report wants to know where
// the answer came from.
func (s *cached) video(ctx context.Context, id string) (a answers, err error) {
	r, err := s.videos.GetResult(ctx, id)
	if err == nil {
		a.count(r)
	}
	return a, err
}

func (s *cached) page(ctx context.Context, ids []string) (a answers, err error) {
	results, err := s.videos.GetManyResults(ctx, ids)
	for _, r := range results {
		a.count(r)
	}
	return a, err
}

func (a *answers) count(r dewar.Result[Video]) {
	if r.Status != dewar.StatusStale {
		a.note(r.Value)
	}
	switch {
	case r.Status == dewar.StatusStale:
		a.stale++
	case r.Tier == dewar.TierLocal:
		a.memory++
	case r.Tier == dewar.TierRemote:
		a.redis++
	default:
		a.origin++
	}
}

func (s *cached) changed(ctx context.Context, ids []string) error {
	return s.videos.Invalidate(ctx, ids...)
}

func (s *cached) close() { _ = s.videos.Close() }

// getThenLoad is the cache that everybody writes first: ask Redis, on a miss
// ask the origin, store the answer; after a change, delete it.
type getThenLoad struct {
	prefix string
	rdb    redis.UniversalClient
	origin *origin
	times  times
}

func (s *getThenLoad) video(ctx context.Context, id string) (a answers, err error) {
	if raw, err := s.rdb.Get(ctx, s.prefix+id).Bytes(); err == nil {
		var v Video
		if json.Unmarshal(raw, &v) == nil {
			a.redis = 1
			a.note(v)
			return a, nil
		}
	}
	v, err := s.origin.Video(ctx, id)
	if err != nil {
		return a, err
	}
	if raw, err := json.Marshal(v); err == nil {
		s.rdb.Set(ctx, s.prefix+id, raw, s.times.of(v)) // a Redis that is down is no reason to fail
	}
	a.origin = 1
	a.note(v)
	return a, nil
}

func (s *getThenLoad) page(ctx context.Context, ids []string) (a answers, err error) {
	gets := s.rdb.Pipeline() // and not MGET, which a cluster refuses
	found := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		found[i] = gets.Get(ctx, s.prefix+id)
	}
	_, _ = gets.Exec(ctx)
	var missing []string
	for i, get := range found {
		var v Video
		if raw, err := get.Bytes(); err == nil && json.Unmarshal(raw, &v) == nil {
			a.redis++
			a.note(v)
		} else {
			missing = append(missing, ids[i])
		}
	}
	if len(missing) == 0 {
		return a, nil
	}
	videos, err := s.origin.Videos(ctx, missing)
	if err != nil {
		return a, err
	}
	pipe := s.rdb.Pipeline()
	for id, v := range videos {
		a.origin++
		a.note(v)
		if raw, err := json.Marshal(v); err == nil {
			pipe.Set(ctx, s.prefix+id, raw, s.times.of(v))
		}
	}
	_, _ = pipe.Exec(ctx)
	return a, nil
}

func (s *getThenLoad) changed(ctx context.Context, ids []string) error {
	pipe := s.rdb.Pipeline()
	for _, id := range ids {
		pipe.Del(ctx, s.prefix+id)
	}
	_, err := pipe.Exec(ctx)
	return err
}

func (*getThenLoad) close() {}

// noCache asks the origin every time.
type noCache struct {
	origin *origin
}

func (s *noCache) video(ctx context.Context, id string) (a answers, err error) {
	v, err := s.origin.Video(ctx, id)
	if err == nil {
		a.origin = 1
		a.note(v)
	}
	return a, err
}

func (s *noCache) page(ctx context.Context, ids []string) (a answers, err error) {
	videos, err := s.origin.Videos(ctx, ids)
	a.origin = len(videos)
	for _, v := range videos {
		a.note(v)
	}
	return a, err
}

func (*noCache) changed(context.Context, []string) error { return nil }

func (*noCache) close() {}
