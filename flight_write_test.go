package dewar_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// whileLoading runs write in the middle of a load of "a" that 3 readers wait
// for; the readers are joined before it returns.
func whileLoading(t *testing.T, c *cache, write func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if v, err := c.Get(t.Context(), "a"); v != "a#1" || err != nil {
				t.Errorf("a waiter of the load got %q, %v", v, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	synctest.Wait()
	write()
	wg.Wait()
	time.Sleep(500 * time.Millisecond) // background writes
}

func TestSetDuringALoadWins(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				whileLoading(t, c, func() {
					if err := c.Set(t.Context(), "a", "set"); err != nil {
						t.Error(err)
					}
					mustGet(t, c, "a", "set") // though the load is still running
				})
				mustGet(t, c, "a", "set")
				mustCount(t, o, "a", 1)
			})
		})
	}
}

func TestInvalidateDuringALoadStoresItNowhereAndLaterReadersLoadAnew(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				whileLoading(t, c, func() {
					if err := c.Invalidate(t.Context(), "a"); err != nil {
						t.Error(err)
					}
				})
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				mustGet(t, c, "a", "a#2")
				time.Sleep(100 * time.Millisecond)
				mustGet(t, c, "a", "a#2", dewar.CacheOnly())
			})
		})
	}
}

func TestAReaderAfterAnInvalidateDoesNotJoinTheLoadBegunBeforeIt(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				c := open(t, cfg)
				whileLoading(t, c, func() {
					if err := c.Invalidate(t.Context(), "a"); err != nil {
						t.Error(err)
					}
					mustGet(t, c, "a", "a#2")
				})
				mustGet(t, c, "a", "a#2")
				mustCount(t, o, "a", 2)
			})
		})
	}
}

func TestExpireDuringALoadStoresItNowhere(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				c := open(t, cfg)
				whileLoading(t, c, func() {
					if err := c.Expire(t.Context(), "a"); err != nil {
						t.Error(err)
					}
				})
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				mustGet(t, c, "a", "a#2")
			})
		})
	}
}

func TestInvalidateDuringABatchFencesItsKeyOnly(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := batched(o)
				tiers(&cfg)
				c := open(t, cfg)
				var wg sync.WaitGroup
				wg.Go(func() {
					vs, err := c.GetMany(t.Context(), []string{"a", "b"})
					if len(vs) != 2 || vs["a"] != "a#1" || err != nil {
						t.Error(vs, err)
					}
				})
				time.Sleep(500 * time.Millisecond)
				if err := c.Invalidate(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				wg.Wait()
				time.Sleep(100 * time.Millisecond)
				mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
				mustGet(t, c, "b", "b#1", dewar.CacheOnly())
			})
		})
	}
}

func TestInvalidateDuringARefreshFencesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := localOnly(o)
		cfg.Warm.Ahead = 0.5
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(40 * time.Second)
		mustGet(t, c, "a", "a#1")
		time.Sleep(500 * time.Millisecond) // the refresh is under way
		mustCount(t, o, "a", 2)
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		mustGet(t, c, "a", "a#3")
	})
}
