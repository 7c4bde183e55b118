package redistier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
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
	t.forgive()
	t.Announce(ctx, dewar.AnnounceInvalidate, keys, make([]dewar.Place, 2), errs)
	result["Announce"] = errs[1]
	t.forgive()
	result["NextEpoch"] = t.NextEpoch(ctx)
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
	server := startOwn(t)
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tier := openTier(t, Config[string]{Client: newClient(t, server.addr), Timeout: 50 * time.Millisecond}, o)
	tier.put(t, "k", "v")
	server.kill()
	for range 3 {
		for op, err := range everyOperation(t.Context(), tier) {
			if err == nil || errors.Is(err, ErrNotJoined) || errors.Is(err, ErrBreakerOpen) {
				t.Errorf("%s: error %v", op, err)
			}
		}
	}
	if tier.Stats().Errors == 0 {
		t.Error("no errors counted")
	}
	tier.lastWarn.Store(dewar.Clock() - int64(time.Hour)) // also when it lasts
	tier.readOne(t.Context(), "k")
	if text := strings.Join(log.lines(), "\n"); strings.Count(text, "Redis fails") != 1 {
		t.Errorf("logged %s", text)
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
	stalls := newProxy(t, realRedis(t))
	const timeout = 100 * time.Millisecond
	tier := openTier(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: timeout}, testOptions)
	tier.put(t, "k", "v")
	stalls.mute.Store(true)
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
		if took := time.Since(began); err == nil || errors.Is(err, ErrNotJoined) || took > timeout+400*time.Millisecond {
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
