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

// Loads inside loads on the same origin.

// nested returns two caches on one origin: a load of the outer reads the key of
// the same name from the inner.
func nested(t *testing.T, g dewar.Guard, o *origin) (outer, inner *cache) {
	shared := dewar.NewOrigin("catalog", g)
	cfg := localOnly(o)
	cfg.Name, cfg.Origin = "inner", shared
	inner = open(t, cfg)
	cfg.Name = "outer"
	cfg.Load = func(ctx context.Context, k string) (string, error) {
		v, err := inner.Get(ctx, k)
		return "outer " + v, err
	}
	return open(t, cfg), inner
}

func TestANestedLoadTakesNoSecondSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, _ := nested(t, dewar.Guard{MaxConcurrent: 2}, newOrigin(time.Second))
		begun := time.Now()
		var wg sync.WaitGroup
		for _, k := range keys(2) {
			wg.Go(func() { mustGet(t, outer, k, "outer "+k+"#1") })
		}
		wg.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Error("took", took)
		}
	})
}

// Every probe of the outer cache needs a call of the inner one: were that a
// probe of its own, and refused because there are enough, none would go well.
func TestProbesWithNestedLoadsCloseTheBreaker(t *testing.T) {
	for _, probes := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(probes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				breaker := tripping()
				breaker.Probes = probes
				outer, inner := nested(t, dewar.Guard{Breaker: breaker}, o)
				trip(t, inner, o)
				o.fail(nil)
				time.Sleep(2 * time.Second)
				for i := range 2 * probes {
					if _, err := outer.Get(t.Context(), fmt.Sprint("key", i)); err != nil {
						t.Error(err)
					}
				}
				if s := outer.Stats().Origin.Breaker; s != dewar.BreakerClosed {
					t.Error(s)
				}
			})
		})
	}
}

func TestANestedLoadIsRefusedByAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		shared := dewar.NewOrigin("catalog", dewar.Guard{Breaker: tripping()})
		cfg := localOnly(o)
		cfg.Name, cfg.Origin = "inner", shared
		inner := open(t, cfg)
		cfg.Name = "outer"
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if _, err := inner.Get(ctx, "fails"); !errors.Is(err, errOrigin) {
				t.Error(err)
			}
			return inner.Get(ctx, k)
		}
		o.fail(errOrigin)
		mustFail(t, open(t, cfg), "a", dewar.ErrBreakerOpen)
		mustCount(t, o, "a", 0)
	})
}
