package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestAStampedeLoadsOnceAlsoForCallersThatComeJustAfter(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(20 * time.Millisecond)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				for i := range 2000 { // over 40 ms: half of them come after the load has ended
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 20 * time.Microsecond)
						mustGet(t, c, "a", "a#1")
					})
				}
				wg.Wait()
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestAStampedeOnAMissingKeyAsksOnce(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(20 * time.Millisecond)
				o.remove("a")
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				for i := range 2000 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 20 * time.Microsecond)
						mustFail(t, c, "a", dewar.ErrNotFound)
					})
				}
				wg.Wait()
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestGetJoinsTheFlightOfAGetMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		c := open(t, batched(o))
		var wg sync.WaitGroup
		wg.Go(func() {
			vs, err := c.GetMany(t.Context(), []string{"a", "b"})
			if len(vs) != 2 || vs["a"] != "a#1" || err != nil {
				t.Error(vs, err)
			}
		})
		synctest.Wait()
		r := mustBe(t, c, "a", "a#1", dewar.StatusLoaded, dewar.TierOrigin)
		if !r.Collapsed || r.Age != time.Second {
			t.Errorf("%+v", r)
		}
		wg.Wait()
		mustCount(t, o, "a", 1)
	})
}

func TestGetManyJoinsTheFlightOfAGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		c := open(t, batched(o))
		var wg sync.WaitGroup
		wg.Go(func() { mustGet(t, c, "a", "a#1") })
		synctest.Wait()
		rs, err := c.GetManyResults(t.Context(), []string{"a", "b"})
		if err != nil || !rs["a"].Collapsed || rs["a"].Value != "a#1" || rs["b"].Collapsed || rs["b"].Value != "b#1" {
			t.Error(rs, err)
		}
		wg.Wait()
		mustCount(t, o, "a", 1)
		mustCount(t, o, "b", 1)
	})
}

func TestOverlappingBatchesCollapseKeyByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		c := open(t, batched(o))
		ks := keys(100)
		var wg sync.WaitGroup
		for i := range 10 { // windows of 30 that overlap by 23
			wg.Go(func() {
				part := ks[7*i : 7*i+30]
				vs, err := c.GetMany(t.Context(), part)
				if len(vs) != 30 || err != nil {
					t.Error(len(vs), err)
				}
			})
		}
		wg.Wait()
		for _, k := range ks[:93] {
			mustCount(t, o, k, 1)
		}
	})
}

func TestEveryWaiterSeesTheTrueErrorOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errOf := func(k string) error { return fmt.Errorf("no luck with %s: %w", k, errOrigin) }
		cfg := batched(newOrigin(0))
		cfg.LoadMany = func(_ context.Context, ks []string) (map[string]string, error) {
			time.Sleep(time.Second)
			var failed dewar.BatchError[string]
			for _, k := range ks {
				failed.Errs = append(failed.Errs, dewar.KeyError[string]{Key: k, Err: errOf(k)})
			}
			return nil, &failed
		}
		c := open(t, cfg)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				vs, err := c.GetMany(t.Context(), []string{"a", "b"})
				var batch *dewar.BatchError[string]
				if len(vs) != 0 || !errors.As(err, &batch) || len(batch.Errs) != 2 ||
					batch.For("a").Error() != errOf("a").Error() || batch.For("b").Error() != errOf("b").Error() {
					t.Error(vs, err)
				}
			})
			wg.Go(func() {
				if _, err := c.Get(t.Context(), "b"); err == nil || err.Error() != errOf("b").Error() || !errors.Is(err, errOrigin) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestACallerThatLeavesGetsItsOwnErrorAtOnceAndHarmsNobody(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				leave := func(ctx context.Context, after time.Duration, want error) {
					wg.Go(func() {
						begun := time.Now()
						_, err := c.Get(ctx, "a")
						if err != want || time.Since(begun) != after {
							t.Errorf("%v after %v; want %v after %v", err, time.Since(begun), want, after)
						}
					})
					synctest.Wait()
				}
				first, cancel := context.WithCancel(t.Context())
				leave(first, 100*time.Millisecond, context.Canceled) // it has begun the flight
				late, cancelLate := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancelLate()
				leave(late, 50*time.Millisecond, context.DeadlineExceeded)
				wg.Go(func() { mustGet(t, c, "a", "a#1") })
				time.Sleep(100 * time.Millisecond)
				cancel()
				wg.Wait()
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestACallerThatLeavesABatchGetsItsOwnErrorForTheKeysStillMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, batched(o))
		mustGet(t, c, "here", "here#1")
		o.slow(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		vs, err := c.GetMany(ctx, []string{"a", "here", "b"})
		var batch *dewar.BatchError[string]
		if time.Since(begun) != 100*time.Millisecond || len(vs) != 1 || vs["here"] != "here#1" || !errors.As(err, &batch) ||
			len(batch.Errs) != 2 || batch.For("a") != context.DeadlineExceeded || batch.For("b") != context.DeadlineExceeded {
			t.Error(time.Since(begun), vs, err)
		}
	})
}

