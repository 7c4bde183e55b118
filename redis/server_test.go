package redistier

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/freeport"
	"github.com/redis/go-redis/v9"
)

// redisServer is a real server, started for this run of the tests.
type redisServer struct {
	addr string
	cmd  *exec.Cmd
}

var shared struct {
	once   sync.Once
	server *redisServer
	err    error
}

// quiet drops what go-redis says of servers that these tests kill.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		// Those that run beside others wait for servers, not for a processor.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if shared.server != nil {
		shared.server.stop()
	}
	os.Exit(code)
}

// realRedis returns the address of a server that all tests share, or skips.
func realRedis(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.server, shared.err = startServer() })
	if shared.err != nil {
		tb.Skip("needs a redis-server: ", shared.err)
	}
	return shared.server.addr
}

// ownRedis returns the address of a server that only this test uses, or skips.
func ownRedis(tb testing.TB) string {
	tb.Helper()
	s, err := startServer()
	if err != nil {
		tb.Skip("needs a redis-server: ", err)
	}
	tb.Cleanup(s.stop)
	return s.addr
}

func startServer() (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	for range 5 {
		var s *redisServer
		if s, err = tryServer(path); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// tryServer starts a server on a port that is free at this moment.
func tryServer(path string) (*redisServer, error) {
	port, err := freeport.Pick()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", port)
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &redisServer{addr: addr, cmd: cmd}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	// Somebody else's server may have taken the port in between: it must be
	// ours that answers.
	ours := fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)
	for range 500 {
		if info, err := rdb.Info(context.Background(), "server").Result(); err == nil {
			if strings.Contains(info, ours) {
				return s, nil
			}
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("%s did not start on %s", path, addr)
}

func (s *redisServer) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// startMini starts a miniredis whose clock keeps step with ours.
func startMini(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	mini := miniredis.RunT(tb)
	stop, stopped := make(chan struct{}), make(chan struct{})
	tb.Cleanup(func() { close(stop); <-stopped })
	go func() { // waited for by the Cleanup
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				mini.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	return mini
}

// newClient returns a client that the tier accepts.
func newClient(tb testing.TB, addr string, change ...func(*redis.Options)) *redis.Client {
	tb.Helper()
	opt := &redis.Options{Addr: addr, ContextTimeoutEnabled: true}
	for _, c := range change {
		c(opt)
	}
	rdb := redis.NewClient(opt)
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

var testOptions = dewar.RemoteOptions{
	Name: "videos", Schema: "0", LeaseFor: time.Minute, Logger: slog.New(slog.DiscardHandler),
}

// openTier opens a tier whose round trips may take long, for a loaded machine.
func openTier[V any](tb testing.TB, cfg Config[V], o dewar.RemoteOptions) *tier[V] {
	tb.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	opened, err := cfg.OpenRemote(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { opened.Close() })
	return opened.(*tier[V])
}

// miniTier opens a tier on a miniredis of its own.
func miniTier(tb testing.TB) (*tier[string], *miniredis.Miniredis) {
	tb.Helper()
	mini := startMini(tb)
	return openTier(tb, Config[string]{Client: newClient(tb, mini.Addr())}, testOptions), mini
}

func (t *tier[V]) readOne(ctx context.Context, key string) dewar.Found[V] {
	found := make([]dewar.Found[V], 1)
	t.Read(ctx, []string{key}, found)
	return found[0]
}

func (t *tier[V]) leaseOne(ctx context.Context, key string) dewar.Found[V] {
	found := make([]dewar.Found[V], 1)
	t.Lease(ctx, []string{key}, found)
	return found[0]
}

func (t *tier[V]) seizeOne(ctx context.Context, key string) dewar.Found[V] {
	found := make([]dewar.Found[V], 1)
	t.Seize(ctx, []string{key}, found)
	return found[0]
}

func (t *tier[V]) unlinkOne(ctx context.Context, key string) error {
	errs := make([]error, 1)
	t.Unlink(ctx, []string{key}, errs)
	return errs[0]
}

func (t *tier[V]) expireOne(ctx context.Context, key string) error {
	errs := make([]error, 1)
	t.Expire(ctx, []string{key}, time.Minute, errs)
	return errs[0]
}

// aFill is fresh for a minute, dead after two.
func aFill[V any](key string, fence dewar.Fence, v V) dewar.Fill[V] {
	now := dewar.Clock()
	fresh := now + int64(time.Minute)
	return dewar.Fill[V]{
		Key: key, Fence: fence, Dead: now + int64(2*time.Minute), Took: 5 * time.Millisecond,
		Entry: dewar.Entry[V]{Value: v, Loaded: now, Due: fresh, Fresh: fresh},
	}
}

func (t *tier[V]) fillOne(ctx context.Context, key string, fence dewar.Fence, v V) error {
	fills := []dewar.Fill[V]{aFill(key, fence, v)}
	t.Fill(ctx, fills)
	return fills[0].Err
}

// put stores v under key, whatever is there.
func (t *tier[V]) put(tb testing.TB, key string, v V) {
	tb.Helper()
	if err := t.fillOne(tb.Context(), key, t.seizeOne(tb.Context(), key).Fence, v); err != nil {
		tb.Fatal(err)
	}
}
