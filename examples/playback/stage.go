package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/dewarcache/dewar/examples/internal/pace"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/platform"
)

// stage is everything that is there, with or without a night on it: the legacy
// service, Redis, and the platform, which is being served.
type stage struct {
	legacy   *legacy.Legacy
	redis    *redisd.Redis
	platform *platform.Platform
	url      string // of the API

	warmTries int

	stop     context.CancelFunc // makes Serve return
	served   chan struct{}      // closed when it has
	serveErr error              // what it returned; written before served is closed
}

const (
	titleCount   = 200  // of tonight's schedule
	archiveCount = 5000 // older ones, which nobody expects to be asked for
	pinnedCount  = 20   // titles that are kept warm
)

// openStage sets everything up. logger may be nil.
func openStage(set settings, srv redisd.Server, logger *slog.Logger) (s *stage, err error) {
	s = &stage{warmTries: 20}
	if set.noStale {
		s.warmTries = 1 // what is loaded is dead before the last is
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	times := newTimes(set)
	if s.legacy, err = legacy.Start(legacy.Options{Titles: titleCount, Archive: archiveCount, StreamValid: times.StreamValid}); err != nil {
		return s, fmt.Errorf("legacy service: %w", err)
	}
	if s.redis, err = redisd.Open(srv, 1); err != nil {
		return s, err
	}
	if s.platform, err = platform.New(platform.Config{
		Legacy: s.legacy.URL(),
		Redis:  s.redis.Clients[0],
		// A name of its own for each run: on a Redis that stays, it starts cold too.
		Name:  "playback-" + rand.Text()[:8],
		Times: times.Times,
		// The embedded Redis shares busy cores with everything else here; a
		// Redis of its own can keep the default.
		RedisTimeout:     2 * time.Second,
		RefreshPerSecond: times.refreshPerSecond,
		Logger:           logger,
	}); err != nil {
		return s, err
	}
	l, err := net.Listen("tcp", set.addr)
	if err != nil {
		return s, fmt.Errorf("-addr %s: %w", set.addr, err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.served = stop, make(chan struct{})
	go func() { // close waits for it
		defer close(s.served)
		s.serveErr = s.platform.Serve(ctx, l)
	}()
	return s, nil
}

// warm fills the caches with tonight's schedule. It tries again while something
// is not there: what is missing at kick-off is missing.
func (s *stage) warm(ctx context.Context) (err error) {
	for range s.warmTries {
		if err = s.platform.Warm(ctx, schedule, pinnedCount); err == nil || pace.Pause(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	return err
}

// schedule is tonight's titles, the most popular first.
var schedule = func() (ids []string) {
	for i := range titleCount {
		ids = append(ids, legacy.TitleID(i))
	}
	return ids
}()

// close ends all of it in order: first nobody is let in any more and who is
// inside is answered, then the caches are closed, then what they stand on. It
// closes what openStage got to.
func (s *stage) close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
		<-s.served
		errs = append(errs, s.serveErr)
	}
	if s.platform != nil {
		_ = s.platform.Close() // tells what Redis did not get, which is no more than a cache gets over
	}
	s.redis.Close()
	if s.legacy != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		errs = append(errs, s.legacy.Close(ctx))
	}
	return errors.Join(errs...)
}

// times are the durations of a run, all scaled by its length.
type times struct {
	platform.Times
	unit             time.Duration // that acts are long
	refreshPerSecond float64       // titles, of the platform's metadata
}

func newTimes(set settings) times {
	unit := time.Duration(float64(set.duration) / nightUnits())
	// However short the night, what bridges an outage must outlast it on a
	// machine that crawls.
	bridge := max(10*time.Minute, 4*set.duration)
	t := times{unit: unit, refreshPerSecond: titleCount / unit.Seconds()}
	t.Times = platform.Times{
		Metadata: 4 * unit, Artwork: 5 * unit, Ads: unit / 2,
		Stream: 3 * unit / 2, StreamValid: 2 * bridge,
		Stale: bridge, Pause: unit / 4,
	}
	if set.noStale {
		t.Stale = -1
	}
	return t
}
