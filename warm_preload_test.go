package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestPreloadFillsTheTiersSkippingWhatIsFresh(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := batched(o)
				cfg.Batch.MaxSize = 20
				tiers(&cfg)
				c := open(t, cfg)
				ks := keys(50)
				if vs, err := c.GetMany(t.Context(), ks[:10]); len(vs) != 10 || err != nil {
					t.Fatal(len(vs), err)
				}
				o.remove("k020")
				time.Sleep(time.Second)
				for range 2 {
					if err := c.Preload(t.Context(), slices.Values(ks)); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second)
				}
				for _, k := range ks {
					mustCount(t, o, k, 1)
				}
				if vs, err := c.GetMany(t.Context(), ks, dewar.CacheOnly()); len(vs) != 49 || err != nil {
					t.Error(len(vs), err)
				}
			})
		})
	}
}

func TestPreloadGoesOnPastFailedKeysAndJoinsTheFirstTenErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if k < "k030" {
				return "", fmt.Errorf("%s: %w", k, errOrigin)
			}
			return o.load(ctx, k)
		}
		c := open(t, cfg)
		err := c.Preload(t.Context(), slices.Values(keys(100)))
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || !errors.Is(err, errOrigin) {
			t.Fatal(err)
		}
		if n := len(joined.Unwrap()); n != 10 {
			t.Errorf("%d errors; want 10", n)
		}
		if ke, ok := errors.AsType[dewar.KeyError[string]](err); !ok || ke.Key >= "k030" {
			t.Error(err)
		}
		for _, k := range keys(100)[30:] {
			mustGet(t, c, k, k+"#1", dewar.CacheOnly())
		}
	})
}

func TestPreloadEndsEarlyWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent, cfg.Guard.MaxBackground = 4, 2
		c := open(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		err := c.Preload(ctx, slices.Values(keys(1000)))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 2500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		time.Sleep(5 * time.Second)
		if n := len(o.asked()); n != 6 || o.atOnce() != 2 {
			t.Errorf("%d loads, %d at once; want 6 and 2", n, o.atOnce())
		}
		if vs, _ := c.GetMany(t.Context(), keys(1000), dewar.CacheOnly()); len(vs) != 6 { // what was under way is stored
			t.Errorf("%d keys are cached; want 6", len(vs))
		}
	})
}

func TestPreloadEndsWithTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, localOnly(newOrigin(time.Second)))
		time.AfterFunc(1500*time.Millisecond, func() { c.Close() })
		if err := c.Preload(t.Context(), slices.Values(keys(1000))); !errors.Is(err, dewar.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestPreloadAdoptsWhatAnotherProcessHasLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer()
		first, second := newOrigin(0), newOrigin(0)
		cfg := batched(first)
		cfg.Remote = srv
		a := open(t, cfg)
		if err := a.Preload(t.Context(), slices.Values(keys(100))); err != nil {
			t.Error(err)
		}
		if err := a.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		cfg = batched(second)
		cfg.Remote = srv
		b := open(t, cfg)
		if err := b.Preload(t.Context(), slices.Values(keys(100))); err != nil {
			t.Error(err)
		}
		if len(second.asked()) != 0 {
			t.Error("the second process loaded what the first had")
		}
		mustBe(t, b, "k050", "k050#1", dewar.StatusHit, dewar.TierLocal)
	})
}

func TestRefreshLoadsNowCollapsedAndWaits(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := batched(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				o.slow(time.Second)
				var wg sync.WaitGroup
				begun := time.Now()
				for i := range 100 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						if err := c.Refresh(t.Context(), "a", "b"); err != nil {
							t.Error(err)
						}
						if time.Since(begun) < time.Second {
							t.Error("it did not wait")
						}
					})
				}
				wg.Wait()
				mustCount(t, o, "a", 2)
				mustCount(t, o, "b", 1)
				mustGet(t, c, "a", "a#2")
			})
		})
	}
}

func TestARefreshIsNotAnsweredWithWhatTheRemoteTierHas(t *testing.T) {
	for name, tiers := range tierings() {
		for how, s := range map[string]dewar.Stale{
			"":              {IfError: time.Hour},
			", SoftTimeout": {IfError: time.Hour, SoftTimeout: 10 * time.Second},
		} {
			for _, level := range levels[:len(levels)-1] {
				t.Run(fmt.Sprint(name, how, level), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newOrigin(0)
						cfg := localOnly(o)
						cfg.Stale = s
						tiers(&cfg)
						dial := dialled(&cfg)
						c := open(t, cfg)
						mustGet(t, c, "a", "a#1")
						time.Sleep(time.Second)
						dial.Set(level)
						o.slow(time.Second)
						begun := time.Now()
						if err := c.Refresh(t.Context(), "a"); err != nil || time.Since(begun) < time.Second {
							t.Errorf("%v after %v", err, time.Since(begun))
						}
						o.fail(errOrigin)
						time.Sleep(50 * time.Millisecond) // it is written
						if err := c.Refresh(t.Context(), "a"); !errors.Is(err, errOrigin) {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

func TestARefreshThatFailsReturnsTheErrorAndKeepsTheOldValue(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		mustGet(t, c, "b", "b#1")
		time.Sleep(time.Second)
		o.fail(errOrigin)
		if err := c.Refresh(t.Context(), "a"); err != errOrigin { // stale
			t.Error(err)
		}
		if err := c.Refresh(t.Context(), "b"); err != errOrigin { // fresh
			t.Error(err)
		}
		err := c.Refresh(t.Context(), "b", "a")
		if batch, ok := errors.AsType[*dewar.BatchError[string]](err); !ok || len(batch.Errs) != 2 || batch.Errs[0].Key != "b" {
			t.Error(err)
		}
		mustBeStale(t, c, errOrigin)
		if r, err := c.GetResult(t.Context(), "b"); r.Value != "b#1" || r.Status != dewar.StatusHit || err != nil {
			t.Error(r, err)
		}
	})
}

func TestRefreshOfAKeyThatIsGoneIsNoError(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		o.remove("a")
		if err := c.Refresh(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
		mustFail(t, c, "a", dewar.ErrNotFound)
		mustCount(t, o, "a", 2)
	})
}

func TestRefreshOfManyKeysIsOneLoadMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, batched(o))
		for range 2 {
			if err := c.Refresh(t.Context(), keys(100)...); err != nil {
				t.Error(err)
			}
		}
		if calls := o.asked(); len(calls) != 2 || len(calls[1].keys) != 100 {
			t.Error(len(calls), "calls")
		}
		if err := c.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
