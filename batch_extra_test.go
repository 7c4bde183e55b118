package dewar_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// generous is a LoadMany that takes a second and returns "x" whatever it is
// asked for.
func generous(o *origin) func(context.Context, []string) (map[string]string, error) {
	return func(ctx context.Context, ks []string) (map[string]string, error) {
		m, err := o.loadMany(ctx, ks)
		if m != nil {
			m["x"] = "extra"
		}
		return m, err
	}
}

func TestExtraKeysFillGapsAndAreNotInTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := batched(o)
		cfg.LoadMany = generous(o)
		c := open(t, cfg)
		vs, err := c.GetMany(t.Context(), []string{"a"})
		if len(vs) != 1 || vs["a"] != "a#1" || err != nil {
			t.Error(vs, err)
		}
		synctest.Wait() // extra keys are stored after the others are answered
		r := mustBe(t, c, "x", "extra", dewar.StatusHit, dewar.TierLocal)
		if r.Age != time.Second {
			t.Error("its age does not count from the load's begin:", r.Age)
		}
		mustCount(t, o, "x", 0)
	})
}

func TestExtraKeysOverwriteNothing(t *testing.T) {
	tests := map[string]struct {
		before, during func(t *testing.T, c *cache)
		want           string // what is cached of x afterwards; "" for nothing
	}{
		"nothing there": {want: "extra"},
		"a fresh value": {
			before: func(t *testing.T, c *cache) { c.Set(t.Context(), "x", "mine") },
			want:   "mine",
		},
		"a stale value": {
			before: func(t *testing.T, c *cache) {
				c.Set(t.Context(), "x", "mine")
				time.Sleep(2 * time.Minute)
			},
			want: "mine",
		},
		"set since": {
			during: func(t *testing.T, c *cache) { c.Set(t.Context(), "x", "mine") },
			want:   "mine",
		},
		"invalidated since": {
			during: func(t *testing.T, c *cache) { c.Invalidate(t.Context(), "x") },
		},
		"set and invalidated since": {
			during: func(t *testing.T, c *cache) {
				c.Set(t.Context(), "x", "mine")
				c.Invalidate(t.Context(), "x")
			},
		},
		"expired since": {
			before: func(t *testing.T, c *cache) { c.Set(t.Context(), "x", "mine") },
			during: func(t *testing.T, c *cache) { c.Expire(t.Context(), "x") },
			want:   "mine",
		},
		"a load of it under way": {
			during: func(t *testing.T, c *cache) { go c.Get(t.Context(), "x", dewar.NoStale()) },
			want:   "x#1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				one := newOrigin(5 * time.Second)
				cfg := localOnly(one)
				cfg.LoadMany = generous(o)
				cfg.Stale.IfError = time.Hour
				c := open(t, cfg)
				if tt.before != nil {
					tt.before(t, c)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					c.GetMany(t.Context(), []string{"a"})
				}()
				time.Sleep(500 * time.Millisecond)
				if tt.during != nil {
					tt.during(t, c)
				}
				<-done
				time.Sleep(10 * time.Second)
				if tt.want == "" {
					mustFail(t, c, "x", dewar.ErrNotCached, dewar.CacheOnly())
				} else {
					mustGet(t, c, "x", tt.want, dewar.CacheOnly())
				}
			})
		})
	}
}

func TestLingerGathersConcurrentGetsIntoOneLoadMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		o.remove("k003")
		cfg := batched(o)
		cfg.Batch.Linger = 10 * time.Millisecond
		cfg.Load = newOrigin(0).load // not used: with Linger, Get uses LoadMany
		c := open(t, cfg)
		begun := time.Now()
		for i, k := range keys(10) {
			go func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				v, err := c.Get(t.Context(), k)
				if k == "k003" && err != dewar.ErrNotFound || k != "k003" && (err != nil || v != k+"#1") {
					t.Errorf("%s: %q, %v", k, v, err)
				}
				if took := time.Since(begun); took != 1010*time.Millisecond {
					t.Errorf("%s took %v", k, took)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		if calls := o.asked(); len(calls) != 1 || len(calls[0].keys) != 10 {
			t.Error(calls)
		}
	})
}

func TestAFullLingeringBatchDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := batched(o)
		cfg.Batch.Linger, cfg.Batch.MaxSize = time.Second, 5
		c := open(t, cfg)
		begun := time.Now()
		done := make(chan struct{})
		for _, k := range keys(5) {
			go func() { mustGet(t, c, k, k+"#1"); done <- struct{}{} }()
		}
		for range 5 {
			<-done
		}
		if took := time.Since(begun); took != 0 || len(o.asked()) != 1 {
			t.Errorf("%v, %v", took, o.asked())
		}
	})
}

func TestCacheOnlyMissesOfABatchAreErrNotCached(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				o.remove("gone")
				cfg := batched(o)
				tiers(&cfg)
				c := open(t, cfg)
				if vs, err := c.GetMany(t.Context(), []string{"a", "gone"}); len(vs) != 1 || err != nil {
					t.Fatal(vs, err)
				}
				time.Sleep(time.Second)
				vs, err := c.GetMany(t.Context(), []string{"z", "a", "y", "gone"}, dewar.CacheOnly())
				batch, ok := err.(*dewar.BatchError[string])
				if len(vs) != 1 || vs["a"] != "a#1" || !ok || len(batch.Errs) != 2 || batch.Errs[0].Key != "z" ||
					batch.For("z") != dewar.ErrNotCached || batch.For("y") != dewar.ErrNotCached {
					t.Error(vs, err)
				}
				rs, _ := c.GetManyResults(t.Context(), []string{"z", "gone"}, dewar.CacheOnly())
				if len(rs) != 1 || rs["gone"].Status != dewar.StatusNegative {
					t.Error(rs)
				}
				mustCount(t, o, "z", 0)
			})
		})
	}
}
