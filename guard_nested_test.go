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

// It is another service's slot that it waits for.
func TestALoadNestedInOneOfAnotherOriginTakesASlotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := localOnly(o)
		cfg.Name, cfg.Origin = "inner", dewar.NewOrigin("inner", dewar.Guard{MaxConcurrent: 1, QueueTimeout: time.Minute})
		inner := open(t, cfg)
		cfg.Name, cfg.Origin = "outer", dewar.NewOrigin("outer", dewar.Guard{MaxConcurrent: 3})
		cfg.Load = func(ctx context.Context, k string) (string, error) { return inner.Get(ctx, k) }
		outer := open(t, cfg)
		begun := time.Now()
		var wg sync.WaitGroup
		for _, k := range keys(3) {
			wg.Go(func() { mustGet(t, outer, k, k+"#1") })
		}
		wg.Wait()
		if n, took := o.atOnce(), time.Since(begun); n != 1 || took != 3*time.Second {
			t.Errorf("%d at once, all took %v", n, took)
		}
	})
}

// It has its turn like any other call, but needs no slot for it.
func TestANestedLoadTakesATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, _ := nested(t, dewar.Guard{LoadsPerSecond: 2, QueueTimeout: time.Minute}, newOrigin(0))
		begun := time.Now()
		mustGet(t, outer, "a", "outer a#1")
		if took := time.Since(begun); took != 500*time.Millisecond {
			t.Error("took", took)
		}
	})
}

// A batch inside a load, and a load inside that.
func TestNestedBatchesTakeNoSecondSlotHoweverDeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Millisecond)
		shared := dewar.NewOrigin("catalog", dewar.Guard{MaxConcurrent: 1, QueueTimeout: time.Second})
		var caches []*cache
		for depth := range 4 {
			cfg := batched(o)
			cfg.Name, cfg.Origin = fmt.Sprint("depth", depth), shared
			cfg.Batch.MaxSize = 3
			if depth > 0 {
				below := caches[depth-1]
				cfg.LoadMany = func(ctx context.Context, ks []string) (map[string]string, error) { return below.GetMany(ctx, ks) }
			}
			caches = append(caches, open(t, cfg))
		}
		begun := time.Now()
		if vs, err := caches[3].GetMany(t.Context(), keys(20)); len(vs) != 20 || err != nil {
			t.Error(len(vs), err)
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Error("took", took)
		}
	})
}
