package redistier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// everyOperation returns the error of each operation on two keys. Breakers do
// not hinder it.
func everyOperation(ctx context.Context, t *tier[string]) map[string]error {
	keys := []string{"k", "l"}
	result := make(map[string]error)
	for op, do := range map[string]func(context.Context, []string, []dewar.Found[string]){
		"Read": t.Read, "Lease": t.Lease, "Seize": t.Seize, "LeaseRefresh": t.LeaseRefresh,
	} {
		t.forgive()
		found := make([]dewar.Found[string], 2)
		do(ctx, keys, found)
		result[op] = found[1].Err
		if found[0].State != dewar.RemoteFailed || found[1].State != dewar.RemoteFailed {
			result[op] = nil
		}
	}
	for op, do := range map[string]func(context.Context, []dewar.Fill[string]){"Fill": t.Fill, "Release": t.Release, "Renew": t.Renew} {
		t.forgive()
		fills := []dewar.Fill[string]{aFill("k", newFence(kindLease), "v"), aFill("l", newFence(kindLease), "v")}
		do(ctx, fills)
		result[op] = fills[1].Err
	}
	errs := make([]error, 2)
	t.forgive()
	t.Unlink(ctx, keys, errs)
	result["Unlink"] = errs[1]
	t.Expire(ctx, keys, time.Minute, errs)
	result["Expire"] = errs[1]
	return result
}

// logLines counts what is logged at Warn, and sees what it says.
type logLines struct {
	mu  sync.Mutex // mu guards buf
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

func TestDeadServerFailsEveryKeyAndIsLoggedOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tier := openTier(t, Config[string]{Client: newClient(t, addr), Timeout: 50 * time.Millisecond}, o)
	for range 3 {
		for op, err := range everyOperation(t.Context(), tier) {
			if err == nil {
				t.Errorf("%s: no error", op)
			}
		}
	}
	if tier.Stats().Errors == 0 {
		t.Error("no errors counted")
	}
	tier.lastWarn.Store(dewar.Clock() - int64(time.Hour)) // also when it lasts
	tier.readOne(t.Context(), "k")
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "Redis fails") {
		t.Errorf("logged %q", lines)
	}
}

func TestLogHearsThatRedisIsBackAndNoKeys(t *testing.T) {
	mini := startMini(t)
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tier := openTier(t, Config[string]{Client: newClient(t, mini.Addr())}, o)
	const secret = "alice@example.com"
	mini.SetError("LOADING Redis is loading the dataset in memory")
	for range 3 {
		if f := tier.leaseOne(t.Context(), secret); f.State != dewar.RemoteFailed || !strings.Contains(f.Err.Error(), "LOADING") {
			t.Errorf("state %d, error %v", f.State, f.Err)
		}
	}
	mini.SetError("")
	for range 3 {
		tier.readOne(t.Context(), secret)
	}
	mini.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	tier.leaseOne(t.Context(), secret) // too soon for another warning
	lines := log.lines()
	if len(lines) != 2 || !strings.Contains(lines[0], "Redis fails") || !strings.Contains(lines[1], "Redis is back") {
		t.Errorf("logged %q", lines)
	}
	if strings.Contains(strings.Join(lines, ""), "alice") {
		t.Errorf("a key was logged: %q", lines)
	}
}

func TestStalledServerComesBackWithinTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	const timeout = 100 * time.Millisecond
	tier := openTier(t, Config[string]{Client: newClient(t, l.Addr().String()), Timeout: timeout}, testOptions)
	for _, op := range []func() error{
		func() error { return tier.readOne(t.Context(), "k").Err },
		func() error { return tier.leaseOne(t.Context(), "k").Err },
		func() error { return tier.fillOne(t.Context(), "k", newFence(kindLease), "v") },
		func() error { return tier.unlinkOne(t.Context(), "k") },
		func() error { return tier.expireOne(t.Context(), "k") },
		func() error { // 10 batches are not 10 timeouts
			keys := make([]string, 10*maxBatch)
			found := make([]dewar.Found[string], len(keys))
			tier.Read(t.Context(), keys, found)
			return found[len(keys)-1].Err
		},
	} {
		began := time.Now()
		err := op()
		if took := time.Since(began); err == nil || took > timeout+400*time.Millisecond {
			t.Errorf("error %v after %v", err, took)
		}
	}
}

