// Package platform is a playback API as one would build it with dewar: a proxy
// in front of a legacy service, with a cache for each part of an answer, one
// dial for all of them, and a way to move viewers over from the old path to the
// new.
//
// Where to look first: New, which is all of it; caches.go, which holds the
// dewar.Config of each part; features.go, which is what viewers lose at which
// level.
package platform

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/console"
	"github.com/dewarcache/dewar/defconhttp"
	"github.com/dewarcache/dewar/examples/internal/expose"
	"github.com/dewarcache/dewar/examples/playback/wire"
	"github.com/redis/go-redis/v9"
)

// Config is what a platform is made of.
type Config struct {
	Legacy string                // URL of the legacy service, without a slash at the end
	Redis  redis.UniversalClient // shared by the processes of a fleet; nil: memory only
	Name   string                // of the caches, before their own; default "playback"
	Times  Times                 // default DefaultTimes

	// RedisTimeout bounds a round trip to Redis. Defaults to that of redistier.
	RedisTimeout time.Duration

	// RefreshPerSecond is how many titles the metadata service is asked for in
	// a second to keep what there is up to date. Defaults to 100.
	RefreshPerSecond float64

	// Percent of the viewers are on the new path at the start, and Shadow of
	// the answers, 0 to 1, are compared with those of the other path.
	Percent int
	Shadow  float64

	// Grace is how long /healthz says that the service is about to end before
	// Serve accepts no more. Defaults to 0.
	Grace time.Duration

	Logger *slog.Logger // default discards
}

// Platform is the service. Close ends it.
type Platform struct {
	cfg     Config
	dial    *dewar.Defcon
	legacy  *client
	origins origins

	metadata        *dewar.Cache[string, wire.Metadata]
	streams         *dewar.Cache[string, wire.Stream]
	ads             *dewar.Cache[string, []wire.Ad]
	artwork         *dewar.Cache[string, wire.Artwork]
	recommendations *dewar.Cache[string, []string]

	parts    []part // the caches, as what an answer is put together from; those that could be opened
	tallies  *tallies
	uncached atomic.Int64 // calls of the legacy services that there would have been without the caches

	rollout  Rollout
	old      http.Handler // the old path
	shadow   *shadow
	handler  http.Handler
	draining atomic.Bool
}

// New opens the caches and puts the service together.
func New(cfg Config) (*Platform, error) {
	cfg.Name = cmp.Or(cfg.Name, "playback")
	cfg.Times = cmp.Or(cfg.Times, DefaultTimes())
	cfg.RefreshPerSecond = cmp.Or(cfg.RefreshPerSecond, 100)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Platform{cfg: cfg, dial: new(dewar.Defcon), legacy: newClient(cfg.Legacy), tallies: newTallies()}
	if err := p.rollout.Set(cfg.Percent); err != nil {
		return nil, err
	}
	var err error
	if p.old, err = newOldPath(p); err != nil {
		return nil, err
	}
	p.origins = newOrigins(cfg.Times)
	if err := p.openCaches(); err != nil {
		return nil, errors.Join(err, p.closeCaches())
	}
	p.shadow = newShadow(p)
	p.shadow.setShare(cfg.Shadow)
	p.handler = p.routes()
	return p, nil
}

// routes is the API. What operators see and turn would be on a port of its own,
// or behind authentication.
func (p *Platform) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/playback", p.playback)
	mux.HandleFunc("GET /healthz", p.healthz)
	mux.HandleFunc("GET /stats", p.showStats)
	mux.Handle("/defcon", defconhttp.Handler(p.dial)) // GET shows, PUT turns
	var watched []console.Part
	var scraped []expose.Cache
	for _, c := range p.Caches() {
		watched, scraped = append(watched, c), append(scraped, c)
	}
	mux.Handle("/debug/dewar/", console.Handler(watched...))
	mux.Handle("GET /metrics", expose.Handler(scraped...))
	mux.Handle("GET /rollout", &p.rollout)
	mux.Handle("PUT /rollout", &p.rollout)
	return mux
}

// Handler serves the API.
func (p *Platform) Handler() http.Handler { return p.handler }

// Dial is the DEFCON dial of all caches.
func (p *Platform) Dial() *dewar.Defcon { return p.dial }

// Caches are those of the parts of an answer.
func (p *Platform) Caches() (caches []console.Part) {
	for _, part := range p.parts {
		caches = append(caches, part.watched())
	}
	return caches
}

// Rollout is the flag that moves viewers to the new path.
func (p *Platform) Rollout() *Rollout { return &p.rollout }

// SetShadow sets how many answers, 0 to 1, are compared with those of the other
// path.
func (p *Platform) SetShadow(share float64) { p.shadow.setShare(share) }

// Warm fills the caches for titles that will be asked for, before they are, and
// keeps the first pinned of them warm whether they are asked for or not. The
// error tells what is still missing.
func (p *Platform) Warm(ctx context.Context, ids []string, pinned int) error {
	var errs []error
	for _, part := range p.parts {
		errs = append(errs, part.warm(ctx, ids))
	}
	top := ids[:min(pinned, len(ids))]
	p.streams.KeepWarm(top...)
	p.metadata.KeepWarm(top...)
	return errors.Join(errs...)
}

// ScheduleChanged says that the metadata of titles is not what it was: viewers
// see the old until the new is there, which comes at RefreshPerSecond.
func (p *Platform) ScheduleChanged(ctx context.Context, ids ...string) error {
	return p.metadata.Expire(ctx, ids...)
}

// Close ends the service: what waits gets dewar.ErrClosed. Serve must have
// returned.
func (p *Platform) Close() error {
	p.shadow.close()
	err := p.closeCaches()
	p.legacy.close()
	return err
}

func (p *Platform) closeCaches() error {
	var errs []error
	for _, part := range p.parts {
		errs = append(errs, part.close())
	}
	return errors.Join(errs...)
}
