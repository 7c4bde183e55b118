package dewar_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// The dial and what happens off the readers' path: the bucket, pins, Refresh
// and Preload.

// inTheBucket opens a cache whose bucket holds n keys, a key leaking in ten
// seconds, and returns when the first has leaked.
func inTheBucket(t *testing.T, n int, change func(*config), fall time.Duration) (*cache, *origin, *dewar.Defcon) {
	o := newOrigin(0)
	cfg := warming(o)
	cfg.TTL, cfg.Warm.KeysPerSecond = 1000*time.Second, 0.1
	change(&cfg)
	dial := dialled(&cfg)
	c := open(t, cfg)
	if vs, err := c.GetMany(t.Context(), keys(n)); len(vs) != n || err != nil {
		t.Fatal(len(vs), err)
	}
	time.Sleep(fall)
	if vs, err := c.GetMany(t.Context(), keys(n)); len(vs) != n || err != nil {
		t.Fatal(len(vs), err)
	}
	time.Sleep(time.Second)
	if s := c.Stats(); len(o.asked()) != 2 || s.Bucket != n-1 {
		t.Fatalf("%d loads, %+v", len(o.asked()), s)
	}
	return c, o, dial
}

func TestWhatWaitsInTheBucketIsDroppedWhenTheDialForbidsIt(t *testing.T) {
	for _, tt := range []struct {
		what   string
		fall   time.Duration // when the keys fall in
		change func(*config)
		ends   dewar.Level // the first level at which they do not leak
	}{
		{"due", 900 * time.Second, func(*config) {}, dewar.Elevated},
		{"stale", 1000 * time.Second, func(cfg *config) { cfg.Stale.WhileRevalidate = time.Hour }, dewar.Protect},
	} {
		for _, level := range levels[1:] {
			t.Run(fmt.Sprint(tt.what, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, o, dial := inTheBucket(t, 5, tt.change, tt.fall)
					dial.Set(level)
					time.Sleep(60 * time.Second)
					want := 2 + 4
					if level <= tt.ends {
						want = 2
					}
					if n := len(o.asked()); n != want {
						t.Errorf("%d loads; want %d", n, want)
					}
					if s := c.Stats(); s.Bucket != 0 {
						t.Errorf("%d keys are still in the bucket", s.Bucket)
					}
				})
			})
		}
	}
}

func TestWhatWasDroppedFromTheBucketIsDueAgainWhenTheDialIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := inTheBucket(t, 5, func(*config) {}, 900*time.Second)
		dial.Set(dewar.Lockdown)
		time.Sleep(50 * time.Second)
		dial.Set(dewar.Normal)
		for _, k := range keys(5) {
			if _, err := c.Get(t.Context(), k); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(45 * time.Second)
		if n := len(o.asked()); n != 6 {
			t.Errorf("%d loads; want the first, and five refreshes", n)
		}
	})
}

func TestPinsResumeWithinRetryAfter(t *testing.T) {
	for name, tiers := range tierings() {
		for _, level := range levels[2:] {
			t.Run(fmt.Sprint(name, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.TTL, cfg.Stale.RetryAfter = 10*time.Second, 3*time.Second
					tiers(&cfg)
					dial := dialled(&cfg)
					c := open(t, cfg)
					c.KeepWarm("a", "b")
					time.Sleep(5 * time.Second)
					dial.Set(level)
					time.Sleep(50 * time.Second)
					mustCount(t, o, "a", 1)
					dial.Set(dewar.Elevated)
					time.Sleep(3*time.Second + 50*time.Millisecond)
					mustGet(t, c, "a", "a#2", dewar.CacheOnly())
					mustGet(t, c, "b", "b#2", dewar.CacheOnly())
				})
			})
		}
	}
}

func TestRefreshAndPreloadPassTheThrottleAndEndAtLockdown(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				dial := dialled(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)

				dial.Set(dewar.Protect)
				if err := c.Refresh(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				time.Sleep(50 * time.Millisecond) // it is written
				if err := c.Refresh(t.Context(), "a"); !errors.Is(err, dewar.ErrDefcon) {
					t.Error(err)
				}
				err := c.Refresh(t.Context(), "a", "b")
				if batch, ok := errors.AsType[*dewar.BatchError[string]](err); !ok || len(batch.Errs) != 2 || !errors.Is(batch.For("b"), dewar.ErrDefcon) {
					t.Error(err)
				}
				time.Sleep(time.Second)
				if err := c.Preload(t.Context(), slices.Values([]string{"c", "d", "e"})); !errors.Is(err, dewar.ErrDefcon) {
					t.Error(err)
				}
				if n := o.count("c") + o.count("d") + o.count("e"); n != 1 || o.count("a") != 2 {
					t.Errorf("%d of three preloaded, %d loads of a; want 1 and 2", n, o.count("a"))
				}

				dial.Set(dewar.Lockdown)
				before := len(o.asked())
				if err := c.Refresh(t.Context(), "a"); !errors.Is(err, dewar.ErrDefcon) {
					t.Error(err)
				}
				if err := c.Preload(t.Context(), slices.Values([]string{"x"})); !errors.Is(err, dewar.ErrDefcon) {
					t.Error(err)
				}
				if len(o.asked()) != before {
					t.Error("the origin was asked")
				}
				mustGet(t, c, "a", "a#2")
			})
		})
	}
}

func TestAPreloadUnderWayEndsItsLoadsAtLockdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent, cfg.Guard.MaxBackground = 4, 2
		dial := dialled(&cfg)
		c := open(t, cfg)
		time.AfterFunc(2500*time.Millisecond, func() { dial.Set(dewar.Lockdown) })
		begun := time.Now()
		err := c.Preload(t.Context(), slices.Values(keys(100)))
		if !errors.Is(err, dewar.ErrDefcon) || time.Since(begun) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if n := len(o.asked()); n != 6 {
			t.Errorf("%d loads; want those that ran, 6", n)
		}
		if vs, _ := c.GetMany(t.Context(), keys(100), dewar.CacheOnly()); len(vs) != 6 {
			t.Errorf("%d keys are cached; want 6", len(vs))
		}
	})
}
