package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	redistier "github.com/dewarcache/dewar/redis"
)

// With a healthy origin, a Redis that fails in whatever way makes reads
// slower; no reader sees an error or a wrong value.

// go-redis tells of every connection that fails.
func init() { logging.Disable() }

// liveRedis is a real server that a test stops and starts.
type liveRedis struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
}

// startRedis starts a server on a port of its own, or skips the test.
func startRedis(t *testing.T) *liveRedis {
	t.Helper()
	r := &liveRedis{t: t, addr: freeAddr(t)}
	for range 4 { // somebody may get the port in between
		if r.run() {
			break
		}
		r.addr = freeAddr(t)
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

// unusedAddr is an address at which nobody listens: a port that no listener is
// given by chance.
const unusedAddr = "127.0.0.1:1"

// freeAddr returns an address for a server to come: nobody listens there yet.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the server where it was before, unless it runs.
func (r *liveRedis) start() {
	r.t.Helper()
	for range 4 { // an outgoing connection may have got the port meanwhile
		if r.cmd != nil || r.run() {
			return
		}
	}
	r.t.Fatal("redis-server does not start at ", r.addr)
}

// run tries to start the server, and tells whether it answers.
func (r *liveRedis) run() bool {
	r.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		r.t.Skip("redis-server is not installed: this test needs a real one")
	}
	_, port, _ := net.SplitHostPort(r.addr)
	r.cmd = exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--appendonly", "no", "--save", "", "--dir", r.t.TempDir())
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: r.addr})
	defer rdb.Close()
	self := fmt.Sprintf("process_id:%d\r\n", r.cmd.Process.Pid)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if info, err := rdb.Info(context.Background(), "server").Result(); err == nil {
			if strings.Contains(info, self) {
				return true
			}
			break // somebody else's
		}
	}
	r.stop()
	return false
}

func (r *liveRedis) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// eventually waits for something that a real server will bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15s: %s", what)
		}
	}
}

