package dewar_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	redistier "github.com/dewarcache/dewar/redis"
)

// With a healthy origin, a Redis that fails in whatever way makes reads
// slower; no reader sees an error or a wrong value.

// readersAreWell reads keys in every way, and asserts that all are answered
// well and within the given time each.
func readersAreWell(t *testing.T, c *dewar.Cache[string, string], origin *ledger, prefix string, patience time.Duration) {
	t.Helper()
	check := func(what, key, got string, err error, took time.Duration) {
		t.Helper()
		if k, _, _ := strings.Cut(got, "@"); err != nil || k != key {
			t.Errorf("%s(%q) = %q, %v", what, key, got, err)
		}
		if took > patience {
			t.Errorf("%s(%q) took %v", what, key, took)
		}
	}
	for i := range 3 {
		key := fmt.Sprint(prefix, i)
		for range 2 {
			start := time.Now()
			v, err := c.Get(t.Context(), key)
			check("Get", key, v, err, time.Since(start))
		}
	}
	keys := make([]string, 300) // two round trips
	for i := range keys {
		keys[i] = fmt.Sprint(prefix, i)
	}
	start := time.Now()
	m, err := c.GetMany(t.Context(), keys)
	took := time.Since(start)
	if err != nil {
		t.Errorf("GetMany: %v", err)
	}
	for _, key := range keys {
		check("GetMany", key, m[key], nil, took)
	}
}

func TestReadersAreWellWhenRedisRefusesConnections(t *testing.T) {
	origin := newLedger()
	c := openOn(t, unusedAddr, origin)
	readersAreWell(t, c, origin, "key", 2*time.Second)
	if err := c.Invalidate(t.Context(), "key1"); !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Errorf("Invalidate: %v", err)
	}
	if err := c.Set(t.Context(), "key2", "key2@set"); !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Errorf("Set: %v", err)
	}
	if v, err := c.Get(t.Context(), "key2"); v != "key2@set" || err != nil {
		t.Error(v, err)
	}
	readersAreWell(t, c, origin, "key", 2*time.Second)
}

func TestReadersAreWellWhenRedisStalls(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		var conns []net.Conn // kept open, never answered
		for {
			conn, err := l.Accept()
			if err != nil {
				for _, c := range conns {
					c.Close()
				}
				return
			}
			conns = append(conns, conn)
		}
	}()
	origin := newLedger()
	c := openOn(t, l.Addr().String(), origin)
	readersAreWell(t, c, origin, "key", time.Second)
	start := time.Now()
	if err := c.Invalidate(t.Context(), "key1"); !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Errorf("Invalidate: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Invalidate waited %v", took)
	}
	if _, err := c.Get(t.Context(), "key1"); err != nil {
		t.Error(err)
	}
	start = time.Now()
	if err := c.Close(); !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// A flight must leave its load some time even where the look-up used it up.
func TestAStalledRedisDoesNotEatUpAShortFlight(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	origin := newLedger()
	c := openOn(t, l.Addr().String(), origin, func(cfg *fleetConfig) { cfg.Flight.Timeout = 80 * time.Millisecond })
	if v, err := c.Get(t.Context(), "k"); v != "k@0" || err != nil {
		t.Errorf("Get with a stalled Redis and a healthy origin: %q, %v", v, err)
	}
}

// hammer reads from several goroutines while upset does its worst, and
// asserts that no read fails, and that none sees what was invalidated before
// it began.
func hammer(t *testing.T, c *dewar.Cache[string, string], origin *ledger, upset func()) {
	t.Helper()
	var floor [8]atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	key := func(k int) string { return fmt.Sprint("key", k) }
	check := func(what string, k int, least int64, v string, err error) {
		name, n, _ := strings.Cut(v, "@")
		var version int64
		fmt.Sscan(n, &version)
		if err != nil || name != key(k) || version < least {
			t.Errorf("%s(%s) = %q, %v; at least version %d", what, key(k), v, err, least)
			done.Store(true)
		}
	}
	var reads atomic.Int64
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				reads.Add(1)
				k := rand.IntN(len(floor))
				least := floor[k].Load()
				if rand.IntN(3) > 0 {
					v, err := c.Get(t.Context(), key(k))
					check("Get", k, least, v, err)
					continue
				}
				other := (k + 1) % len(floor)
				leastOther := floor[other].Load()
				m, err := c.GetMany(t.Context(), []string{key(k), key(other)})
				check("GetMany", k, least, m[key(k)], err)
				check("GetMany", other, leastOther, m[key(other)], err)
			}
		})
	}
	wg.Go(func() {
		for !done.Load() {
			k := rand.IntN(len(floor))
			version := origin.commit(key(k))
			if err := c.Invalidate(t.Context(), key(k)); err != nil && !errors.Is(err, dewar.ErrInvalidationPending) {
				t.Errorf("Invalidate: %v", err)
			}
			floor[k].Store(int64(version))
			time.Sleep(time.Millisecond)
		}
	})
	upset()
	done.Store(true)
	wg.Wait()
	t.Logf("%d reads", reads.Load())
}

