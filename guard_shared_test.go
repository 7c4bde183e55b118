package dewar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Caches that stand before the same origin, and caches that do not.

// service opens n caches, named after it, on one Origin.
func service(t *testing.T, name string, g dewar.Guard, o *origin, n int, alter ...func(i int, cfg *config)) []*cache {
	shared := dewar.NewOrigin(name, g)
	var caches []*cache
	for i := range n {
		cfg := localOnly(o)
		cfg.Name, cfg.Origin = fmt.Sprint(name, "-", i), shared
		for _, a := range alter {
			a(i, &cfg)
		}
		caches = append(caches, open(t, cfg))
	}
	return caches
}

func TestThreeServicesFailIndependently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"catalog", "profiles", "prices"}
		origins := make(map[string]*origin)
		caches := make(map[string][]*cache)
		for _, name := range names {
			origins[name] = newOrigin(0)
			caches[name] = service(t, name, dewar.Guard{MaxConcurrent: 2, Breaker: dewar.Breaker{OpenFor: time.Minute}}, origins[name], 3)
		}
		origins["profiles"].fail(errOrigin)
		origins["prices"].slow(time.Hour)
		for i := range 100 {
			for _, c := range caches["profiles"] {
				_, _ = c.Get(t.Context(), fmt.Sprint(i))
			}
		}
		for i, c := range caches["prices"] {
			go c.Get(t.Context(), fmt.Sprint(i))
		}
		synctest.Wait()
		begun := time.Now()
		for _, c := range caches["catalog"] {
			mustGet(t, c, "a", fmt.Sprintf("a#%d", origins["catalog"].count("a")+1))
			mustBreaker(t, c, dewar.BreakerClosed)
		}
		if took := time.Since(begun); took > 0 {
			t.Error("took", took)
		}
		for _, c := range caches["profiles"] {
			mustFail(t, c, "a", dewar.ErrBreakerOpen)
		}
		mustFail(t, caches["prices"][0], "a", dewar.ErrOverloaded)
		mustBreaker(t, caches["prices"][0], dewar.BreakerClosed)
	})
}

// A sick service is one breaker, not ten.
func TestASharedGuardTripsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		heard := make([]changes, 10)
		o := newOrigin(0)
		caches := service(t, "catalog", dewar.Guard{}, o, 10, func(i int, cfg *config) {
			cfg.Trace = heard[i].trace()
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		o.fail(errOrigin)
		for i := range 20 { // two failures of each
			mustFail(t, caches[i%10], fmt.Sprint(i), errOrigin)
		}
		for _, c := range caches {
			mustBreaker(t, c, dewar.BreakerOpen)
			mustFail(t, c, "a", dewar.ErrBreakerOpen)
		}
		if n := len(o.asked()); n != 20 {
			t.Errorf("%d calls", n)
		}
		if _, err := caches[3].Get(t.Context(), "a"); !strings.Contains(err.Error(), `"catalog"`) {
			t.Error("the error does not say which origin:", err)
		}
		for i := range heard {
			seen := heard[i].all()
			if len(seen) != 1 {
				t.Fatalf("cache %d has heard %+v", i, seen)
			}
			if ch := seen[0]; ch.Origin != "catalog" || ch.From != dewar.BreakerClosed || ch.To != dewar.BreakerOpen ||
				ch.Calls != 20 || ch.Failures != 20 || ch.Err != errOrigin {
				t.Errorf("cache %d has heard %+v", i, ch)
			}
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "origin=catalog") ||
			!strings.Contains(log.String(), "failures=20") || !strings.Contains(log.String(), errOrigin.Error()) ||
			!strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%d lines: %s", lines, log.String())
		}
	})
}

