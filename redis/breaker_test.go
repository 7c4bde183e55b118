package redistier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// forgive makes up for what the breakers have seen, unless they are open.
func (t *tier[V]) forgive() {
	for range tripInRow {
		t.nodes.only.reads.visitOnce(nil)
		t.nodes.only.writes.visitOnce(nil)
	}
}

func (b *breaker) visitOnce(verdict error) (allowed bool) {
	v, err := b.allow()
	if err == nil {
		v.end(verdict)
	}
	return err == nil
}

func TestBreakerOpensAfterFiveFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(testOptions.Logger, "n", "a:1", "reads")
		for i := range 100 {
			if verdict := []error{io.EOF, io.EOF, io.EOF, io.EOF, nil}[i%5]; i < 5 && !b.visitOnce(verdict) {
				t.Fatalf("visit %d refused", i)
			}
		}
		for i := range 5 {
			b.visitOnce(errUncounted) // says nothing
			if !b.visitOnce(io.EOF) {
				t.Fatalf("refused after %d failures", i)
			}
		}
		_, err := b.allow()
		if !errors.Is(err, ErrBreakerOpen) || !strings.Contains(err.Error(), "reads of a:1") {
			t.Fatalf("error %v", err)
		}
	})
}

func TestBreakerOpensWhenHalfOfTwentyFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(testOptions.Logger, "n", "a:1", "reads")
		n := 0
		for ; n < 40 && b.visitOnce([]error{nil, io.EOF}[n%2]); n++ {
			time.Sleep(100 * time.Millisecond)
		}
		if n != 20 {
			t.Errorf("opened after %d", n)
		}

		// The same spread over minutes is no reason.
		b = newBreaker(testOptions.Logger, "n", "a:1", "reads")
		for n = 0; n < 100 && !b.shut(); n++ {
			b.visitOnce([]error{nil, io.EOF}[n%2])
			if !b.shut() {
				time.Sleep(2 * time.Second)
			}
		}
		if n != 100 {
			t.Errorf("opened after %d", n)
		}
	})
}

func TestBreakerLetsOneProbeThroughAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		b := newBreaker(slog.New(slog.NewTextHandler(&log, nil)), "n", "a:1", "reads")
		for range tripInRow {
			b.visitOnce(io.EOF)
		}
		time.Sleep(799 * time.Millisecond)
		if !b.shut() || b.visitOnce(nil) {
			t.Fatal("allowed too soon")
		}
		time.Sleep(402 * time.Millisecond)
		probe, err := b.allow()
		if err != nil {
			t.Fatal(err)
		}
		if b.visitOnce(nil) {
			t.Error("a second probe beside the first")
		}
		probe.end(io.EOF)
		if b.visitOnce(nil) {
			t.Error("allowed after a probe failed")
		}
		time.Sleep(1201 * time.Millisecond)
		probe, err = b.allow()
		if err != nil {
			t.Fatal(err)
		}
		probe.end(errUncounted) // the caller left: somebody else is to find out
		if !b.visitOnce(nil) || b.shut() || !b.visitOnce(nil) {
			t.Error("did not close")
		}
		lines := log.lines()
		if len(lines) != 2 || !strings.Contains(lines[0], "WARN") || !strings.Contains(lines[0], "node=a:1") ||
			!strings.Contains(lines[1], "INFO") {
			t.Errorf("logged %q", lines)
		}
	})
}

func TestPausesOfBreakersDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(map[time.Duration]bool)
		for range 20 {
			b := newBreaker(testOptions.Logger, "n", "a:1", "reads")
			for range tripInRow {
				b.visitOnce(io.EOF)
			}
			began := time.Now()
			for !b.visitOnce(io.EOF) {
				time.Sleep(10 * time.Millisecond)
			}
			took := time.Since(began)
			if took < 800*time.Millisecond || took > 1210*time.Millisecond {
				t.Errorf("paused for %v", took)
			}
			seen[took] = true
		}
		if len(seen) < 5 {
			t.Errorf("%d different pauses of 20", len(seen))
		}
	})
}