// redisClient returns a client such as redistier wants.
func redisClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// openOn opens a cache on a Redis, closed by the test itself: with a Redis
// that fails, Close may report.
func openOn(t *testing.T, addr string, origin *ledger, change ...func(*fleetConfig)) *dewar.Cache[string, string] {
	t.Helper()
	cfg := fleetConfig{
		Name: fleetName, TTL: time.Minute, Jitter: -1, Warm: dewar.Warm{Ahead: -1}, Local: smallLocal,
		Remote: redistier.Config[string]{Client: redisClient(t, addr)},
		Load:   func(_ context.Context, k string) (string, error) { return origin.load(k) },
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := dewar.New(cfg)
	if err != nil {
		t.Fatalf("New, whatever Redis does: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

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

// damage alters what Redis has under each of our keys.
func damage(t *testing.T, rdb *redis.Client, alter func(raw []byte) []byte) {
	t.Helper()
	ctx := t.Context()
	keys := rdb.Keys(ctx, "dewar:*").Val() // not the bus
	if len(keys) == 0 {
		t.Fatal("Redis has no keys")
	}
	for _, k := range keys {
		raw, err := rdb.Get(ctx, k).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(ctx, k, alter(raw), redis.KeepTTL).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadersAreWellWhateverBytesRedisHolds(t *testing.T) {
	mini := miniredis.RunT(t)
	for name, alter := range map[string]func([]byte) []byte{
		"foreign":         func([]byte) []byte { return []byte("something else altogether, which is long enough to be one") },
		"empty":           func([]byte) []byte { return nil },
		"one byte":        func(raw []byte) []byte { return raw[:1] },
		"our magic only":  func(raw []byte) []byte { return raw[:2] },
		"cut in the head": func(raw []byte) []byte { return raw[:25] },
		"cut at the end":  func(raw []byte) []byte { return raw[:len(raw)-1] },
		"longer":          func(raw []byte) []byte { return append(raw, 0) },
		"newer format":    func(raw []byte) []byte { raw[2] = 200; return raw },
		"other kind":      func(raw []byte) []byte { raw[3] ^= 0x55; return raw },
		"bad stamp":       func(raw []byte) []byte { raw[10] ^= 1; return raw },
		"bad times":       func(raw []byte) []byte { raw[24] ^= 0x80; return raw },
		"bad payload":     func(raw []byte) []byte { raw[len(raw)-2] ^= 1; return raw },
		"all zero":        func(raw []byte) []byte { clear(raw); return raw },
		"all one":         func(raw []byte) []byte { return slices.Repeat([]byte{0xff}, len(raw)) },
		"random": func(raw []byte) []byte {
			for i := range raw {
				raw[i] = byte(rand.IntN(256))
			}
			return raw
		},
		"random behind the head": func(raw []byte) []byte {
			for i := 4; i < len(raw); i++ {
				raw[i] = byte(rand.IntN(256))
			}
			return raw
		},
		"10 MB": func(raw []byte) []byte { return append(raw, make([]byte, 10<<20)...) },
	} {
		t.Run(name, func(t *testing.T) {
			mini.FlushAll()
			origin := newLedger()
			writer := openOn(t, mini.Addr(), origin)
			for i := range 3 {
				if _, err := writer.Get(t.Context(), fmt.Sprint("key", i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := writer.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			damage(t, redisClient(t, mini.Addr()), alter)
			readersAreWell(t, openOn(t, mini.Addr(), origin), origin, "key", 5*time.Second)
		})
	}
}

// Every single flipped bit and every cut of a stored value is a miss.
func TestNoDamagedBitIsServed(t *testing.T) {
	mini := miniredis.RunT(t)
	origin := newLedger()
	writer := openOn(t, mini.Addr(), origin)
	if _, err := writer.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	writer.Wait(t.Context())
	key := mini.Keys()[0]
	whole, err := mini.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	ttl := mini.TTL(key)
	reader := openOn(t, mini.Addr(), origin, func(cfg *fleetConfig) { cfg.Local = nil })
	try := func(what, raw string) {
		mini.Set(key, raw)
		mini.SetTTL(key, ttl)
		r, err := reader.GetResult(t.Context(), "k", dewar.CacheOnly())
		if err == nil && (r.Value != "k@0" || r.Status != dewar.StatusHit) || err == nil && what != "whole" {
			t.Errorf("%s: %+v", what, r)
		} else if err != nil && what == "whole" {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("whole", whole)
	for i := range len(whole) {
		for bit := range 8 {
			raw := []byte(whole)
			raw[i] ^= 1 << bit
			try(fmt.Sprintf("bit %d of byte %d flipped", bit, i), string(raw))
		}
		try(fmt.Sprintf("cut to %d bytes", i), whole[:i])
	}
	try("whole", whole)
}

func TestReadersAreWellWhenTheirKeysHoldOtherTypes(t *testing.T) {
	server := startRedis(t)
	origin := newLedger()
	writer := openOn(t, server.addr, origin)
	keys := []string{"key0", "key1", "key2", "key3"}
	if _, err := writer.GetMany(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	writer.Wait(t.Context())
	rdb := redisClient(t, server.addr)
	for i, k := range rdb.Keys(t.Context(), "dewar:*").Val() {
		rdb.Del(t.Context(), k)
		switch i % 4 {
		case 0:
			rdb.HSet(t.Context(), k, "a", "b")
		case 1:
			rdb.LPush(t.Context(), k, "a")
		case 2:
			rdb.ZAdd(t.Context(), k, redis.Z{Score: 1, Member: "a"})
		case 3:
			rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: k, Values: []string{"a", "b"}})
		}
	}
	readersAreWell(t, openOn(t, server.addr, origin), origin, "key", 2*time.Second)
	lone := openOn(t, server.addr, origin, func(cfg *fleetConfig) { cfg.Local = nil })
	readersAreWell(t, lone, origin, "key", 2*time.Second)
	for _, k := range keys {
		origin.commit(k)
		if err := lone.Invalidate(t.Context(), k); err != nil {
			t.Errorf("Invalidate: %v", err)
		}
		if v, err := lone.Get(t.Context(), k); v != k+"@1" || err != nil {
			t.Error(v, err)
		}
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

// proxy stands between a client and Redis.
type proxy struct {
	addr string

	mu     sync.Mutex // guards what follows
	broken bool
	conns  []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			p.mu.Lock()
			if err != nil || p.broken {
				p.mu.Unlock()
				in.Close()
				if err == nil {
					out.Close()
				}
				continue
			}
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			wg.Go(func() { copyAll(in, out) })
			wg.Go(func() { copyAll(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut(true)
		wg.Wait()
	})
	return p
}

func copyAll(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	from.Close()
	to.Close()
}

// cut breaks all connections and refuses new ones, or ends that.
func (p *proxy) cut(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
	if broken {
		for _, c := range p.conns {
			c.Close()
		}
		p.conns = nil
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