func TestASharedBulkheadAndRateBoundAllCachesTogether(t *testing.T) {
	for name, g := range map[string]dewar.Guard{
		"slots": {MaxConcurrent: 4, QueueTimeout: time.Minute}, "rate": {LoadsPerSecond: 20, QueueTimeout: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(200 * time.Millisecond) // 20 a second in 4 slots
				caches := service(t, "catalog", g, o, 5)
				begun := time.Now()
				var wg sync.WaitGroup
				for _, c := range caches {
					for _, k := range keys(20) {
						wg.Go(func() {
							if _, err := c.Get(t.Context(), k); err != nil {
								t.Error(err)
							}
						})
					}
				}
				wg.Wait()
				if most := o.atOnce(); name == "slots" && most != 4 || most > 6 { // the rate lets 2 through at once
					t.Errorf("%d at once", most)
				}
				if took := time.Since(begun); took < 4900*time.Millisecond || took > 5200*time.Millisecond {
					t.Errorf("100 calls took %v; want 5s", took)
				}
			})
		})
	}
}

// What is left of a cache that is closed is nothing: not a slot, not a hook.
func TestAClosedCacheLeavesTheOriginItSharesToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		heard := make([]changes, 2)
		o := newOrigin(time.Hour)
		caches := service(t, "catalog", dewar.Guard{MaxConcurrent: 1, Breaker: tripping()}, o, 2, func(i int, cfg *config) {
			cfg.Trace = heard[i].trace()
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		waits := make(chan error, 2)
		go func() { _, err := caches[0].Get(t.Context(), "a"); waits <- err }()
		synctest.Wait()
		go func() { _, err := caches[0].Get(t.Context(), "queues"); waits <- err }()
		synctest.Wait()
		if s := caches[1].Stats().Origin; s.Calls != 1 || s.Queued != 1 {
			t.Errorf("%+v", s)
		}
		if err := caches[0].Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-waits; !errors.Is(err, dewar.ErrClosed) {
				t.Error(err)
			}
		}
		synctest.Wait()
		if s := caches[1].Stats().Origin; s.Calls != 0 || s.Queued != 0 || s.Breaker != dewar.BreakerClosed {
			t.Errorf("%+v", s)
		}
		o.slow(0)
		mustGet(t, caches[1], "a", "a#2")
		trip(t, caches[1], o)
		if len(heard[0].all()) != 0 || len(heard[1].all()) != 1 {
			t.Errorf("heard %+v", heard)
		}
		if !strings.Contains(log.String(), "cache=catalog-1") {
			t.Errorf("the log is the closed cache's: %s", log.String())
		}
	})
}

func TestEveryCacheHasAGuardOfItsOwnWithoutOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.Breaker = tripping()
		a, b := open(t, cfg), open(t, cfg)
		trip(t, a, o)
		mustBreaker(t, b, dewar.BreakerClosed)
		o.fail(nil)
		mustGet(t, b, "a", "a#1")
	})
}

func TestAGuardLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		o := newOrigin(0)
		shared := dewar.NewOrigin("catalog", dewar.Guard{
			MaxConcurrent: 3, LoadsPerSecond: 10, QueueTimeout: time.Hour, Breaker: tripping(),
			Retry: dewar.Retry{Idempotent: true, Budget: 1, Pause: time.Hour},
		})
		cfg := warming(o)
		cfg.Origin, cfg.Flight.Timeout = shared, time.Hour
		var hung atomic.Bool
		cfg.LoadMany = func(ctx context.Context, ks []string) (map[string]string, error) {
			if hung.Load() {
				<-ctx.Done()
			}
			return o.loadMany(ctx, ks)
		}
		c, err := dewar.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, "a", "a#1")
		c.KeepWarm("pinned", "pinned too")
		time.Sleep(90 * time.Second)
		hung.Store(true)
		for _, k := range keys(50) { // some hang, some wait for a slot, some for a turn
			go c.Get(t.Context(), k)
		}
		go preload(c, keys(100))
		mustGet(t, c, "a", "a#1") // is due
		time.Sleep(time.Second)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if left := goroutinesOf("dewar.("); len(left) > 0 {
			t.Errorf("%d goroutines are left, the first:\n%s", len(left), left[0])
		}
		if s := shared.Stats(); s.Calls != 0 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
	})
}
