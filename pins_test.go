package dewar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestKeepWarmLoadsAColdKeyAndRefreshesItForEverWithoutReads(t *testing.T) {
	for name, tiers := range tierings() {
		for how, ahead := range map[string]float64{"": 0.8, ", Ahead off": -1} {
			t.Run(name+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.TTL, cfg.Warm.Ahead = 100*time.Second, ahead
					tiers(&cfg)
					c := open(t, cfg)
					c.KeepWarm("a", "b", "a")
					time.Sleep(100 * time.Millisecond)
					mustGet(t, c, "a", "a#1", dewar.CacheOnly())
					mustGet(t, c, "b", "b#1", dewar.CacheOnly())
					time.Sleep(70 * time.Second)
					mustCount(t, o, "a", 1)
					time.Sleep(20 * time.Second)
					mustCount(t, o, "a", 2) // at 0.8, spread by up to a tenth of that
					mustGet(t, c, "a", "a#2", dewar.CacheOnly())
					time.Sleep(1000 * time.Second)
					if n := o.count("a"); n < 12 || n > 17 {
						t.Errorf("%d loads in 1090 s; want one in about 80 s", n)
					}
					if s := c.Stats(); s.Pinned != 2 {
						t.Errorf("%+v", s)
					}
					if srv, ok := cfg.Remote.(*dewartest.Remote[string]); ok && srv.Counts().Read.Keys > 100 {
						t.Errorf("%d keys were looked up in the remote tier", srv.Counts().Read.Keys)
					}
				})
			})
		}
	}
}

func TestPinsRefreshAtFourFifthsWithAheadOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.TTL = 100 * time.Second
		c := open(t, cfg)
		c.KeepWarm("a")
		time.Sleep(300 * time.Second)
		calls := o.asked()
		for i := range calls[1:] {
			if gap := calls[i+1].at.Sub(calls[i].at); gap < 80*time.Second || gap > 80*time.Second+50*time.Millisecond {
				t.Error("refreshed after", gap)
			}
		}
		if len(calls) != 4 {
			t.Error(len(calls), "loads")
		}
	})
}

func TestPinsGoOnAfterTheEntryIsDead(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.TTL = 10 * time.Second
				tiers(&cfg)
				c := open(t, cfg)
				c.KeepWarm("a")
				time.Sleep(time.Second)
				o.fail(errOrigin)
				time.Sleep(time.Minute)
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				if n := o.count("a"); n < 20 || n > 70 {
					t.Errorf("%d tries in a minute; want about one in RetryAfter", n)
				}
				o.fail(nil)
				time.Sleep(1500 * time.Millisecond)
				if _, err := c.Get(t.Context(), "a", dewar.CacheOnly()); err != nil {
					t.Error("not back after RetryAfter:", err)
				}
			})
		})
	}
}

func TestLetGoEndsTheRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.TTL = 10 * time.Second
		c := open(t, cfg)
		c.KeepWarm("a", "b")
		time.Sleep(61 * time.Second)
		n := o.count("a")
		c.LetGo("a", "never pinned")
		time.Sleep(61 * time.Second)
		if o.count("a") != n || o.count("b") <= n || c.Stats().Pinned != 1 {
			t.Error(n, o.count("a"), o.count("b"))
		}
		c.LetGo("b")
		n = o.count("b")
		time.Sleep(61 * time.Second)
		mustCount(t, o, "b", n)
		c.KeepWarm("a")
		time.Sleep(time.Second)
		mustGet(t, c, "a", "a#9", dewar.CacheOnly())
	})
}

func TestAPinnedKeyThatIsInvalidatedIsLoadedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, localOnly(o))
		c.KeepWarm("a")
		time.Sleep(time.Second)
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		mustGet(t, c, "a", "a#2", dewar.CacheOnly())
	})
}

func TestAPinnedKeyThatDoesNotExistIsAskedForAsOftenAsItIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		o.remove("a")
		c := open(t, localOnly(o))
		c.KeepWarm("a")
		time.Sleep(51 * time.Second)
		if n := o.count("a"); n < 9 || n > 12 {
			t.Errorf("asked %d times in 51 s; want one in 5 s", n)
		}
	})
}

func TestPinsGoThroughTheBucketsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := batched(o)
		cfg.Warm.KeysPerSecond = 10
		c := open(t, cfg)
		c.KeepWarm(keys(100)...)
		time.Sleep(11 * time.Second)
		most, all := windowMost(o.asked())
		if most > 12 || all != 100 {
			t.Errorf("%d keys within a second, %d in all; want at most 12, and 100", most, all)
		}
	})
}