func TestWhatCountsAsAFailureOfTheNode(t *testing.T) {
	left, cancel := context.WithCancel(context.Background())
	cancel()
	timeout := &net.OpError{Op: "read", Err: context.DeadlineExceeded}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "fine"},
		{redis.Nil, "fine"},
		{io.EOF, "failure"},
		{timeout, "failure"},
		{context.DeadlineExceeded, "failure"},
		{syscall.ECONNREFUSED, "failure"},
		{redis.ErrPoolTimeout, "failure"},
		{fmt.Errorf("wrapped: %w", errorReply("LOADING Redis is loading the dataset in memory")), "failure"},
		{errorReply("LOADING Redis is loading the dataset in memory"), "failure"},
		{errorReply("CLUSTERDOWN Hash slot not served"), "failure"},
		{errorReply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), "failure"},
		{errorReply("BUSY Redis is busy running a script."), "failure"},
		{errorReply("READONLY You can't write against a read only replica."), "failure"},
		{errorReply("ERR max number of clients reached"), "failure"},
		{errorReply("WRONGTYPE Operation against a key holding the wrong kind of value"), "fine"},
		{errorReply("NOSCRIPT No matching script."), "fine"},
		{errorReply("MOVED 1 127.0.0.1:1"), "fine"},
		{errorReply("ASK 1 127.0.0.1:1"), "fine"},
		{errorReply("OOM command not allowed when used memory > 'maxmemory'."), "fine"},
		{errorReply("NOAUTH Authentication required."), "fine"},
		{errorReply("WRONGPASS invalid username-password pair or user is disabled."), "fine"},
		{errorReply("NOPERM this user has no permissions"), "fine"},
		{errorReply("MISCONF Redis is configured to save RDB snapshots"), "fine"},
	} {
		of := func(ctx context.Context) string {
			switch v := blame(ctx, c.err); v {
			case nil:
				return "fine"
			case errUncounted:
				return "uncounted"
			default:
				return "failure"
			}
		}
		if got := of(context.Background()); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
		if _, answered := errors.AsType[redis.Error](c.err); answered || c.err == nil {
			continue
		}
		if got := of(left); got != "uncounted" {
			t.Errorf("%v after the caller left: %s", c.err, got)
		}
	}
}

func TestOpenBreakerKeepsReadersFromADeadServerAndWritersApart(t *testing.T) {
	server := startOwn(t)
	client := newClient(t, server.addr)
	tier := openTier(t, Config[string]{Client: client, Timeout: 100 * time.Millisecond}, testOptions)
	tier.put(t, "k", "v")
	server.signal(t, syscall.SIGSTOP)
	for asked := 0; !errors.Is(tier.readOne(t.Context(), "k").Err, ErrBreakerOpen); asked++ {
		if asked == tripInRow { // fewer do if the bus has failed as well
			t.Fatal("still closed")
		}
	}
	counted := tier.Stats().Errors
	began := time.Now()
	for range 1000 {
		if time.Since(began) > 500*time.Millisecond {
			break // a probe may be due soon, on a machine this slow
		}
		if f := tier.readOne(t.Context(), "k"); !errors.Is(f.Err, ErrBreakerOpen) {
			t.Fatalf("state %d, error %v", f.State, f.Err)
		}
	}
	if got := tier.Stats(); got.OpenBreakers != 1 || got.Errors > counted+2 { // the bus's, again
		t.Errorf("%+v, want %d errors", got, counted)
	}
	if err := tier.unlinkOne(t.Context(), "k"); err == nil || errors.Is(err, ErrBreakerOpen) {
		t.Errorf("the breaker of writes opened for reads: %v", err)
	}
	// What tells the fleet counts among the writes.
	announce := func() error {
		errs := make([]error, 1)
		tier.Announce(t.Context(), dewar.AnnounceInvalidate, []string{"k"}, make([]dewar.Place, 1), errs)
		return errs[0]
	}
	for i := range tripInRow - 1 {
		tell := announce
		if i%2 == 0 {
			tell = func() error { return tier.NextEpoch(t.Context()) }
		}
		if err := tell(); err == nil || errors.Is(err, ErrBreakerOpen) {
			t.Errorf("a stopped server was told: %v", err)
		}
	}
	counted = tier.Stats().Errors
	if err := announce(); !errors.Is(err, ErrBreakerOpen) || tier.Stats().Errors != counted {
		t.Errorf("the announcement was sent past a breaker: %v", err)
	}
	server.signal(t, syscall.SIGCONT)
	waitFor(t, "the tier to come back", func() bool {
		return tier.readOne(t.Context(), "k").Err == nil && announce() == nil && tier.Stats().OpenBreakers == 0
	})
}

func TestCallersWhoLeaveOpenNoBreaker(t *testing.T) {
	server := startOwn(t)
	tier := openTier(t, Config[string]{Client: newClient(t, server.addr)}, testOptions)
	tier.put(t, "k", "v")
	server.signal(t, syscall.SIGSTOP)
	for range 2 * tripInRow {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if f := tier.readOne(ctx, "k"); f.Err == nil || errors.Is(f.Err, ErrBreakerOpen) {
			t.Errorf("state %d, error %v", f.State, f.Err)
		}
		cancel()
	}
	server.signal(t, syscall.SIGCONT)
	if n := tier.Stats().OpenBreakers; n != 0 {
		t.Errorf("%d breakers open", n)
	}
}

