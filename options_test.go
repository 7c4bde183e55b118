package dewar_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestCacheOnlyNeverJoinsNorCausesALoad(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				c := open(t, cfg)
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				var wg sync.WaitGroup
				wg.Go(func() { mustGet(t, c, "a", "a#1") })
				time.Sleep(100 * time.Millisecond)
				begun := time.Now()
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly()) // a load is under way
				if took := time.Since(begun); took > 3*time.Millisecond {
					t.Error("took", took)
				}
				wg.Wait()
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestCacheOnlyMakesNothingDue(t *testing.T) {
	for name, tiers := range tierings() {
		for when, after := range map[string]time.Duration{"due": 95 * time.Second, "inside WhileRevalidate": 101 * time.Second} {
			t.Run(name+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := warming(o)
					cfg.Stale.WhileRevalidate = time.Hour
					tiers(&cfg)
					c := open(t, cfg)
					mustGet(t, c, "a", "a#1")
					time.Sleep(after)
					mustGet(t, c, "a", "a#1", dewar.CacheOnly())
					if vs, err := c.GetMany(t.Context(), []string{"a"}, dewar.CacheOnly()); vs["a"] != "a#1" || err != nil {
						t.Error(vs, err)
					}
					time.Sleep(time.Second)
					mustCount(t, o, "a", 1)
					mustGet(t, c, "a", "a#1") // while any other read does
					time.Sleep(time.Second)
					mustCount(t, o, "a", 2)
				})
			})
		}
	}
}

func TestCacheOnlyServesStaleValuesInsideTheirWindow(t *testing.T) {
	for name, s := range map[string]dewar.Stale{
		"IfError":         {IfError: 10 * time.Second},
		"WhileRevalidate": {WhileRevalidate: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			forStale(t, s, func(t *testing.T, c *cache, o *origin) {
				mustBeStale(t, c, nil, dewar.CacheOnly())
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly(), dewar.NoStale())
				time.Sleep(10 * time.Second)
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestNoStaleWaitsForTheLoadWhateverSoftTimeoutSays(t *testing.T) {
	for name, s := range map[string]dewar.Stale{
		"SoftTimeout":     {IfError: time.Hour, SoftTimeout: 50 * time.Millisecond},
		"WhileRevalidate": {IfError: time.Hour, WhileRevalidate: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			forStale(t, s, func(t *testing.T, c *cache, o *origin) {
				o.slow(time.Second)
				mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin, dewar.NoStale())
			})
			t.Run("failing", func(t *testing.T) {
				forStale(t, s, func(t *testing.T, c *cache, o *origin) {
					o.fail(errOrigin)
					mustFail(t, c, "a", errOrigin, dewar.NoStale())
				})
			})
		})
	}
}

func TestNoStaleNeverGetsWhatAJoinedFlightServesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Stale = dewar.Stale{IfError: time.Hour, WhileRevalidate: time.Hour}
		srv := newServer()
		cfg.Remote = srv
		first := open(t, cfg)
		mustGet(t, first, "a", "a#1")
		time.Sleep(2 * time.Minute)
		cfg.Remote = slowRemote(srv, 10*time.Millisecond)
		c := open(t, cfg)
		var wg sync.WaitGroup
		wg.Go(func() { mustGet(t, c, "a", "a#1") }) // finds it stale in the remote tier
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if v, err := c.Get(t.Context(), "a", dewar.NoStale()); v == "a#1" || err != nil {
					t.Error(v, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestNoStaleIsAnsweredByAFreshHit(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(30 * time.Second)
				mustGet(t, c, "a", "a#1", dewar.NoStale())
			})
		})
	}
}

func TestMaxAgeForcesALoadOfWhatIsOlder(t *testing.T) {
	s := dewar.Stale{IfError: time.Hour, WhileRevalidate: time.Hour}
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale = s
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(10 * time.Second)
				mustGet(t, c, "a", "a#1", dewar.MaxAge(11*time.Second))
				mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin, dewar.MaxAge(9*time.Second))
				time.Sleep(2 * time.Minute) // inside WhileRevalidate, which does not apply
				mustBe(t, c, "a", "a#3", dewar.StatusLoaded, dewar.TierOrigin, dewar.MaxAge(time.Minute))
			})
		})
	}
	t.Run("failing", func(t *testing.T) {
		forStale(t, s, func(t *testing.T, c *cache, o *origin) {
			o.fail(errOrigin)
			mustBeStale(t, c, errOrigin, dewar.MaxAge(time.Second)) // IfError still falls back
			mustFail(t, c, "a", errOrigin, dewar.MaxAge(time.Second), dewar.NoStale())
		})
	})
	t.Run("fresh and failing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			cfg := localOnly(o)
			cfg.Stale.IfError = time.Hour
			c := open(t, cfg)
			mustGet(t, c, "a", "a#1")
			time.Sleep(10 * time.Second)
			o.fail(errOrigin)
			mustBeStale(t, c, errOrigin, dewar.MaxAge(time.Second))
			mustBe(t, c, "a", "a#1", dewar.StatusHit, dewar.TierLocal)
		})
	})
}

func TestMaxAgeWithoutAStaleWindowReturnsTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, localOnly(o))
		mustGet(t, c, "a", "a#1")
		time.Sleep(10 * time.Second)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin, dewar.MaxAge(time.Second))
		mustGet(t, c, "a", "a#1")
		mustFail(t, c, "a", dewar.ErrNotCached, dewar.MaxAge(time.Second), dewar.CacheOnly())
	})
}

func TestMaxAgeForgetsMissingKeysToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		o.remove("a")
		c := open(t, localOnly(o))
		mustFail(t, c, "a", dewar.ErrNotFound)
		time.Sleep(2 * time.Second)
		mustFail(t, c, "a", dewar.ErrNotFound, dewar.MaxAge(3*time.Second))
		mustCount(t, o, "a", 1)
		mustFail(t, c, "a", dewar.ErrNotFound, dewar.MaxAge(time.Second))
		mustCount(t, o, "a", 2)
	})
}

func TestTheStricterOfTwoMaxAgesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, localOnly(o))
		mustGet(t, c, "a", "a#1")
		time.Sleep(10 * time.Second)
		mustGet(t, c, "a", "a#2", dewar.MaxAge(time.Second), dewar.MaxAge(time.Minute))
	})
}

func TestAJoinedLoadIsNewEnoughForMaxAgeOnlyIfItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(5 * time.Second)
		c := open(t, localOnly(o))
		var wg sync.WaitGroup
		wg.Go(func() { mustGet(t, c, "a", "a#1") })
		time.Sleep(3 * time.Second)
		for range 10 {
			wg.Go(func() { mustGet(t, c, "a", "a#1", dewar.MaxAge(4*time.Second)) })
			wg.Go(func() { mustGet(t, c, "a", "a#2", dewar.MaxAge(2*time.Second)) })
		}
		wg.Wait()
		mustCount(t, o, "a", 2)
	})
}