func TestCallersDeadlineBoundsARoundTripAndIsNotRedissFault(t *testing.T) {
	stalls := newProxy(t, realRedis(t))
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tier := openTier(t, Config[string]{Client: newClient(t, stalls.addr())}, o)
	stalls.mute.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	f := tier.readOne(ctx, "k")
	if took := time.Since(began); f.State != dewar.RemoteFailed || took > 300*time.Millisecond {
		t.Errorf("state %d after %v", f.State, took)
	}
	if lines := log.lines(); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}
}

func TestExhaustedPoolFailsWithinTimeout(t *testing.T) {
	client := newClient(t, realRedis(t), func(o *redis.Options) { o.PoolSize = 1; o.MaxActiveConns = 1 })
	tier := openTier(t, Config[string]{Client: client, Timeout: 50 * time.Millisecond}, testOptions)
	conn := client.Conn() // takes the only connection
	defer conn.Close()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	f := tier.readOne(t.Context(), "k")
	if took := time.Since(began); f.State != dewar.RemoteFailed || took > time.Second {
		t.Errorf("state %d after %v", f.State, took)
	}
}

func TestErrorsThatRedisAnswersAreFailuresOfTheirKeys(t *testing.T) {
	for _, answer := range []string{
		"LOADING Redis is loading the dataset in memory",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"READONLY You can't write against a read only replica.",
		"NOAUTH Authentication required.",
		"ERR max number of clients reached",
	} {
		mini := startMini(t)
		client := newClient(t, mini.Addr(), func(o *redis.Options) { o.MaxRetryBackoff = time.Millisecond })
		tier := openTier(t, Config[string]{Client: client}, testOptions)
		tier.readOne(t.Context(), "k") // connect
		mini.SetError(answer)
		for op, err := range everyOperation(t.Context(), tier) {
			if err == nil || !strings.Contains(err.Error(), strings.Fields(answer)[0]) {
				t.Errorf("%s: %s: error %v", answer, op, err)
			}
			if _, ok := errors.AsType[redis.Error](err); !ok {
				t.Errorf("%s: %s: error %v is not Redis's", answer, op, err)
			}
		}
	}
}

func TestDoneContextSendsNothing(t *testing.T) {
	tier, _ := miniTier(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, err := range everyOperation(ctx, tier) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
	got := tier.Stats()
	got.Epoch, got.SilentFor = 0, 0
	if got != (dewar.RemoteStats{}) {
		t.Errorf("counted %+v", got)
	}
}

// meddler writes under dk after every look at it.
type meddler struct {
	dk    string
	write func()
	looks int
}

func (m *meddler) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *meddler) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (m *meddler) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "get" && cmd.Args()[1] == m.dk {
			m.looks++
			m.write()
		}
		return err
	}
}

