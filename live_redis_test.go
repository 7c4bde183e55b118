package dewar_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/freeport"
	redistier "github.com/dewarcache/dewar/redis"
)

// A real redis-server, or a way to one that can be cut, for the tests of this
// package.

// go-redis tells of every connection that fails.
func init() { logging.Disable() }

// liveRedis is a real server that a test stops and starts.
type liveRedis struct {
	tb   testing.TB
	addr string
	cmd  *exec.Cmd
}

// startRedis starts a server on a port of its own, or skips the test.
func startRedis(tb testing.TB) *liveRedis {
	tb.Helper()
	r := &liveRedis{tb: tb}
	tb.Cleanup(r.stop)
	r.start()
	return r
}

// unusedAddr is an address at which nobody listens: a port that no listener is
// given by chance.
const unusedAddr = "127.0.0.1:1"

// start starts the server where it was before, if it was.
func (r *liveRedis) start() {
	r.tb.Helper()
	for range 4 { // somebody may get the port in between
		port, err := freeport.Pick()
		if err != nil {
			r.tb.Fatal(err)
		}
		addr := net.JoinHostPort("127.0.0.1", port)
		if r.addr != "" {
			addr = r.addr
		}
		if r.run(addr) {
			r.addr = addr
			return
		}
	}
	r.tb.Fatal("redis-server does not start")
}

// run tries to start the server at addr, and tells whether it answers.
func (r *liveRedis) run(addr string) bool {
	r.tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		r.tb.Skip("redis-server is not installed: this test needs a real one")
	}
	_, port, _ := net.SplitHostPort(addr)
	r.cmd = exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--appendonly", "no", "--save", "", "--dir", r.tb.TempDir())
	if err := r.cmd.Start(); err != nil {
		r.tb.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
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
