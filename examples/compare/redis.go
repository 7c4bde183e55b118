package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// go-redis logs every connection that the acts cut on purpose.
func init() { redis.SetLogger(discard{}) }

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// server is the Redis that -redis names, or an embedded one.
type server struct {
	addrs   []string // none: embedded
	cluster bool
}

func (srv server) String() string {
	switch {
	case len(srv.addrs) == 0:
		return "embedded"
	case srv.cluster:
		return "cluster at " + strings.Join(srv.addrs, ", ")
	}
	return strings.Join(srv.addrs, ", ")
}

// pingFor is how long a Redis named by -redis has to answer.
const pingFor = 2 * time.Second

// findServer asks the Redis at list, addresses separated by commas, what it is,
// and returns an error when none answers; "" is the embedded one.
func findServer(ctx context.Context, list string) (server, error) {
	if list == "" {
		return server{}, nil
	}
	srv := server{addrs: strings.Split(list, ",")}
	for i, addr := range srv.addrs {
		srv.addrs[i] = strings.TrimSpace(addr)
	}
	ctx, cancel := context.WithTimeout(ctx, pingFor)
	defer cancel()
	if err := srv.ask(ctx); err != nil {
		return server{}, fmt.Errorf("-redis %s: %w", list, err)
	}
	return srv, nil
}

// ask learns from the first node that answers whether it is one of a cluster.
func (srv *server) ask(ctx context.Context) error {
	var errs []error
	for _, addr := range srv.addrs {
		cluster, err := isCluster(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !cluster && len(srv.addrs) > 1 {
			return fmt.Errorf("%s is not a node of a cluster, as several addresses must be", addr)
		}
		srv.cluster = cluster
		return nil
	}
	return errors.Join(errs...)
}

func isCluster(ctx context.Context, addr string) (bool, error) {
	rdb := redis.NewClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{addr}}).Simple())
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return false, err
	}
	info, err := rdb.Info(ctx, "cluster").Result()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return false, nil // it may not be asked
	}
	return strings.Contains(info, "cluster_enabled:1"), err
}

// client connects over a link.
func (srv server) client(k *link) redis.UniversalClient {
	return redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{
		Addrs: srv.addrs, IsClusterMode: srv.cluster, Dialer: k.dial,
	}))
}

// redisStage is the Redis of one system, with a link and a client for each of
// its processes.
type redisStage struct {
	links   []*link
	clients []redis.UniversalClient
	stop    func()
}

// openRedis connects processes to srv or, if that is embedded, to one of their
// own.
func openRedis(srv server, processes int) (*redisStage, error) {
	r := &redisStage{stop: func() {}}
	if len(srv.addrs) == 0 {
		mini, err := miniredis.Run()
		if err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		srv.addrs = []string{mini.Addr()}
		stopClock := runClock(mini)
		r.stop = func() { stopClock(); mini.Close() }
	}
	for range processes {
		k := new(link)
		r.links = append(r.links, k)
		r.clients = append(r.clients, srv.client(k))
	}
	return r, nil
}

// The methods of a nil stage, of a system that uses no Redis, do nothing.

func (r *redisStage) cut() {
	if r == nil {
		return
	}
	for _, k := range r.links {
		k.cut()
	}
}

func (r *redisStage) mend() {
	if r == nil {
		return
	}
	for _, k := range r.links {
		k.mend()
	}
}

func (r *redisStage) close() {
	if r == nil {
		return
	}
	for _, c := range r.clients {
		_ = c.Close()
	}
	r.stop()
}

// runClock makes the keys of an embedded Redis, whose time stands still by
// itself, expire. (Its ClockTTL would go through all keys at each command.) The
// returned func ends it.
func runClock(mini *miniredis.Miniredis) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // stop waits for it
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case now := <-tick.C:
				mini.FastForward(now.Sub(last))
				last = now
			case <-quit:
				return
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}