func TestAnAbandonedFlightFinishesAndStores(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if _, err := c.Get(ctx, "a"); err != context.DeadlineExceeded {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				mustGet(t, c, "a", "a#1", dewar.CacheOnly())
			})
		})
	}
}

type ctxKey struct{}

func TestTheLoaderSeesTheFirstCallersValuesButNotItsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(0))
		cfg.Load = func(ctx context.Context, _ string) (string, error) {
			time.Sleep(time.Second)
			if ctx.Err() != nil {
				t.Error("the caller's cancellation reached the loader")
			}
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || left != 9*time.Second {
				t.Error("the loader's deadline is not Flight.Timeout:", left)
			}
			s, _ := ctx.Value(ctxKey{}).(string)
			return s, nil
		}
		c := open(t, cfg)
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "of the caller"), time.Millisecond)
		defer cancel()
		go c.Get(ctx, "a")
		synctest.Wait()
		mustGet(t, c, "a", "of the caller")
	})
}

func TestBackgroundLoadsHaveNoValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var values []any
		cfg := localOnly(newOrigin(0))
		cfg.Warm.Ahead = 0.5
		cfg.Load = func(ctx context.Context, _ string) (string, error) {
			values = append(values, ctx.Value(ctxKey{}))
			return "v", nil
		}
		c := open(t, cfg)
		ctx := context.WithValue(t.Context(), ctxKey{}, "of the caller")
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(45 * time.Second)
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := c.Preload(ctx, func(yield func(string) bool) { yield("b") }); err != nil {
			t.Fatal(err)
		}
		if len(values) != 3 || values[0] != "of the caller" || values[1] != nil || values[2] != nil {
			t.Error(values)
		}
	})
}

func TestJoinersWhoWantMoreThanTheFlightBroughtStillLoadOnce(t *testing.T) {
	tests := map[string]func(c *cache, ctx context.Context) error{
		"Refresh": func(c *cache, ctx context.Context) error { return c.Refresh(ctx, "a") },
		"MaxAge": func(c *cache, ctx context.Context) error {
			_, err := c.Get(ctx, "a", dewar.MaxAge(time.Second))
			return err
		},
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := dewartest.NewRemote[string]()
				other := localOnly(newOrigin(0))
				other.Remote = srv
				filler := open(t, other)
				mustGet(t, filler, "a", "a#1")
				time.Sleep(10 * time.Second)

				o := newOrigin(100 * time.Millisecond)
				cfg := localOnly(o)
				cfg.Remote = slowRemote(srv, 10*time.Millisecond)
				c := open(t, cfg)
				var wg sync.WaitGroup
				wg.Go(func() { mustGet(t, c, "a", "a#1") }) // will be answered by the remote tier
				synctest.Wait()
				for range 50 {
					wg.Go(func() {
						if err := call(c, t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				mustCount(t, o, "a", 1)
			})
		})
	}
}
