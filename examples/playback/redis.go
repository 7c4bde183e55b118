package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// go-redis logs every connection that the acts cut on purpose.
func init() { redis.SetLogger(discard{}) }

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// pingFor is how long a Redis named by -redis has to answer.
const pingFor = 2 * time.Second

// ping returns an error when no Redis answers at addr; "" is the embedded one.
func ping(ctx context.Context, addr string) error {
	if addr == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingFor)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, DialTimeout: pingFor, DialerRetries: 1, MaxRetries: -1})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("-redis %s: %w", addr, err)
	}
	return nil
}

// redisStage is a Redis and a link to it that can be cut.
type redisStage struct {
	link   link
	client *redis.Client
	stop   func()
}

// openRedis connects to the server at addr or, when that is "", to an embedded
// one of its own.
func openRedis(addr string) (*redisStage, error) {
	r := &redisStage{stop: func() {}}
	if addr == "" {
		mini, err := miniredis.Run()
		if err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		addr = mini.Addr()
		stopClock := runClock(mini)
		r.stop = func() { stopClock(); mini.Close() }
	}
	r.client = redis.NewClient(&redis.Options{
		Addr:                  addr,
		Dialer:                r.link.dial,
		ContextTimeoutEnabled: true,
		// go-redis tries three times more, for half a second in all, and
		// dials five times. In front of an origin that answers in
		// milliseconds it is better to go on.
		MaxRetries:      1,
		MaxRetryBackoff: 16 * time.Millisecond,
		DialerRetries:   1,
	})
	return r, nil
}

func (r *redisStage) close() {
	_ = r.client.Close()
	r.stop()
}

// runClock makes the keys of an embedded Redis, whose time stands still by
// itself, expire. The returned func ends it.
func runClock(mini *miniredis.Miniredis) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
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

// link is the way to a Redis. Cutting it takes Redis away without touching the
// server, which may be somebody's.
type link struct {
	mu    sync.Mutex // guards what follows
	down  bool
	conns []net.Conn // made since the last cut; some may be closed by now
}

var errLinkCut = errors.New("connection refused: the link is cut")

// dial is for redis.Options.
func (k *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	k.mu.Lock()
	down := k.down
	k.mu.Unlock()
	if down {
		return nil, errLinkCut
	}
	dialer := net.Dialer{Timeout: pingFor}
	c, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down { // cut while dialling
		_ = c.Close()
		return nil, errLinkCut
	}
	k.conns = append(k.conns, c)
	return c, nil
}

// cut ends every connection and refuses new ones.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for _, c := range k.conns {
		_ = c.Close()
	}
	k.conns = nil
}

func (k *link) mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}
