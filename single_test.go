package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func TestAFreshLocalHitAllocatesNothing(t *testing.T) {
	type id string
	ctx := t.Context()
	for name, local := range map[string]dewar.LocalOpener[string]{
		"ristretto": memory.Config[string]{MaxEntries: 1000},
		"otter":     memory.Otter[string]{MaxEntries: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := localOnly(newOrigin(0))
			cfg.TTL, cfg.Local = time.Hour, local
			c := open(t, cfg)
			mustGet(t, c, "a", "a#1")
			if n := testing.AllocsPerRun(1000, func() { c.Get(ctx, "a") }); n != 0 {
				t.Errorf("%v allocations", n)
			}

			own, err := dewar.New(dewar.Config[id, string]{
				Name: "own", TTL: time.Hour, Local: local,
				Load: func(context.Context, id) (string, error) { return "v", nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			own.Get(ctx, "a")
			if n := testing.AllocsPerRun(1000, func() { own.Get(ctx, "a") }); n != 0 {
				t.Errorf("%v allocations with a string type of one's own", n)
			}
		})
	}
}

func TestAnEntryIsFreshToTheNanosecond(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(2 * time.Second)
				cfg := localOnly(o)
				cfg.TTL = 10 * time.Second
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				at := o.asked()[0].at
				time.Sleep(time.Until(at.Add(10*time.Second - 1 - 20*time.Millisecond)))
				mustGet(t, c, "a", "a#1", dewar.CacheOnly())
				if cfg.Local == nil {
					return // the answer takes a round trip
				}
				time.Sleep(time.Until(at.Add(10*time.Second - 1)))
				r := mustBe(t, c, "a", "a#1", dewar.StatusHit, dewar.TierLocal)
				if r.Age != 10*time.Second-1 {
					t.Error("age", r.Age)
				}
				time.Sleep(time.Nanosecond)
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				mustGet(t, c, "a", "a#2")
			})
		})
	}
}

func TestAnOriginSlowerThanTheTTLDoesNotSwitchTheCacheOff(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(3 * time.Second)
				cfg := localOnly(o)
				cfg.TTL = 2 * time.Second
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(500*time.Millisecond - 20*time.Millisecond) // TTL/4 after the end
				mustGet(t, c, "a", "a#1")
				time.Sleep(20 * time.Millisecond)
				mustGet(t, c, "a", "a#2")
			})
		})
	}
}

func TestResultsTellWhereAValueComesFromAndItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer()
		first := localOnly(newOrigin(time.Second))
		first.Remote = srv
		a := open(t, first)
		r := mustBe(t, a, "a", "a#1", dewar.StatusLoaded, dewar.TierOrigin)
		if r.Age != time.Second || r.Collapsed || r.Err != nil {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		second := localOnly(newOrigin(0))
		second.Remote = srv
		b := open(t, second)
		r = mustBe(t, b, "a", "a#1", dewar.StatusHit, dewar.TierRemote)
		if r.Age != 2*time.Second || r.Collapsed {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		r = mustBe(t, b, "a", "a#1", dewar.StatusHit, dewar.TierLocal) // promoted
		if r.Age != 3*time.Second {
			t.Errorf("%+v", r)
		}
		if n := srv.Counts().Read.Calls; n != 2 {
			t.Errorf("%d reads of the remote tier; want 2", n)
		}
	})
}

func TestMissingKeysAreRememberedForNegativeTTL(t *testing.T) {
	for _, tt := range []struct {
		ttl, negative, want time.Duration
	}{
		{time.Minute, 0, 5 * time.Second}, // the default: min(TTL, 5s)
		{2 * time.Second, 0, 2 * time.Second},
		{time.Minute, 20 * time.Second, 20 * time.Second},
		{time.Second, 20 * time.Second, 20 * time.Second},
		{time.Minute, -1, 0},
	} {
		t.Run(fmt.Sprint(tt.ttl, " ", tt.negative), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				o.remove("a")
				cfg := localOnly(o)
				cfg.TTL, cfg.NegativeTTL, cfg.Stale.IfError = tt.ttl, tt.negative, time.Hour
				c := open(t, cfg)
				mustFail(t, c, "a", dewar.ErrNotFound)
				if tt.want > 0 {
					time.Sleep(tt.want - 1)
					r, err := c.GetResult(t.Context(), "a")
					if !errors.Is(err, dewar.ErrNotFound) || r.Status != dewar.StatusNegative || r.Tier != dewar.TierLocal {
						t.Errorf("%+v, %v", r, err)
					}
					mustCount(t, o, "a", 1)
					time.Sleep(time.Nanosecond)
				}
				mustFail(t, c, "a", dewar.ErrNotFound)
				mustCount(t, o, "a", 2)
			})
		})
	}
}

func TestNotFoundMapsTheLoadersErrorWhichBothFind(t *testing.T) {
	errNoRows := errors.New("sql: no rows")
	for name, many := range map[string]bool{"Load": false, "LoadMany": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				loads := 0
				cfg := localOnly(newOrigin(0))
				cfg.NotFound = func(err error) bool { return errors.Is(err, errNoRows) }
				cfg.Load = func(context.Context, string) (string, error) {
					loads++
					return "junk", fmt.Errorf("video: %w", errNoRows)
				}
				if many {
					cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) {
						loads++
						return nil, fmt.Errorf("video: %w", errNoRows)
					}
				}
				c := open(t, cfg)
				_, err := c.Get(t.Context(), "a")
				if !errors.Is(err, errNoRows) || !errors.Is(err, dewar.ErrNotFound) || err.Error() != "video: sql: no rows" {
					t.Error(err)
				}
				mustFail(t, c, "a", dewar.ErrNotFound) // remembered
				if vs, err := c.GetMany(t.Context(), []string{"a"}); len(vs) != 0 || err != nil {
					t.Error(vs, err)
				}
				if loads != 1 {
					t.Error(loads, "loads")
				}
			})
		})
	}
}