func TestExpireDeletesWhatChangesEveryTimeItLooks(t *testing.T) {
	mini := startMini(t)
	client := newClient(t, mini.Addr())
	tier := openTier(t, Config[string]{Client: client}, testOptions)
	direct := openTier(t, Config[string]{Client: newClient(t, mini.Addr())}, testOptions)
	busy := &meddler{dk: tier.keys.Load().redisKey("k"), write: func() { direct.put(t, "k", "again") }}
	direct.put(t, "k", "v")
	client.AddHook(busy)
	if err := tier.expireOne(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if mini.Exists(busy.dk) || busy.looks != expireRounds {
		t.Errorf("there: %v, after %d looks", mini.Exists(busy.dk), busy.looks)
	}

	direct.put(t, "k", "v")
	busy.looks = 0
	busy.write = func() {
		if busy.looks == 1 {
			direct.put(t, "k", "once more")
		}
	}
	if err := tier.expireOne(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if f := direct.readOne(t.Context(), "k"); f.Entry.Value != "once more" || f.Entry.Fresh > dewar.Clock() {
		t.Errorf("state %d, %q: not the second value, stale", f.State, f.Entry.Value)
	}
}

func TestClosedTierFailsWithErrClosedAndLeavesTheClient(t *testing.T) {
	tier, _ := miniTier(t)
	if err := errors.Join(tier.Close(), tier.Close()); err != nil {
		t.Fatal(err)
	}
	for op, err := range everyOperation(t.Context(), tier) {
		if !errors.Is(err, dewar.ErrClosed) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := tier.client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the caller's client was closed: %v", err)
	}
}

func TestScriptsThatRedisForgotAreSentAgain(t *testing.T) {
	addr := ownRedis(t)
	client := newClient(t, addr)
	for name, c := range map[string]redis.UniversalClient{"pipeline": client, "single keys": oneNode{client}} {
		tier := openTier(t, Config[string]{Client: c}, testOptions)
		for round := range 2 {
			if err := client.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			var fills []dewar.Fill[string]
			for i := range 20 {
				key := fmt.Sprint(name, round, i)
				fence := tier.leaseOne(t.Context(), key).Fence
				if i%5 == 4 {
					fence = newFence(kindLease) // not in place
				}
				fills = append(fills, aFill(key, fence, key))
			}
			tier.Fill(t.Context(), fills)
			for i, f := range fills {
				if want := i%5 == 4; errors.Is(f.Err, dewar.ErrFenced) != want || !want && f.Err != nil {
					t.Errorf("%s: fill %d: %v", name, i, f.Err)
				}
			}
		}
		if got := tier.Stats(); got.Errors != 0 || got.Refused != 8 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// cuttingProxy forwards to Redis and, when told to, breaks the connection
// after a command was executed and before its reply came through.
type cuttingProxy struct {
	addr string
	cut  atomic.Pointer[string] // text in a request whose reply is to be lost
	seen atomic.Int32           // requests with that text, since it was set
	most atomic.Int32           // how many of them lose their reply
}

func startProxy(t *testing.T, target string) *cuttingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cuttingProxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener, its connections with the client's
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", target)
			if err != nil {
				down.Close()
				continue
			}
			wg.Go(func() { p.serve(down, up) })
		}
	}()
	return p
}

// serve handles one request and reply at a time, which is how go-redis uses a
// connection.
func (p *cuttingProxy) serve(down, up net.Conn) {
	defer down.Close()
	defer up.Close()
	lose := make(chan struct{})
	var losing atomic.Bool
	go func() { // ends with up
		buf := make([]byte, 64<<10)
		for {
			n, err := up.Read(buf)
			if losing.Load() {
				close(lose) // the reply is here, so the command was executed
				return
			}
			if n > 0 {
				down.Write(buf[:n])
			}
			if err != nil {
				down.Close()
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := down.Read(buf)
		if err != nil {
			return
		}
		if text := p.cut.Load(); text != nil && bytes.Contains(bytes.ToLower(buf[:n]), []byte(*text)) {
			if p.seen.Add(1) <= p.most.Load() {
				losing.Store(true)
				up.Write(buf[:n])
				<-lose
				return
			}
		}
		if _, err := io.Copy(up, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// lose makes the replies to the next requests with text get lost.
func (p *cuttingProxy) lose(text string, most int32) {
	p.seen.Store(0)
	p.most.Store(most)
	p.cut.Store(&text)
}

func (p *cuttingProxy) pass() { p.cut.Store(nil) }

func TestWritesWhoseReplyIsLostAreSentOnceAndDeletionsAgain(t *testing.T) {
	proxy := startProxy(t, realRedis(t))
	client := newClient(t, proxy.addr, func(o *redis.Options) {
		o.MaxRetries = 3
		o.MaxRetryBackoff = time.Millisecond
	})
	o := testOptions
	o.Name = "lost-replies"
	tier := openTier(t, Config[string]{Client: client}, o)
	direct := openTier(t, Config[string]{Client: newClient(t, realRedis(t))}, o)
	ctx := t.Context()
	direct.put(t, "warm", "up") // the scripts are known
	direct.Release(ctx, []dewar.Fill[string]{{Key: "warm", Fence: newFence(kindLease)}})
	direct.Renew(ctx, []dewar.Fill[string]{{Key: "warm", Fence: newFence(kindLease)}})

	many := func(n int) []string { return benchKeys(n) }
	for _, n := range []int{1, 3} { // one command, and a pipeline
		keys := many(n)
		found := make([]dewar.Found[string], n)
		errs := make([]error, n)
		fills := make([]dewar.Fill[string], n)
		for _, c := range []struct {
			name, text string
			do         func() error
			want       int // requests
		}{
			{"Lease", "$2\r\nnx\r\n", func() error { tier.Lease(ctx, keys, found); return found[n-1].Err }, 1},
			{"Seize", "$3\r\nset\r\n", func() error { tier.Seize(ctx, keys, found); return found[n-1].Err }, 1},
			{"Fill", "evalsha", func() error { tier.Fill(ctx, fills); return fills[n-1].Err }, 1},
			{"Release", "evalsha", func() error { tier.Release(ctx, fills); return fills[n-1].Err }, 1},
			{"Renew", "evalsha", func() error { tier.Renew(ctx, fills); return fills[n-1].Err }, 1},
			{"LeaseRefresh", "$2\r\nnx\r\n", func() error { tier.LeaseRefresh(ctx, keys, found); return found[n-1].Err }, 1},
			{"Expire", "evalsha", func() error { tier.Expire(ctx, keys, time.Minute, errs); return errs[n-1] }, 1},
			{"Unlink", "unlink", func() error { tier.Unlink(ctx, keys, errs); return errs[n-1] }, 4},
			{"Read", "get\r\n", func() error { tier.Read(ctx, keys, found); return found[n-1].Err }, 4},
		} {
			proxy.pass()
			tier.forgive()
			direct.Unlink(ctx, keys, errs)
			switch c.name {
			case "Fill", "Release", "Renew":
				direct.Lease(ctx, keys, found)
				for i, key := range keys {
					fills[i] = aFill(key, found[i].Fence, "v")
				}
			case "Expire":
				for _, key := range keys {
					direct.put(t, key, "v")
				}
			}
			tier.readOne(ctx, "warm") // so that the connection is up
			proxy.lose(c.text, 1000)
			err := c.do()
			proxy.pass()
			want := c.want
			if c.name == "Read" && n > 1 {
				want++ // the raw try, then the usual ones
			}
			if got := int(proxy.seen.Load()); got != want || err == nil {
				t.Errorf("%s of %d: sent %d times, want %d (error %v)", c.name, n, got, want, err)
			}
			if c.name == "Fill" {
				if f := direct.readOne(ctx, keys[0]); f.State != dewar.RemoteValue {
					t.Errorf("Fill of %d: not executed: state %d", n, f.State)
				}
			}
		}
	}

	tier.forgive()
	// A single loss is not noticed where commands may be repeated.
	for _, n := range []int{1, 3} {
		keys := many(n)
		for _, key := range keys {
			direct.put(t, key, "v")
		}
		proxy.lose("get\r\n", 1)
		found := make([]dewar.Found[string], n)
		if tier.Read(ctx, keys, found); found[n-1].State != dewar.RemoteValue || proxy.seen.Load() != 2 {
			t.Errorf("Read of %d: state %d, sent %d times", n, found[n-1].State, proxy.seen.Load())
		}
		proxy.lose("unlink", 1)
		errs := make([]error, n)
		if tier.Unlink(ctx, keys, errs); errs[n-1] != nil || proxy.seen.Load() != 2 {
			t.Errorf("Unlink of %d: %v, sent %d times", n, errs[n-1], proxy.seen.Load())
		}
	}
}
