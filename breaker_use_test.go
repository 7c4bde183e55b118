package dewar_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/sony/gobreaker/v2"
)

// A breaker of the user's own: Breaker.Use.

// switchBreaker is a user's breaker that a test throws.
type switchBreaker struct {
	mu    sync.Mutex // guards what follows
	err   error      // what Allow refuses with
	panic string     // the method that panics: "Allow" or "done"
	asked int        // calls of Allow
	told  []error    // what the done functions were called with
}

func (b *switchBreaker) Allow() (done func(error), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	switch {
	case b.panic == "Allow":
		panic("Allow of the user's")
	case b.err != nil:
		return nil, b.err
	}
	called := false
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if called {
			err = errors.New("done was called twice")
		}
		called = true
		b.told = append(b.told, err)
		if b.panic == "done" {
			panic("done of the user's")
		}
	}, nil
}

func (b *switchBreaker) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func TestAUsersBreakerThatPanicsFailsNoReaderAndKeepsNoSlot(t *testing.T) {
	for _, where := range []string{"Allow", "done"} {
		for name, loader := range map[string]func(*config, *origin){
			"Load":     func(*config, *origin) {},
			"LoadMany": func(cfg *config, o *origin) { cfg.Load, cfg.LoadMany = nil, o.loadMany },
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					o := newOrigin(0)
					cfg := localOnly(o)
					loader(&cfg, o)
					cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
					cfg.Guard.MaxConcurrent = 1
					cfg.Guard.Breaker.Use = &switchBreaker{panic: where}
					c := open(t, cfg)
					for _, k := range keys(5) {
						mustGet(t, c, k, k+"#1")
					}
					o.fail(errOrigin)
					mustFail(t, c, "failing", errOrigin)
					synctest.Wait()
					if s := c.Stats(); s.Origin.Calls != 0 || s.Flights != 0 || s.Overloaded != 0 {
						t.Errorf("%+v", s)
					}
					if !strings.Contains(log.String(), "Breaker.Use") || !strings.Contains(log.String(), where+" of the user's") {
						t.Errorf("logged: %s", log.String())
					}
				})
			})
		}
	}
}

// twoStep is gobreaker's, as a user plugs it in.
func twoStep() *gobreaker.TwoStepCircuitBreaker[any] {
	return gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		MaxRequests: 2, Timeout: 5 * time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 },
		IsExcluded:  func(err error) bool { return errors.Is(err, dewar.ErrNotCounted) },
	})
}

func TestGobreakersTwoStepBreakerIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard changes
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.Breaker.Use = twoStep()
		cfg.Trace = heard.trace()
		c := open(t, cfg)
		o.fail(errOrigin)
		for _, k := range keys(3) {
			mustFail(t, c, k, errOrigin)
		}
		mustFail(t, c, "a", dewar.ErrBreakerOpen)
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, gobreaker.ErrOpenState) {
			t.Error("the user's own error is lost:", err)
		}
		time.Sleep(6 * time.Second)
		mustFail(t, c, "a", errOrigin) // a probe: it opens again
		mustFail(t, c, "a", dewar.ErrBreakerOpen)
		time.Sleep(6 * time.Second)
		o.fail(nil)
		mustGet(t, c, "a", "a#2")
		if s := c.Stats().Origin.Breaker; s != dewar.BreakerHalfOpen {
			t.Error(s)
		}
		mustGet(t, c, "b", "b#1")
		if s := c.Stats().Origin.Breaker; s != dewar.BreakerClosed {
			t.Error(s)
		}
		want := []dewar.BreakerState{
			dewar.BreakerOpen, dewar.BreakerHalfOpen, dewar.BreakerOpen, dewar.BreakerHalfOpen, dewar.BreakerClosed,
		}
		if got := heard.states(); !slices.Equal(got, want) {
			t.Errorf("heard of %v; want %v", got, want)
		}
		if first := heard.all()[0]; first.Err != errOrigin || first.Origin != "test" || first.From != dewar.BreakerClosed {
			t.Errorf("%+v", first)
		}
	})
}

func TestAUsersBreakerIsToldOnceHowEachCallItLetThroughWent(t *testing.T) {
	counted := errors.New("counted") // stands for any failure
	for name, end := range map[string]struct {
		loads  func(ctx context.Context) error
		during func(c *cache)
		want   error // nil, counted, or ErrNotCounted
	}{
		"success":            {func(context.Context) error { return nil }, nil, nil},
		"no such key":        {func(context.Context) error { return dewar.ErrNotFound }, nil, nil},
		"error":              {func(context.Context) error { return errOrigin }, nil, counted},
		"cancellation":       {func(context.Context) error { return context.Canceled }, nil, dewar.ErrNotCounted},
		"another's overload": {func(context.Context) error { return dewar.ErrOverloaded }, nil, dewar.ErrNotCounted},
		"panic":              {func(context.Context) error { panic(1) }, nil, counted},
		"exit":               {func(context.Context) error { runtime.Goexit(); return nil }, nil, counted},
		"timeout":            {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil, counted},
		"hung":               {func(context.Context) error { time.Sleep(time.Hour); return nil }, nil, counted},
		"slow":               {func(context.Context) error { time.Sleep(6 * time.Second); return nil }, nil, counted},
		"closed":             {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func(c *cache) { c.Close() }, dewar.ErrNotCounted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				user := new(switchBreaker)
				cfg := localOnly(newOrigin(0))
				cfg.Guard.Breaker = dewar.Breaker{Use: user, SlowerThan: 5 * time.Second}
				cfg.Load = func(ctx context.Context, _ string) (string, error) { return "", end.loads(ctx) }
				c := open(t, cfg)
				go c.Get(t.Context(), "a")
				synctest.Wait()
				if end.during != nil {
					end.during(c)
				}
				time.Sleep(2 * time.Hour)
				user.mu.Lock()
				defer user.mu.Unlock()
				if user.asked != 1 || len(user.told) != 1 {
					t.Fatalf("asked %d times, told %v", user.asked, user.told)
				}
				told := user.told[0]
				if fine := told == end.want || end.want == counted && told != nil && !errors.Is(told, dewar.ErrNotCounted); !fine {
					t.Errorf("told %v; want %v", told, end.want)
				}
			})
		})
	}
}

// drowsyBreaker lets calls through in the very moment at which their flight is
// out of time.
type drowsyBreaker struct {
	switchBreaker
	rest time.Duration
}

func (b *drowsyBreaker) Allow() (func(error), error) {
	time.Sleep(b.rest)
	return b.switchBreaker.Allow()
}

func TestALoadThatIsOutOfTimeBeforeItBeginsIsNotCounted(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			user := &drowsyBreaker{rest: 5 * time.Second}
			o := newOrigin(0)
			cfg := localOnly(o)
			cfg.Flight.Timeout = user.rest
			cfg.Guard.Breaker = dewar.Breaker{Use: user}
			c := open(t, cfg)
			_, _ = c.Get(t.Context(), "a") // answered, if it is just in time
			synctest.Wait()
			user.mu.Lock()
			defer user.mu.Unlock()
			if len(user.told) != 1 || o.count("a") == 0 && user.told[0] != dewar.ErrNotCounted {
				t.Errorf("told %v after %d loads", user.told, o.count("a"))
			}
		})
	}
}