func TestWithNotFoundOfOnesOwnErrNotFoundIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		o.remove("a")
		cfg := localOnly(o)
		cfg.NotFound = func(error) bool { return false }
		c := open(t, cfg)
		mustFail(t, c, "a", dewar.ErrNotFound)
		mustFail(t, c, "a", dewar.ErrNotFound)
		mustCount(t, o, "a", 2)
	})
}

func TestTTLOfGivesEachValueItsTTLAndStoresNothingAtZero(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ttl := map[string]time.Duration{"short": 2 * time.Second, "none": 0, "negative": -time.Second, "once": time.Second}
				o := newOrigin(0)
				cfg := batched(o)
				tiers(&cfg)
				cfg.TTLOf = func(k, v string) time.Duration {
					if v == "once#2" {
						return 0
					}
					return ttl[k]
				}
				c := open(t, cfg)
				for i := range 2 {
					mustGet(t, c, "none", fmt.Sprint("none#", i+1))
					mustGet(t, c, "negative", fmt.Sprint("negative#", i+1))
				}
				mustGet(t, c, "short", "short#1")
				time.Sleep(1500 * time.Millisecond)
				mustGet(t, c, "short", "short#1")
				time.Sleep(500 * time.Millisecond)
				mustGet(t, c, "short", "short#2")

				mustGet(t, c, "once", "once#1")
				time.Sleep(100 * time.Millisecond)
				mustGet(t, c, "once", "once#2", dewar.Reload()) // not stored: what was there is removed
				time.Sleep(100 * time.Millisecond)
				mustFail(t, c, "once", dewar.ErrNotCached, dewar.CacheOnly())

				mustGet(t, c, "once", "once#3")
				if err := c.Set(t.Context(), "once", "once#2"); err != nil {
					t.Error(err)
				}
				mustFail(t, c, "once", dewar.ErrNotCached, dewar.CacheOnly())
			})
		})
	}
}

func TestEachCallerGetsACloneOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := dewar.New(dewar.Config[string, []int]{
			Name: "test", TTL: time.Minute, Local: memory.Config[[]int]{MaxEntries: 100},
			Stale: dewar.Stale{IfError: time.Hour},
			Clone: slices.Clone[[]int],
			Load:  func(context.Context, string) ([]int, error) { time.Sleep(time.Second); return []int{1, 2}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		spoil := func(v []int, err error) {
			if len(v) != 2 || v[0] != 1 || err != nil {
				t.Error("somebody else's changes:", v, err)
				return
			}
			v[0] = 99
		}
		for range 3 {
			go func() { spoil(c.Get(t.Context(), "a")) }()
		}
		time.Sleep(2 * time.Second)
		spoil(c.Get(t.Context(), "a"))
		r, err := c.GetResult(t.Context(), "a")
		spoil(r.Value, err)
		vs, err := c.GetMany(t.Context(), []string{"a", "b"})
		spoil(vs["a"], err)
		spoil(vs["b"], err)
		own := []int{1, 3}
		if err := c.Set(t.Context(), "a", own); err != nil {
			t.Error(err)
		}
		own[0] = 99 // what was set is a copy too
		spoil(c.Get(t.Context(), "a"))
		spoil(c.Get(t.Context(), "a", dewar.CacheOnly()))
	})
}

func TestADoneContextDoesNotHinderAFreshHit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(0))
		cfg.Stale.IfError = time.Hour
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if v, err := c.Get(ctx, "a"); v != "a#1" || err != nil {
			t.Error(v, err)
		}
		if r, err := c.GetResult(ctx, "a"); r.Value != "a#1" || err != nil {
			t.Error(r, err)
		}
		if vs, err := c.GetMany(ctx, []string{"a"}); len(vs) != 1 || err != nil {
			t.Error(vs, err)
		}
		if _, err := c.Get(ctx, "b"); err != context.Canceled {
			t.Error(err)
		}
	})
}

func TestEachReadCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		o.remove("gone")
		cfg := batched(o)
		cfg.Stale.IfError = time.Hour
		c := open(t, cfg)
		go c.Get(t.Context(), "a")                    // loaded
		c.Get(t.Context(), "a")                       // loaded, collapsed
		c.Get(t.Context(), "a")                       // hit
		c.GetMany(t.Context(), []string{"a", "gone"}) // hit, negative
		c.Get(t.Context(), "b", dewar.CacheOnly())    // failed
		time.Sleep(2 * time.Minute)
		o.fail(errOrigin)
		c.GetManyResults(t.Context(), []string{"a", "c"}) // stale, failed
		s := c.Stats()
		got := []uint64{s.LocalHits, s.Loaded, s.Stale, s.Negative, s.Failed, s.Collapsed, s.Loads, s.LoadErrors}
		if want := []uint64{2, 2, 1, 1, 2, 1, 3, 1}; !slices.Equal(got, want) {
			t.Errorf("%v; want %v", got, want)
		}
	})
}
