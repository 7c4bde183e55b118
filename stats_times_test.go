package dewar_test

import (
	"context"
	"math"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// seen fails the test unless a histogram holds just these values.
func seen(t *testing.T, name string, h dewar.Histogram, want ...float64) {
	t.Helper()
	var buckets [dewar.HistogramBuckets]uint64
	sum := 0.0
	for _, v := range want {
		sum += v
		i := 0
		for dewar.HistogramBound(i) < v {
			i++
		}
		buckets[i]++
	}
	if h.Count != uint64(len(want)) || math.Abs(h.Sum-sum) > 1e-9 || h.Buckets != buckets {
		t.Errorf("%s has seen %d values, together %v; want %v", name, h.Count, h.Sum, want)
	}
}

func TestLoadTimeIsThatOfTheLoaderHoweverItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(0))
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			d, err := time.ParseDuration(k)
			time.Sleep(d)
			return k, err
		}
		cfg.Guard.MaxConcurrent = 1
		c := open(t, cfg)
		mustGet(t, c, "3s", "3s")
		_, _ = c.Get(t.Context(), "no duration")
		go c.Get(t.Context(), "250ms")
		synctest.Wait()
		mustGet(t, c, "100ms", "100ms")        // the wait for its slot is none of the origin's time
		mustFail(t, c, "1m", dewar.ErrTimeout) // it goes on
		time.Sleep(time.Minute)
		seen(t, "LoadTime", c.Stats().LoadTime, 3, 0, 0.25, 0.1, 60)
	})
}

func TestWaitTimeIsThatOfEachReaderWhoWaitedForAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, batched(newOrigin(3*time.Second)))
		var wg sync.WaitGroup
		wg.Go(func() { mustGet(t, c, "a", "a#1") })
		time.Sleep(time.Second)
		wg.Go(func() {
			if _, err := c.GetMany(t.Context(), []string{"a", "b"}); err != nil { // b is a load of its own
				t.Error(err)
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, _ = c.Get(ctx, "a")
		})
		wg.Wait()
		mustGet(t, c, "a", "a#1")
		_, _ = c.GetResult(t.Context(), "a") // neither of them waits
		seen(t, "WaitTime", c.Stats().WaitTime, 3, 3, 3, 0.5)
	})
}

func TestServeAgeAndStaleAgeAreTheValuesAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(2 * time.Second)
		cfg := batched(o)
		cfg.Stale.IfError = time.Hour
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1") // its age counts from the load's begin
		time.Sleep(28 * time.Second)
		mustGet(t, c, "a", "a#1")
		if _, err := c.GetManyResults(t.Context(), []string{"a"}); err != nil {
			t.Error(err)
		}
		o.fail(errOrigin)
		o.slow(0)
		time.Sleep(70 * time.Second)
		mustGet(t, c, "a", "a#1")
		mustFail(t, c, "b", errOrigin)
		s := c.Stats()
		seen(t, "ServeAge", s.ServeAge, 2, 30, 100)
		seen(t, "StaleAge", s.StaleAge, 100)
	})
}

func TestBatchSizeIsTheKeysOfEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := batched(newOrigin(0))
		cfg.Batch.MaxSize = 100
		c := open(t, cfg)
		if _, err := c.GetMany(t.Context(), keys(250)); err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, "a", "a#1")
		seen(t, "BatchSize", c.Stats().BatchSize, 100, 100, 50, 1)
	})
}

func TestFillTimeIsTheRoundTripAndBackfillDelayCountsFromTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setScene(t)
		w.intercept(func(op string, _ []string) error {
			if op == "Fill" {
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		})
		mustGet(t, w.cache, "a", "a#1")
		time.Sleep(10 * time.Millisecond)
		mustGet(t, w.cache, "b", "b#1") // waits for the write of a
		if err := w.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Set(t.Context(), "c", "set"); err != nil { // is no backfill
			t.Fatal(err)
		}
		s := w.Stats()
		seen(t, "FillTime", s.FillTime, 0.05, 0.05, 0.05)
		seen(t, "BackfillDelay", s.BackfillDelay, 0.05, 0.09)
	})
}

func TestAHitChangesNothingButItsCounterAndAllocatesNothing(t *testing.T) {
	for _, track := range []int{0, 1, 100} {
		for name, tiers := range tierings() {
			if name != "ristretto" && name != "otter" && name != "both" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				tiers(&cfg)
				cfg.Track = track
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				if err := c.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the load's slot is given back", func() bool { return c.Stats().Origin.Calls == 0 })
				ctx, ks, into := t.Context(), []string{"a"}, 0
				before := c.Stats()
				hit := testing.AllocsPerRun(2000, func() { _, _ = c.Get(ctx, "a") })
				many := testing.AllocsPerRun(2000, func() {
					m, _ := c.GetMany(ctx, ks)
					into += len(m)
				})
				after := c.Stats()
				if bare := testing.AllocsPerRun(2000, func() { into += len(bareSweep(ks)) }); hit != 0 || many > bare {
					t.Errorf("%v allocations a hit; %v a GetMany, whose map takes %v", hit, many, bare)
				}
				if got := after.LocalHits - before.LocalHits; got != 2*2001 {
					t.Errorf("%d hits counted", got)
				}
				after.LocalHits = before.LocalHits
				after.Remote.SilentFor = before.Remote.SilentFor
				if !reflect.DeepEqual(before, after) {
					t.Errorf("%+v\nwas %+v", after, before)
				}
			})
		}
	}
}

// bareSweep makes the map that a GetMany of such keys returns.
//
//go:noinline
func bareSweep(ks []string) map[string]string {
	m := make(map[string]string, len(ks))
	for _, k := range ks {
		m[k] = k
	}
	return m
}
