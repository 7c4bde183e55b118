package dewar_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestAHungOriginFreesItsKeyAtTheTimeoutAndKeepsItsSlotUntilItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		cfg := localOnly(newOrigin(0))
		cfg.Load = gate.load
		cfg.Flight.Timeout = 2 * time.Second
		cfg.Guard.MaxConcurrent = 2
		c := open(t, cfg)

		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				begun := time.Now()
				_, err := c.Get(t.Context(), "a")
				if !errors.Is(err, dewar.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 2*time.Second {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
			})
		}
		wg.Wait()
		if s := c.Stats(); s.OverdueLoads != 1 || s.Flights != 0 || s.Loads != 1 {
			t.Errorf("%+v", s)
		}

		// The key is free: a new flight begins, in the second slot.
		mustFail(t, c, "a", dewar.ErrTimeout)
		if s := c.Stats(); s.OverdueLoads != 2 || s.Loads != 2 {
			t.Errorf("%+v", s)
		}

		// Both slots are taken by loaders whose flights are long over.
		begun := time.Now()
		mustFail(t, c, "b", dewar.ErrOverloaded)
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("refused after %v; want QueueTimeout", waited)
		}
		gate.open()
		synctest.Wait()
		if s := c.Stats(); s.OverdueLoads != 0 || s.Overloaded != 1 {
			t.Errorf("%+v", s)
		}
		mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly()) // what came too late was not stored
		mustGet(t, c, "b", "late")
	})
}

func TestAHungLoadManyFreesAllItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		cfg := batched(newOrigin(0))
		cfg.LoadMany = func(context.Context, []string) (map[string]string, error) { <-gate.ch; return nil, nil }
		c := open(t, cfg)
		begun := time.Now()
		vs, err := c.GetMany(t.Context(), []string{"a", "b", "c"})
		var batch *dewar.BatchError[string]
		if time.Since(begun) != 10*time.Second || len(vs) != 0 || !errors.As(err, &batch) || len(batch.Errs) != 3 || !errors.Is(err, dewar.ErrTimeout) {
			t.Error(time.Since(begun), vs, err)
		}
		if s := c.Stats(); s.OverdueLoads != 1 || s.Flights != 0 {
			t.Errorf("%+v", s)
		}
		gate.open()
	})
}

func TestALoaderThatHonoursItsContextEndsWithErrTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(time.Hour))
		c := open(t, cfg)
		mustFail(t, c, "a", dewar.ErrTimeout)
		synctest.Wait()
		if s := c.Stats(); s.OverdueLoads != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheTimeoutBoundsLookUpAndSlotToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(8 * time.Second)
		cfg := localOnly(o)
		cfg.Local = nil
		tierings()["slow remote"](&cfg)
		cfg.Remote = slowRemote(newServer(), 3*time.Second)
		c := open(t, cfg)
		begun := time.Now()
		mustFail(t, c, "a", dewar.ErrTimeout)
		if took := time.Since(begun); took != 10*time.Second {
			t.Error("took", took)
		}
	})
}

func TestAHungRemoteTierLeavesTimeForTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(time.Second))
		cfg.Remote = slowRemote(newServer(), time.Hour)
		c := open(t, cfg)
		begun := time.Now()
		mustGet(t, c, "a", "a#1")
		if took := time.Since(begun); took >= 10*time.Second {
			t.Error("took", took)
		}
	})
}

func TestCloseEndsWaitingAndEverythingAfterItIsErrClosed(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(time.Hour))
				cfg.Flight.Timeout = 2 * time.Hour
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				wg.Go(func() { mustFail(t, c, "a", dewar.ErrClosed) })
				time.Sleep(time.Second)
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				wg.Wait()
				mustFail(t, c, "a", dewar.ErrClosed)
				mustFail(t, c, "a", dewar.ErrClosed, dewar.CacheOnly())
				ctx := t.Context()
				_, many := c.GetMany(ctx, []string{"a"})
				_, results := c.GetManyResults(ctx, []string{"a"})
				_, result := c.GetResult(ctx, "a")
				for method, err := range map[string]error{
					"GetMany": many, "GetManyResults": results, "GetResult": result,
					"Set":        c.Set(ctx, "a", "v"),
					"SetMany":    c.SetMany(ctx, map[string]string{"a": "v"}),
					"Invalidate": c.Invalidate(ctx, "a"),
					"Expire":     c.Expire(ctx, "a"),
					"Refresh":    c.Refresh(ctx, "a"),
					"Preload":    c.Preload(ctx, func(yield func(string) bool) { yield("a") }),
					"Wait":       c.Wait(ctx),
				} {
					if !errors.Is(err, dewar.ErrClosed) {
						t.Errorf("%s: %v", method, err)
					}
				}
				c.KeepWarm("a")
				c.LetGo("a")
				_ = c.Stats()
			})
		})
	}
}

func TestCloseWaitsFiveSecondsForLoadersThatIgnoreTheirContextAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		cfg := localOnly(newOrigin(0))
		cfg.Load = gate.load
		c, err := dewar.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		go c.Get(t.Context(), "a")
		synctest.Wait()
		begun := time.Now()
		if err := c.Close(); err == nil || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		gate.open()
	})
}
