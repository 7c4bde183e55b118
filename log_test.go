package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// heard keeps log lines.
type heard struct{ logBuffer }

func (h *heard) logger() *slog.Logger { return slog.New(slog.NewTextHandler(h, nil)) }

// lines returns the lines so far that have all the words.
func (h *heard) lines(words ...string) (lines []string) {
	for line := range strings.Lines(h.String()) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestALineThatRepeatsIsLoggedOnceASecondAndTheOthersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		cfg := localOnly(newOrigin(0))
		cfg.Logger = log.logger()
		cfg.Flight.Timeout = time.Second
		cfg.Load = func(context.Context, string) (string, error) {
			time.Sleep(time.Minute)
			return "", nil
		}
		c := open(t, cfg)
		for i := range 40 { // one is late each 100 ms
			go c.Get(context.Background(), fmt.Sprint("key", i))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		lines := log.lines("a load is past its time")
		if len(lines) < 4 || len(lines) > 5 {
			t.Errorf("%d lines in 4 s", len(lines))
		}
		if !strings.Contains(lines[0], `unsaid=0`) || !strings.Contains(lines[0], `first="\"key0\""`) || !strings.Contains(lines[1], "unsaid=9") {
			t.Errorf("%s", lines)
		}
		time.Sleep(time.Minute)
	})
}

