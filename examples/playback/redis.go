package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

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
	link   *link
	client *redis.Client
	stop   func()
}

// openRedis links to the server at addr or, when that is "", to an embedded
// one of its own.
func openRedis(addr string) (*redisStage, error) {
	stop := func() {}
	if addr == "" {
		mini, err := miniredis.Run()
		if err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		addr = mini.Addr()
		stopClock := runClock(mini)
		stop = func() { stopClock(); mini.Close() }
	}
	l, err := openLink(addr)
	if err != nil {
		stop()
		return nil, fmt.Errorf("link to Redis: %w", err)
	}
	client := redis.NewClient(&redis.Options{Addr: l.addr(), ContextTimeoutEnabled: true})
	return &redisStage{link: l, client: client, stop: stop}, nil
}

func (r *redisStage) close() {
	_ = r.client.Close()
	r.link.close()
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

// link is a TCP proxy. Cutting it takes Redis away without touching the
// server, which may be somebody's.
type link struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup // close waits for every goroutine

	mu    sync.Mutex // guards what follows
	down  bool
	conns map[net.Conn]struct{} // of both sides
}

func openLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{target: target, listener: l, conns: make(map[net.Conn]struct{})}
	k.wg.Go(k.accept)
	return k, nil
}

func (k *link) addr() string { return k.listener.Addr().String() }

// accept ends when the listener is closed.
func (k *link) accept() {
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.carry(near) })
	}
}

// carry copies both ways until one side ends or the link is cut.
func (k *link) carry(near net.Conn) {
	defer near.Close()
	if !k.hold(near) {
		return
	}
	defer k.letGo(near)
	far, err := net.DialTimeout("tcp", k.target, pingFor)
	if err != nil {
		return
	}
	defer far.Close()
	if !k.hold(far) {
		return
	}
	defer k.letGo(far)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// hold keeps c to be closed by a cut; it reports false when the link is down.
func (k *link) hold(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.down {
		k.conns[c] = struct{}{}
	}
	return !k.down
}

func (k *link) letGo(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

// cut ends every connection and hangs up on new ones.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for c := range k.conns {
		_ = c.Close()
	}
}

func (k *link) mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}

func (k *link) close() {
	_ = k.listener.Close()
	k.cut()
	k.wg.Wait()
}
