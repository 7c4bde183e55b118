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
)

func TestNoMoreThanMaxConcurrentCallsRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(100 * time.Millisecond)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent = 5
		c := open(t, cfg)
		var wg sync.WaitGroup
		begun := time.Now()
		for _, k := range keys(40) {
			wg.Go(func() { mustGet(t, c, k, k+"#1") })
		}
		wg.Wait()
		if n, took := o.atOnce(), time.Since(begun); n != 5 || took != 800*time.Millisecond {
			t.Errorf("%d at once, all took %v; want 5 and 800ms", n, took)
		}
	})
}

func TestALoadManyTakesOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(100 * time.Millisecond)
		cfg := batched(o)
		cfg.Guard.MaxConcurrent = 1
		c := open(t, cfg)
		begun := time.Now()
		if vs, err := c.GetMany(t.Context(), keys(100)); len(vs) != 100 || err != nil {
			t.Error(len(vs), err)
		}
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Error("took", took)
		}
	})
}

func TestWhoWaitsForASlotLongerThanQueueTimeoutIsRefused(t *testing.T) {
	for name, many := range map[string]bool{"Get": false, "GetMany": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(5 * time.Second)
				cfg := batched(o)
				cfg.Guard.MaxConcurrent, cfg.Guard.QueueTimeout = 1, 300*time.Millisecond
				c := open(t, cfg)
				go c.Get(t.Context(), "a")
				synctest.Wait()
				begun := time.Now()
				_, err := c.Get(t.Context(), "b")
				if many {
					_, err = c.GetMany(t.Context(), []string{"c", "d"})
					begun = begun.Add(300 * time.Millisecond)
				}
				if !errors.Is(err, dewar.ErrOverloaded) || time.Since(begun) != 300*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				if s := c.Stats(); s.Loads != 1 || s.Overloaded == 0 {
					t.Errorf("%+v", s) // the origin was not asked
				}
				time.Sleep(5 * time.Second)
				o.slow(0)
				mustGet(t, c, "b", "b#1") // nothing is remembered of the refusal
			})
		})
	}
}

func TestHitsNeedNoSlot(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := newBarrier()
				defer gate.open()
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				cfg.Guard.MaxConcurrent = 1
				cfg.Load = func(ctx context.Context, k string) (string, error) {
					if k == "hung" {
						return gate.load(ctx, k)
					}
					return o.load(ctx, k)
				}
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				go c.Get(t.Context(), "hung")
				time.Sleep(time.Second)
				begun := time.Now()
				mustGet(t, c, "a", "a#1")
				if took := time.Since(begun); took > 3*time.Millisecond {
					t.Error("took", took)
				}
			})
		})
	}
}

func TestASlotComesBackHoweverTheLoaderEnds(t *testing.T) {
	ends := map[string]func() error{
		"error": func() error { return errOrigin },
		"panic": func() error { panic(1) },
		"Goexit": func() error {
			t := new(testing.T)
			t.FailNow() // runtime.Goexit
			return nil
		},
	}
	for name, end := range ends {
		for _, many := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", many), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := localOnly(newOrigin(0))
					cfg.Guard.MaxConcurrent = 2
					cfg.Load = func(context.Context, string) (string, error) { return "", end() }
					if many {
						cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) { return nil, end() }
					}
					c := open(t, cfg)
					begun := time.Now()
					for range 10 {
						if _, err := c.Get(t.Context(), "a"); err == nil || errors.Is(err, dewar.ErrOverloaded) {
							t.Error(err)
						}
					}
					if time.Since(begun) != 0 {
						t.Error("a slot was missing for", time.Since(begun))
					}
				})
			})
		}
	}
}

func TestAHungRefreshKeepsItsBackgroundSlotOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		o := newOrigin(0)
		cfg := warming(o)
		cfg.LoadMany = nil
		cfg.Guard.MaxConcurrent, cfg.Guard.MaxBackground = 2, 1
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if o.count(k) > 0 {
				return gate.load(ctx, k)
			}
			return o.load(ctx, k)
		}
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		mustGet(t, c, "b", "b#1")
		time.Sleep(89 * time.Second)
		mustGet(t, c, "a", "a#1")
		mustGet(t, c, "b", "b#1")
		time.Sleep(10*time.Second + 500*time.Millisecond) // past the timeout of the refresh
		if s := c.Stats(); s.OverdueLoads != 1 || s.Loads != 3 {
			t.Errorf("%+v", s)
		}
		mustGet(t, c, "c", "c#1")
		gate.open()
		time.Sleep(time.Second)
	})
}
