package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Which calls are failures to a breaker.

func TestWhichCallsOpenABreaker(t *testing.T) {
	fails := func(err error) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return "", err }
	}
	for _, of := range []struct {
		name  string
		load  func(ctx context.Context, k string) (string, error)
		alter func(*dewar.Breaker)
		opens bool
	}{
		{name: "success", load: func(context.Context, string) (string, error) { return "v", nil }},
		{name: "an error", load: fails(errOrigin), opens: true},
		{name: "no such key", load: fails(dewar.ErrNotFound)},
		{name: "no such key, wrapped", load: fails(fmt.Errorf("gone: %w", dewar.ErrNotFound))},
		{name: "a cancellation", load: fails(context.Canceled)},
		{name: "a cancellation, wrapped", load: fails(fmt.Errorf("left: %w", context.Canceled))},
		{name: "the loader's own deadline", load: fails(context.DeadlineExceeded), opens: true},
		{name: "another cache's overload", load: fails(dewar.ErrOverloaded)},
		{name: "another cache's breaker", load: fails(fmt.Errorf("nested: %w", dewar.ErrBreakerOpen))},
		{name: "another cache's dial", load: fails(dewar.ErrDefcon)},
		{name: "another cache's timeout", load: fails(dewar.ErrTimeout), opens: true},
		{name: "a recursion", load: fails(dewar.ErrRecursiveLoad)},
		{name: "a panic", load: func(context.Context, string) (string, error) { panic("ill") }, opens: true},
		{name: "an exit", load: func(context.Context, string) (string, error) { runtime.Goexit(); return "", nil }, opens: true},
		{name: "a timeout", load: func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }, opens: true},
		{
			name: "a slow success", load: func(context.Context, string) (string, error) { time.Sleep(1001 * time.Millisecond); return "v", nil },
			alter: func(b *dewar.Breaker) { b.SlowerThan = time.Second }, opens: true,
		},
		{
			name: "a slow no such key", load: func(context.Context, string) (string, error) {
				time.Sleep(1001 * time.Millisecond)
				return "", dewar.ErrNotFound
			},
			alter: func(b *dewar.Breaker) { b.SlowerThan = time.Second }, opens: true,
		},
		{
			name: "a success just in time", load: func(context.Context, string) (string, error) { time.Sleep(time.Second); return "v", nil },
			alter: func(b *dewar.Breaker) { b.SlowerThan = time.Second },
		},
		{
			name: "an error that Counts leaves out", load: fails(errOrigin),
			alter: func(b *dewar.Breaker) { b.Counts = func(err error) bool { return !errors.Is(err, errOrigin) } },
		},
		{
			name: "a cancellation that Counts counts", load: fails(context.Canceled),
			alter: func(b *dewar.Breaker) { b.Counts = func(error) bool { return true } }, opens: true,
		},
		{
			name: "no such key, whatever Counts says", load: fails(dewar.ErrNotFound),
			alter: func(b *dewar.Breaker) { b.Counts = func(error) bool { return true } },
		},
		{
			name: "an error at which Counts panics", load: fails(errOrigin),
			alter: func(b *dewar.Breaker) { b.Counts = func(error) bool { panic("Counts") } }, opens: true,
		},
	} {
		for kind, many := range map[string]bool{"Load": false, "LoadMany": true} {
			t.Run(of.name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := localOnly(newOrigin(0))
					cfg.Guard.Breaker = dewar.Breaker{MinRequests: 3, OpenFor: time.Hour, Window: time.Hour}
					if of.alter != nil {
						of.alter(&cfg.Guard.Breaker)
					}
					cfg.Load = of.load
					if many {
						cfg.Load, cfg.LoadMany = nil, func(ctx context.Context, ks []string) (map[string]string, error) {
							v, err := of.load(ctx, ks[0])
							if err != nil {
								return nil, err
							}
							return map[string]string{ks[0]: v}, nil
						}
					}
					c := open(t, cfg)
					for i := range 3 {
						mustBreaker(t, c, dewar.BreakerClosed)
						_, _ = c.Get(t.Context(), fmt.Sprint(i))
					}
					synctest.Wait() // the breaker may hear of a timeout after the reader
					if is := c.Stats().Origin.Breaker; is == dewar.BreakerOpen != of.opens {
						t.Error(is)
					}
				})
			})
		}
	}
}

func TestACallerThatLeavesIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := localOnly(o)
		cfg.Guard.Breaker = tripping()
		c := open(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := c.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Get(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		mustBreaker(t, c, dewar.BreakerClosed)
		mustGet(t, c, "a", "a#1")
	})
}

func TestALoadManyIsOneCallThatFailsIfItAnswersNoKey(t *testing.T) {
	for name, of := range map[string]struct {
		answer map[string]string
		err    error
		opens  bool
	}{
		"all fail":                   {nil, errOrigin, true},
		"one is answered":            {map[string]string{"a": "v"}, errOrigin, false},
		"all but one fail, named":    {nil, &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: "a", Err: errOrigin}}}, false}, // the others do not exist
		"all fail, named":            {nil, &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{"a", errOrigin}, {"b", errOrigin}, {"c", errOrigin}}}, true},
		"none exists":                {nil, nil, false},
		"none exists, told by error": {nil, dewar.ErrNotFound, false},
		"only others are brought":    {map[string]string{"other": "v"}, errOrigin, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				cfg.Guard.Breaker = dewar.Breaker{MinRequests: 2}
				cfg.NegativeTTL = -1
				cfg.TTLOf = func(string, string) time.Duration { return 0 }
				cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) { return of.answer, of.err }
				c := open(t, cfg)
				_, _ = c.GetMany(t.Context(), []string{"a", "b", "c"})
				mustBreaker(t, c, dewar.BreakerClosed) // it was one call
				_, _ = c.GetMany(t.Context(), []string{"a", "b", "c"})
				synctest.Wait() // the breaker may hear of a timeout after the reader
				if is := c.Stats().Origin.Breaker; is == dewar.BreakerOpen != of.opens {
					t.Error(is)
				}
			})
		})
	}
}

// A loader that ignores its context may take for ever.
func TestABreakerHearsOfAHungLoaderAtItsTimeout(t *testing.T) {
	for name, slots := range map[string]int{"with slots left": 10, "with none": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard changes
				gate := newBarrier()
				defer gate.open()
				cfg := localOnly(newOrigin(0))
				cfg.Load = gate.load
				cfg.Flight.Timeout = 2 * time.Second
				cfg.Guard.MaxConcurrent = slots
				cfg.Guard.Breaker = dewar.Breaker{MinRequests: 2, OpenFor: time.Hour}
				cfg.Trace = heard.trace()
				c := open(t, cfg)
				for _, k := range []string{"a", "b"} {
					go c.Get(t.Context(), k)
				}
				time.Sleep(1999 * time.Millisecond)
				mustBreaker(t, c, dewar.BreakerClosed)
				time.Sleep(2 * time.Millisecond)
				mustBreaker(t, c, dewar.BreakerOpen)
				if s := c.Stats(); s.OverdueLoads != 2 || s.Origin.Calls != 2 {
					t.Errorf("%+v", s) // they keep their slots
				}
				begun := time.Now()
				mustFail(t, c, "c", dewar.ErrBreakerOpen) // and nobody waits for those
				if took := time.Since(begun); took > 0 {
					t.Error("took", took)
				}
				if ch := heard.all()[0]; !errors.Is(ch.Err, dewar.ErrTimeout) || ch.Calls != 2 || ch.Failures != 2 {
					t.Errorf("%+v", ch)
				}
				gate.open() // what they return now is not told a second time
				synctest.Wait()
				if n := len(heard.all()); n != 1 {
					t.Errorf("%d changes", n)
				}
				if s := c.Stats(); s.OverdueLoads != 0 || s.Origin.Calls != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestBackgroundLoadsCountForTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.Breaker = dewar.Breaker{MinRequests: 3, OpenFor: time.Hour}
		c := open(t, cfg)
		o.fail(errOrigin)
		if err := preload(c, keys(2)); !errors.Is(err, errOrigin) {
			t.Error(err)
		}
		mustBreaker(t, c, dewar.BreakerClosed)
		mustFail(t, c, "a", errOrigin)
		mustBreaker(t, c, dewar.BreakerOpen)
		if err := preload(c, keys(10)); !errors.Is(err, dewar.ErrBreakerOpen) {
			t.Error(err)
		}
		if n := len(o.asked()); n != 3 {
			t.Errorf("%d calls", n)
		}
	})
}