func TestKeysInLogLinesAreQuotedAndCutOrHashed(t *testing.T) {
	long := strings.Repeat("é", 40) // 80 bytes
	cfg := localOnly(newOrigin(0))
	quoted := open(t, cfg)
	for key, want := range map[string]string{
		"":                              `""`,
		"a":                             `"a"`,
		"two\nlines":                    `"two\nlines"`,
		"\xff\u202e\x00":                `"\xff\u202e\x00"`,
		strings.Repeat("x", 64):         `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("x", 65):         `"` + strings.Repeat("x", 64) + `"...`,
		long:                            `"` + strings.Repeat("é", 32) + `"...`,
		"x" + long:                      `"x` + strings.Repeat("é", 31) + `"...`, // no half of one
		strings.Repeat("\x80", 70):      `"` + strings.Repeat(`\x80`, 60) + `"...`,
		"x" + strings.Repeat("世", 1000): `"x` + strings.Repeat("世", 21) + `"...`,
	} {
		if got := quoted.LogKey(key); got != want {
			t.Errorf("%.80q: %s, want %s", key, got, want)
		}
	}
	cfg.LogKeys = dewar.KeysHashed
	hashed := open(t, cfg)
	seen := make(map[string]bool)
	for _, key := range []string{"", "a", "b", long, "x" + long} {
		got := hashed.LogKey(key)
		if len(got) != 16 || strings.Trim(got, "0123456789abcdef") != "" || seen[got] {
			t.Errorf("%q: %s", key, got)
		}
		seen[got] = true
	}
}

func TestTheJournalOfInvalidationsTellsThatItFillsAndThatItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		w := setScene(t, func(cfg *config) { cfg.Logger = log.logger() })
		w.read("bystander")
		if err := w.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.chaos.Down(true)
		ks := keys(100_010)
		if err := w.Invalidate(t.Context(), ks[:49_999]...); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		if n := len(log.lines("journal")); n != 0 {
			t.Errorf("%d lines before it is half full", n)
		}
		_ = w.Invalidate(t.Context(), ks[49_999:60_000]...)
		if n := len(log.lines("level=WARN", "journal", "half full", "keys=50000")); n != 1 {
			t.Errorf("%d lines that it is half full", n)
		}
		_ = w.Invalidate(t.Context(), ks[:100_000]...)
		if n := len(log.lines("invalidations is full")); n != 0 || w.Stats().PendingInvalidations != 100_000 {
			t.Errorf("%d lines that it is full, with %d keys", n, w.Stats().PendingInvalidations)
		}
		_ = w.Invalidate(t.Context(), ks[100_000:]...)
		if n := len(log.lines("level=WARN", "journal", "invalidations is full", "keys=100000")); n != 1 {
			t.Errorf("%d lines that it is full", n)
		}
		w.chaos.Down(false)
		time.Sleep(time.Minute)
		if n := len(log.lines("level=INFO", "all invalidations are confirmed")); n != 1 || w.Stats().PendingInvalidations != 0 {
			t.Errorf("%d lines that all is done, %d pending", n, w.Stats().PendingInvalidations)
		}
		if in, err := w.Inspect(t.Context(), "bystander"); err != nil || in.RemoteState != "absent" {
			t.Errorf("%+v, %v: a full journal invalidates all", in, err)
		}
		w.chaos.Down(true)
		_ = w.Invalidate(t.Context(), ks[:50_000]...)
		if n := len(log.lines("half full")); n != 2 {
			t.Errorf("%d lines once it has filled again", n)
		}
		w.chaos.Down(false)
	})
}

func TestInvalidationsThatAreConfirmedSoonAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		w := setScene(t, func(cfg *config) { cfg.Logger = log.logger() })
		for i := range 20 {
			w.chaos.Down(true)
			_ = w.Invalidate(t.Context(), fmt.Sprint(i))
			w.chaos.Down(false)
			time.Sleep(200 * time.Millisecond)
		}
		began, ended := log.lines("is not confirmed"), log.lines("all invalidations are confirmed")
		if len(began) < 3 || len(began) > 5 || len(ended) != len(began) {
			t.Errorf("%d lines that it begins and %d that it ends in 4 s", len(began), len(ended))
		}
	})
}

func TestHashedKeysDoNotStandInTheBreakersLogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		o := newOrigin(0)
		cfg := batched(o)
		cfg.Logger, cfg.LogKeys = log.logger(), dewar.KeysHashed
		cfg.Guard.Breaker = dewar.Breaker{FailureRatio: 0.5, MinRequests: 2}
		cfg.LoadMany = func(_ context.Context, ks []string) (map[string]string, error) {
			e := new(dewar.BatchError[string])
			for _, k := range ks {
				e.Errs = append(e.Errs, dewar.KeyError[string]{Key: k, Err: errOrigin})
			}
			return nil, e
		}
		c := open(t, cfg)
		for i := range 5 {
			_, _ = c.GetMany(t.Context(), []string{fmt.Sprint("alice@example.com-", i), "bob@example.com"})
		}
		synctest.Wait()
		for _, l := range log.lines("example.com") {
			t.Errorf("a key with KeysHashed: %s", l)
		}
		if n := len(log.lines("breaker opened", errOrigin.Error())); n != 1 {
			t.Errorf("%d lines that the breaker has opened, and why", n)
		}
	})
}

func TestAPanickingAcceptsIsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		o := newOrigin(0)
		o.fail(errOrigin)
		cfg := localOnly(o)
		cfg.Logger = log.logger()
		cfg.Stale = dewar.Stale{IfError: time.Hour, Accepts: func(error) bool { panic("oops") }}
		cfg.Guard.Breaker.FailureRatio = -1
		c := open(t, cfg)
		for i := range 100 {
			_, _ = c.Get(t.Context(), fmt.Sprint(i))
		}
		if n := len(log.lines("Accepts panicked")); n != 1 {
			t.Errorf("%d lines in no time", n)
		}
	})
}

type panickyBreaker struct{}

func (panickyBreaker) Allow() (func(error), error) { panic("oops") }

func TestAPanickingBreakerIsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		cfg := localOnly(newOrigin(0))
		cfg.Logger = log.logger()
		cfg.Guard.Breaker.Use = panickyBreaker{}
		c := open(t, cfg)
		for i := range 100 {
			_, _ = c.Get(t.Context(), fmt.Sprint(i))
		}
		if n := len(log.lines("Use panicked")); n != 1 {
			t.Errorf("%d lines in no time", n)
		}
	})
}

func TestALongOutageOfInvalidationsIsToldAlsoSoonAfterAShortOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log heard
		w := setScene(t, func(cfg *config) { cfg.Logger = log.logger() })
		w.chaos.Down(true)
		_ = w.Invalidate(t.Context(), "a")
		time.Sleep(60 * time.Millisecond)
		w.chaos.Down(false)
		time.Sleep(300 * time.Millisecond)
		if n := w.Stats().PendingInvalidations; n != 0 {
			t.Fatal(n)
		}
		w.chaos.Down(true)
		if err := w.Invalidate(t.Context(), "b"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := w.Invalidate(t.Context(), "c"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(log.lines("an invalidation is not confirmed")); n != 2 {
			t.Errorf("two outages, the second of two hours: %d lines\n%s", n, strings.Join(log.lines("invalidation"), ""))
		}
		w.chaos.Down(false)
		time.Sleep(10 * time.Second)
		if n := len(log.lines("all invalidations are confirmed")); n != 2 {
			t.Errorf("%d times told that all are confirmed", n)
		}
	})
}
