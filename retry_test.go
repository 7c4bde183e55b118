package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Guard.Retry.

// repeating configures retries of every call that fails, and no breaker.
func repeating(o *origin) config {
	cfg := localOnly(o)
	cfg.Guard.Breaker.FailureRatio = -1
	cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1}
	return cfg
}

// failingOnce is a loader whose first call fails with err.
func failingOnce(o *origin, err func() error) func(context.Context, string) (string, error) {
	var once sync.Once
	return func(ctx context.Context, k string) (v string, failed error) {
		v, loadErr := o.load(ctx, k)
		once.Do(func() { failed = err() })
		if failed != nil {
			return "", failed
		}
		return v, loadErr
	}
}

func TestACallThatFailedIsRepeatedOnce(t *testing.T) {
	for name, many := range map[string]bool{"Load": false, "LoadMany": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads []dewar.LoadInfo
				o := newOrigin(0)
				cfg := repeating(o)
				if many {
					cfg.Load, cfg.LoadMany = nil, o.loadMany
				}
				cfg.Guard.MaxConcurrent = 1 // the slot is kept
				cfg.Trace = &dewar.Trace{LoadDone: func(l dewar.LoadInfo) {
					if l.Repeated {
						o.fail(errOrigin)
					} else {
						o.fail(nil)
					}
					loads = append(loads, l)
				}}
				c := open(t, cfg)
				o.fail(errOrigin)
				mustGet(t, c, "a", "a#2")
				if len(loads) != 2 || loads[0].Repeated || !errors.Is(loads[0].Err, errOrigin) || !loads[1].Repeated || loads[1].Err != nil {
					t.Errorf("%+v", loads)
				}
				if s := c.Stats(); s.Loads != 2 || s.Retries != 1 || s.LoadErrors != 1 || s.LoadedKeys != 2 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestThePauseBeforeARepetitionIsRandomUpToTwicePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Retry.Pause = time.Second
		c := open(t, cfg)
		o.fail(errOrigin)
		var sum, least, most time.Duration
		least = time.Hour
		for _, k := range keys(200) {
			mustFail(t, c, k, errOrigin)
			calls := o.asked()
			pause := calls[len(calls)-1].at.Sub(calls[len(calls)-2].at)
			sum, least, most = sum+pause, min(least, pause), max(most, pause)
		}
		if mean := sum / 200; mean < 800*time.Millisecond || mean > 1200*time.Millisecond ||
			least > 100*time.Millisecond || most > 2*time.Second || most < 1900*time.Millisecond {
			t.Errorf("between %v and %v, %v in the mean", least, most, mean)
		}
	})
}

func TestNeverMoreThanBudgetOfTheCallsAreRepeated(t *testing.T) {
	for _, budget := range []float64{0, 0.02, 0.1, 0.5, 1} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := repeating(o)
				cfg.Guard.Retry.Budget = budget
				c := open(t, cfg)
				o.fail(errOrigin)
				if budget == 0 {
					budget = 0.1
				}
				for i := range 1000 {
					mustFail(t, c, fmt.Sprint(i), errOrigin)
					s := c.Stats()
					if first := s.Loads - s.Retries; float64(s.Retries) > budget*float64(first)+1e-9 {
						t.Fatalf("%d repetitions after %d calls", s.Retries, first)
					}
				}
				if n := c.Stats().Retries; float64(n) < 0.9*budget*1000 {
					t.Errorf("%d repetitions", n)
				}
			})
		})
	}
}

func TestALongHealthyTimeSavesUpTenRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Retry.Budget = 0.1
		c := open(t, cfg)
		for i := range 5000 {
			mustGet(t, c, fmt.Sprint(i), fmt.Sprintf("%d#1", i))
		}
		o.fail(errOrigin)
		for i := range 100 {
			mustFail(t, c, fmt.Sprint("x", i), errOrigin)
		}
		if n := c.Stats().Retries; n < 19 || n > 20 {
			t.Errorf("%d repetitions of 100 failures; want the 10 saved and a tenth", n)
		}
	})
}

func TestWhatIsNotRepeated(t *testing.T) {
	exit := func() error { runtime.Goexit(); return nil }
	returns := func(err error) func() error { return func() error { return err } }
	for name, fails := range map[string]func() error{
		"no such key":           returns(fmt.Errorf("gone: %w", dewar.ErrNotFound)),
		"a cancellation":        returns(fmt.Errorf("left: %w", context.Canceled)),
		"another cache's guard": returns(dewar.ErrOverloaded),
		"another's breaker":     returns(dewar.ErrBreakerOpen),
		"another's dial":        returns(dewar.ErrDefcon),
		"a recursion":           returns(dewar.ErrRecursiveLoad),
		"a panic":               func() error { panic(errOrigin) },
		"an exit":               exit,
	} {
		for _, with := range []string{"breaker", "no breaker"} {
			t.Run(name+", "+with, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := repeating(o)
					if with == "breaker" {
						cfg.Guard.Breaker = dewar.Breaker{MinRequests: 10}
					}
					cfg.Load = failingOnce(o, fails)
					c := open(t, cfg)
					if _, err := c.Get(t.Context(), "a"); err == nil {
						t.Error("no error")
					}
					mustCount(t, o, "a", 1)
				})
			})
		}
	}
}

func TestNothingIsRepeatedUnlessIdempotentSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Retry = dewar.Retry{}
		c := open(t, cfg)
		o.fail(errOrigin)
		for _, k := range keys(100) {
			mustFail(t, c, k, errOrigin)
			mustCount(t, o, k, 1)
		}
	})
}

func TestWhatCountsDoesNotCallAFailureIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Breaker = dewar.Breaker{MinRequests: 100, Counts: func(err error) bool { return !errors.Is(err, errOrigin) }}
		c := open(t, cfg)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 1)
		o.fail(errors.New("another"))
		_, _ = c.Get(t.Context(), "b")
		mustCount(t, o, "b", 2)
	})
}