func forLocalAndLone(t *testing.T, test func(t *testing.T, change func(*fleetConfig))) {
	t.Run("both tiers", func(t *testing.T) { test(t, func(*fleetConfig) {}) })
	t.Run("remote only", func(t *testing.T) { test(t, func(cfg *fleetConfig) { cfg.Local = nil }) })
}

func TestReadersAreWellWhileRedisIsFlushed(t *testing.T) {
	server := startRedis(t)
	forLocalAndLone(t, func(t *testing.T, change func(*fleetConfig)) {
		origin := newLedger()
		rdb := redisClient(t, server.addr)
		hammer(t, openOn(t, server.addr, origin, change), origin, func() {
			for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
				rdb.FlushAll(t.Context())
			}
		})
	})
}

func TestReadersAreWellWhileRedisRestarts(t *testing.T) {
	forLocalAndLone(t, func(t *testing.T, change func(*fleetConfig)) {
		server := startRedis(t)
		origin := newLedger()
		c := openOn(t, server.addr, origin, change)
		hammer(t, c, origin, func() {
			for range 2 {
				time.Sleep(150 * time.Millisecond)
				server.stop()
				time.Sleep(150 * time.Millisecond)
				server.start()
			}
		})
		eventually(t, "every invalidation is confirmed", func() bool { return c.Stats().PendingInvalidations == 0 })
	})
}

func TestReadersAreWellWhileConnectionsBreak(t *testing.T) {
	server := startRedis(t)
	forLocalAndLone(t, func(t *testing.T, change func(*fleetConfig)) {
		origin := newLedger()
		rdb := redisClient(t, server.addr)
		hammer(t, openOn(t, server.addr, origin, change), origin, func() {
			for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				rdb.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
			}
		})
	})
}

