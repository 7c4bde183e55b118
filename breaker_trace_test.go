package dewar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// What Trace and Logger hear of a breaker.

// changes records what Trace.BreakerChanged hears.
type changes struct {
	mu   sync.Mutex // guards seen
	seen []dewar.BreakerChange
}

func (c *changes) trace() *dewar.Trace {
	return &dewar.Trace{BreakerChanged: func(ch dewar.BreakerChange) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen = append(c.seen, ch)
	}}
}

func (c *changes) all() []dewar.BreakerChange {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// states are those that it changed to.
func (c *changes) states() (states []dewar.BreakerState) {
	for _, ch := range c.all() {
		states = append(states, ch.To)
	}
	return states
}

func TestAHookMayUseTheCacheThatItIsToldBy(t *testing.T) {
	for name, uses := range map[string]func(ctx context.Context, c *cache) error{
		"Get of the same key":     func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a"); return err },
		"GetMany":                 func(ctx context.Context, c *cache) error { _, err := c.GetMany(ctx, []string{"a", "b"}); return err },
		"Refresh":                 func(ctx context.Context, c *cache) error { return c.Refresh(ctx, "a") },
		"Set":                     func(ctx context.Context, c *cache) error { return c.Set(ctx, "b", "set") },
		"Invalidate":              func(ctx context.Context, c *cache) error { return c.Invalidate(ctx, "a") },
		"Stats":                   func(_ context.Context, c *cache) error { _ = c.Stats(); return nil },
		"Get of a key not cached": func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "cold"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *cache
				var mu sync.Mutex
				var heard []dewar.BreakerState
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Guard.MaxConcurrent = 1
				cfg.Guard.Breaker = tripping()
				cfg.Guard.Breaker.Probes = 2 // one may be the hook's
				cfg.Trace = &dewar.Trace{BreakerChanged: func(ch dewar.BreakerChange) {
					begun := time.Now()
					if err := uses(context.Background(), c); err != nil && !errors.Is(err, dewar.ErrBreakerOpen) {
						t.Errorf("when %v: %v", ch.To, err)
					}
					if took := time.Since(begun); took > 0 {
						t.Errorf("when %v: the hook waited %v", ch.To, took)
					}
					mu.Lock()
					defer mu.Unlock()
					heard = append(heard, ch.To)
				}}
				c = open(t, cfg)
				trip(t, c, o)
				synctest.Wait()
				o.fail(nil)
				time.Sleep(2 * time.Second)
				for _, k := range []string{"a", "closes", "it"} {
					if _, err := c.Get(t.Context(), k); err != nil && !errors.Is(err, dewar.ErrBreakerOpen) {
						t.Error(err)
					}
					synctest.Wait()
				}
				mu.Lock()
				defer mu.Unlock()
				want := []dewar.BreakerState{dewar.BreakerOpen, dewar.BreakerHalfOpen, dewar.BreakerClosed}
				if !slices.Equal(heard, want) {
					t.Errorf("heard of %v", heard)
				}
			})
		})
	}
}

// flickering refuses every other call.
type flickering struct{ n atomic.Int64 }

func (b *flickering) Allow() (func(error), error) {
	if b.n.Add(1)%2 == 0 {
		return nil, errRefused
	}
	return func(error) {}, nil
}

func TestTheChangesOfAUsersBreakerAreToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard changes
		cfg := localOnly(newOrigin(0))
		cfg.Guard.Breaker.Use = new(flickering)
		cfg.Trace = heard.trace()
		c := open(t, cfg)
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() { _, _ = c.Get(t.Context(), fmt.Sprint(i)) })
		}
		wg.Wait()
		state := dewar.BreakerClosed
		for i, ch := range heard.all() {
			if ch.From != state || ch.To == state {
				t.Fatalf("change %d is from %v to %v, after one to %v", i, ch.From, ch.To, state)
			}
			state = ch.To
		}
		if is := c.Stats().Origin.Breaker; is != state {
			t.Errorf("the last change was to %v, but it is %v", state, is)
		}
	})
}

func TestTheChangesOfABreakerAreToldInOrderWithWhatTrippedThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard changes
		var log bytes.Buffer
		again := errors.New("still down")
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.Breaker = dewar.Breaker{MinRequests: 4, FailureRatio: 0.5, OpenFor: time.Second, Probes: 2}
		cfg.Trace = heard.trace()
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c := open(t, cfg)
		mustGet(t, c, "well", "well#1")
		mustGet(t, c, "well too", "well too#1")
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		if n := len(heard.all()); n != 0 {
			t.Errorf("%d changes before anything changed", n)
		}
		mustFail(t, c, "b", errOrigin) // the second of four: half
		time.Sleep(2 * time.Second)
		o.fail(again)
		mustFail(t, c, "c", again) // a probe
		time.Sleep(2 * time.Second)
		o.fail(nil)
		mustGet(t, c, "d", "d#1")
		mustGet(t, c, "e", "e#1")

		const closed, half, opened = dewar.BreakerClosed, dewar.BreakerHalfOpen, dewar.BreakerOpen
		want := []dewar.BreakerChange{
			{Origin: "test", From: closed, To: opened, Calls: 4, Failures: 2, Err: errOrigin},
			{Origin: "test", From: opened, To: half},
			{Origin: "test", From: half, To: opened, Calls: 1, Failures: 1, Err: again},
			{Origin: "test", From: opened, To: half},
			{Origin: "test", From: half, To: closed},
		}
		if got := heard.all(); !slices.Equal(got, want) {
			t.Errorf("heard of %+v", got)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%d lines of log for %d changes: %s", len(lines), len(want), log.String())
		}
		for i, ch := range want {
			level := "level=INFO"
			if ch.To == opened {
				level = "level=WARN"
			}
			for _, word := range []string{level, "origin=test", "from=" + ch.From.String(), "cache=test"} {
				if !strings.Contains(lines[i], word) {
					t.Errorf("no %s in %s", word, lines[i])
				}
			}
		}
		if !strings.Contains(lines[0], "calls=4 failures=2") || !strings.Contains(lines[0], errOrigin.Error()) || !strings.Contains(lines[2], again.Error()) {
			t.Errorf("what tripped it is not told: %s", log.String())
		}
	})
}

// A hook that is slow delays the next, and nobody else.
func TestASlowHookHoldsUpNoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most, running atomic.Int32
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.Breaker = tripping()
		cfg.Trace = &dewar.Trace{BreakerChanged: func(dewar.BreakerChange) {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(10 * time.Second)
			running.Add(-1)
		}}
		c := open(t, cfg)
		begun := time.Now()
		trip(t, c, o)
		if took := time.Since(begun); took > 0 {
			t.Error("the failure took", took)
		}
		o.fail(nil)
		time.Sleep(2 * time.Second)
		begun = time.Now()
		mustGet(t, c, "a", "a#1")
		if took := time.Since(begun); took > 0 {
			t.Error("the probe took", took)
		}
		time.Sleep(time.Minute)
		if most.Load() != 1 {
			t.Errorf("%d hooks ran at once", most.Load())
		}
	})
}
