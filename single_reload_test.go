package dewar_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestReloadSkipsTheTiersLoadsAndStores(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin, dewar.Reload())
				time.Sleep(time.Second)
				mustGet(t, c, "a", "a#2")
				mustCount(t, o, "a", 2)
			})
		})
	}
}

func TestAReloadIsNotUndoneByTheFillOfTheLoadBeforeIt(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				mustGet(t, c, "a", "a#2", dewar.Reload())
				time.Sleep(time.Second)
				if v, _ := c.Get(t.Context(), "a", dewar.CacheOnly()); v == "a#1" {
					t.Error("the value before the Reload is back")
				}
			})
		})
	}
}

func TestReloadSupersedesALoadBegunBeforeIt(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(5 * time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				wg.Go(func() { mustGet(t, c, "a", "a#1") })
				time.Sleep(time.Second)
				o.slow(time.Second)
				wg.Go(func() { mustGet(t, c, "a", "a#2", dewar.Reload()) }) // ends first
				time.Sleep(500 * time.Millisecond)
				wg.Go(func() { mustGet(t, c, "a", "a#2") }) // joins the newest
				wg.Wait()
				time.Sleep(time.Second)
				mustGet(t, c, "a", "a#2")
				mustCount(t, o, "a", 2)
			})
		})
	}
}

func TestAReloadThatFailsFallsBackAlsoOnAFreshValue(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				o.fail(errOrigin)
				r, err := c.GetResult(t.Context(), "a", dewar.Reload())
				if err != nil || r.Value != "a#1" || r.Status != dewar.StatusStale || r.Err != errOrigin {
					t.Errorf("%+v, %v", r, err)
				}
				mustFail(t, c, "a", errOrigin, dewar.Reload(), dewar.NoStale())
				r, err = c.GetResult(t.Context(), "a")
				if err != nil || r.Value != "a#1" || r.Status != dewar.StatusHit { // it is still fresh
					t.Errorf("%+v, %v", r, err)
				}
			})
		})
	}
}

func TestAReloadThatFailsWithoutIfErrorKeepsTheFreshValue(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				o.fail(errOrigin)
				mustFail(t, c, "a", errOrigin, dewar.Reload())
				mustGet(t, c, "a", "a#1")
			})
		})
	}
}

func TestReloadOfAKeyThatIsGoneReplacesTheValue(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				o.remove("a")
				mustFail(t, c, "a", dewar.ErrNotFound, dewar.Reload())
				time.Sleep(time.Second)
				mustFail(t, c, "a", dewar.ErrNotFound)
				mustCount(t, o, "a", 2)
			})
		})
	}
}