func TestReadersAreWellWhileRedisPauses(t *testing.T) {
	server := startRedis(t)
	origin := newLedger()
	rdb := redisClient(t, server.addr)
	hammer(t, openOn(t, server.addr, origin), origin, func() {
		for range 3 {
			rdb.ClientPause(t.Context(), 150*time.Millisecond)
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// The old value survives in Redis while this process cannot reach it: here a
// proxy that is cut, so that Redis keeps what a stopped one would lose.
func TestAnInvalidationIsRepeatedUntilRedisIsBack(t *testing.T) {
	server := startRedis(t)
	for _, w := range []string{"Invalidate", "Expire", "Set"} {
		t.Run(w, func(t *testing.T) {
			rdb := redisClient(t, server.addr)
			rdb.FlushAll(t.Context())
			proxy := startProxy(t, server.addr)
			origin := newLedger()
			c := openOn(t, proxy.addr, origin, staleFor(time.Hour))
			if v, err := c.Get(t.Context(), "k"); v != "k@0" || err != nil {
				t.Fatal(v, err)
			}
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			origin.commit("k")
			proxy.cut(true)
			var err error
			switch w {
			case "Invalidate":
				err = c.Invalidate(t.Context(), "k")
			case "Expire":
				err = c.Expire(t.Context(), "k")
			case "Set":
				err = c.Set(t.Context(), "k", "k@1")
			}
			if !errors.Is(err, dewar.ErrInvalidationPending) {
				t.Errorf("%s: %v", w, err)
			}
			if n := len(rdb.Keys(t.Context(), "dewar:*").Val()); n != 1 {
				t.Fatalf("Redis has %d keys: nothing to be misled by", n)
			}
			for range 20 {
				if v, err := c.Get(t.Context(), "k"); v != "k@1" || err != nil {
					t.Errorf("Get while the deletion is pending: %q, %v", v, err)
				}
				if v, err := c.Get(t.Context(), "k", dewar.Reload()); v != "k@1" || err != nil {
					t.Errorf("Reload while the deletion is pending: %q, %v", v, err)
				}
				time.Sleep(time.Millisecond)
			}
			proxy.cut(false)
			eventually(t, "the deletion is confirmed", func() bool { return c.Stats().PendingInvalidations == 0 })
			if n := len(rdb.Keys(t.Context(), "dewar:*").Val()); n != 0 {
				t.Errorf("Redis still has %d keys", n)
			}
			if v, err := openOn(t, server.addr, origin).Get(t.Context(), "k"); v != "k@1" || err != nil {
				t.Error(v, err)
			}
		})
	}
}

func TestCloseDrainsTheJournalIntoARedisThatIsBack(t *testing.T) {
	server := startRedis(t)
	rdb := redisClient(t, server.addr)
	proxy := startProxy(t, server.addr)
	origin := newLedger()
	c := openOn(t, proxy.addr, origin)
	c.Get(t.Context(), "k")
	c.Wait(t.Context())
	proxy.cut(true)
	if err := c.Invalidate(t.Context(), "k"); !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Error(err)
	}
	time.AfterFunc(500*time.Millisecond, func() { proxy.cut(false) })
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := len(rdb.Keys(t.Context(), "dewar:*").Val()); n != 0 {
		t.Errorf("Redis still has %d keys", n)
	}
}

// logBuffer is what was logged so far.
type logBuffer struct {
	mu  sync.Mutex // mu guards buf
	buf strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestANewCacheStartsWithoutRedisAndUsesItOnceItIsThere(t *testing.T) {
	server := startRedis(t)
	server.stop()
	origin := newLedger()
	var log logBuffer
	const patience = 2 * time.Second
	c := openOn(t, server.addr, origin, func(cfg *fleetConfig) {
		cfg.Remote = redistier.Config[string]{Client: redisClient(t, server.addr), Timeout: patience}
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	start := time.Now()
	for i := range 10 {
		k := fmt.Sprint("early", i)
		if v, err := c.Get(t.Context(), k); v != k+"@0" || err != nil {
			t.Fatal(v, err)
		}
	}
	if took := time.Since(start); took > patience {
		t.Errorf("10 reads took %v: they wait for Redis", took)
	}
	server.start()
	rdb := redisClient(t, server.addr)
	n := 0
	eventually(t, "loads are written to Redis", func() bool {
		n++
		if _, err := c.Get(t.Context(), fmt.Sprint("key", n)); err != nil {
			t.Fatal(err)
		}
		return len(rdb.Keys(t.Context(), "dewar:*").Val()) > 0
	})
	for _, want := range []string{"Redis fails", "joined the fleet"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("logged %s", log.String())
		}
	}
	// It hears the others of the fleet.
	other := openOn(t, server.addr, origin)
	origin.commit("early1")
	if err := other.Invalidate(t.Context(), "early1"); err != nil {
		t.Error(err)
	}
	eventually(t, "the invalidation is heard", func() bool {
		v, err := c.Get(t.Context(), "early1")
		return v == "early1@1" && err == nil
	})
}

func TestReadersAreWellWhenTheRemoteTierIsSlowOrDown(t *testing.T) {
	// In memory, for every way that a single step can fail.
	for _, step := range []string{"Read", "Read answered", "Lease", "Lease answered", "Fill", "Fill answered", "Release"} {
		t.Run(step, func(t *testing.T) {
			srv, origin := dewartest.NewRemote[string](), newLedger()
			p := startProcess(t, srv, origin)
			p.fail(step, errors.New("refused"))
			for i := range 10 {
				key := fmt.Sprint("key", i)
				p.want(key, valueAt(key, 0))
			}
			m, err := p.GetMany(t.Context(), []string{"a", "b", "key1"})
			if err != nil || len(m) != 3 {
				t.Error(m, err)
			}
			p.Wait(t.Context())
		})
	}
}