func TestServerThatLoadsIsLeftAlone(t *testing.T) {
	mini := startMini(t)
	tier := openTier(t, Config[string]{Client: newClient(t, mini.Addr(), func(o *redis.Options) { o.MaxRetries = -1 })}, testOptions)
	mini.SetError("LOADING Redis is loading the dataset in memory")
	for range tripInRow {
		tier.readOne(t.Context(), "k")
	}
	if f := tier.readOne(t.Context(), "k"); !errors.Is(f.Err, ErrBreakerOpen) {
		t.Errorf("error %v", f.Err)
	}
	mini.SetError("")
	waitFor(t, "the server to be asked again", func() bool { return tier.readOne(t.Context(), "k").Err == nil })
}

func TestFullServerRefusesFillsAndStillDeletes(t *testing.T) {
	server := startOwn(t)
	client := newClient(t, server.addr)
	tier := openTier(t, Config[string]{Client: client}, testOptions)
	tier.put(t, "k", "v")
	fence := tier.leaseOne(t.Context(), "l").Fence
	for key, value := range map[string]string{"maxmemory-policy": "noeviction", "maxmemory": "1"} {
		if err := client.ConfigSet(t.Context(), key, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * tripInRow {
		if f := tier.leaseOne(t.Context(), "m"); f.State != dewar.RemoteFailed || !redis.IsOOMError(f.Err) {
			t.Fatalf("state %d, error %v", f.State, f.Err)
		}
		if err := tier.fillOne(t.Context(), "l", fence, "v"); !redis.IsOOMError(err) {
			t.Fatalf("Fill: %v", err)
		}
	}
	if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Errorf("state %d, error %v", f.State, f.Err)
	}
	if err := tier.unlinkOne(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent {
		t.Errorf("state %d after Unlink", f.State)
	}
}

func TestScriptThatDoesNotEndOpensTheBreakersUntilItIsKilled(t *testing.T) {
	server := startOwn(t)
	client := newClient(t, server.addr, func(o *redis.Options) { o.MaxRetries = -1 })
	tier := openTier(t, Config[string]{Client: client, Timeout: time.Second}, testOptions)
	tier.put(t, "k", "v")
	if err := client.ConfigSet(t.Context(), "busy-reply-threshold", "1").Err(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // waited for below
		defer close(ended)
		other := redis.NewClient(&redis.Options{Addr: server.addr, ReadTimeout: time.Minute, MaxRetries: -1})
		defer other.Close()
		other.Eval(context.Background(), "while true do end", nil)
	}()
	waitFor(t, "Redis to be busy", func() bool {
		f := tier.readOne(t.Context(), "k")
		return f.Err != nil && strings.Contains(f.Err.Error(), "BUSY")
	})
	waitFor(t, "the breaker to open", func() bool {
		return errors.Is(tier.readOne(t.Context(), "k").Err, ErrBreakerOpen)
	})
	if err := client.ScriptKill(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	<-ended
	waitFor(t, "the value to be read", func() bool { return tier.readOne(t.Context(), "k").State == dewar.RemoteValue })
}

func TestDeniedCommandsRaiseTheAlarmAndOpenNoBreaker(t *testing.T) {
	server := startOwn(t)
	admin := newClient(t, server.addr)
	acl := func(rules ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "app"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("on", ">secret", "~*", "&*", "+@all")
	client := newClient(t, server.addr, func(o *redis.Options) { o.Username = "app"; o.Password = "secret" })
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tier := openTier(t, Config[string]{Client: client}, o)
	tier.put(t, "k", "v")
	acl("-set", "-get")
	for range 2 * tripInRow {
		if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteFailed || !redis.IsPermissionError(f.Err) {
			t.Fatalf("state %d, error %v", f.State, f.Err)
		}
		if f := tier.leaseOne(t.Context(), "l"); f.State != dewar.RemoteFailed || !redis.IsPermissionError(f.Err) {
			t.Fatalf("Lease: state %d, error %v", f.State, f.Err)
		}
	}
	got := tier.Stats()
	if got.Denied != 4*tripInRow || got.OpenBreakers != 0 {
		t.Errorf("%+v", got)
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "ERROR") || !strings.Contains(lines[0], "NOPERM") {
		t.Errorf("logged %q", lines)
	}
	acl("+@all")
	if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Errorf("state %d, error %v", f.State, f.Err)
	}
}

func TestRefusalsOfManyKeysAtOnceOpenTheBreaker(t *testing.T) {
	tier, mini := miniTier(t)
	tier.put(t, "a", "v")
	mini.SetError("LOADING Redis is loading the dataset in memory")
	found := make([]dewar.Found[string], 2)
	for range tripInRow {
		tier.Read(t.Context(), []string{"a", "b"}, found)
		if found[0].State != dewar.RemoteFailed {
			t.Fatalf("%+v; want a failure", found[0])
		}
	}
	if n := tier.Stats().OpenBreakers; n != 1 {
		t.Errorf("%d breakers are open after %d refusals to serve", n, tripInRow)
	}
}
