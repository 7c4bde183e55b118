package dewar_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// warming configures refresh-ahead with a TTL of 100 s: entries come due
// between 72 and 88 s.
func warming(o *origin) config {
	cfg := batched(o)
	cfg.TTL = 100 * time.Second
	cfg.Warm.Ahead = 0.8
	return cfg
}

// windowMost is the largest number of keys asked for within any second, and
// all of them.
func windowMost(calls []originCall) (most, all int) {
	for i, first := range calls {
		all += len(first.keys)
		n := 0
		for _, call := range calls[i:] {
			if call.at.Sub(first.at) >= time.Second {
				break
			}
			n += len(call.keys)
		}
		most = max(most, n)
	}
	return most, all
}

func TestADueKeyIsReloadedByTheBucketWithNoReaderWaiting(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := warming(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				o.slow(time.Second)
				time.Sleep(65 * time.Second)
				mustGet(t, c, "a", "a#1")
				time.Sleep(100 * time.Millisecond)
				mustCount(t, o, "a", 1) // not due yet
				time.Sleep(25 * time.Second)
				for range 10 { // before the reload and while it runs
					begun := time.Now()
					if r, err := c.GetResult(t.Context(), "a"); r.Value != "a#1" || r.Status != dewar.StatusHit || err != nil {
						t.Errorf("%+v, %v", r, err)
					}
					if took := time.Since(begun); took > 3*time.Millisecond { // a round trip
						t.Error("a reader waited", took)
					}
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(1100 * time.Millisecond)
				mustGet(t, c, "a", "a#2")
				mustCount(t, o, "a", 2)
				if s := c.Stats(); s.Refreshed != 1 || s.Bucket != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAKeyThatIsNotReadIsNotRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, warming(o))
		mustGet(t, c, "a", "a#1")
		time.Sleep(time.Hour)
		mustCount(t, o, "a", 1)
	})
}

func TestWithAheadOffNothingIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := warming(o)
		cfg.Warm.Ahead = -1
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		for range 99 {
			time.Sleep(time.Second)
			mustGet(t, c, "a", "a#1")
		}
	})
}

func TestKeysThatAreDueTogetherAreGatheredIntoOneLoadMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := warming(o)
		cfg.Warm.Gather = 50 * time.Millisecond
		c := open(t, cfg)
		ks := keys(40)
		if vs, err := c.GetMany(t.Context(), ks); len(vs) != 40 || err != nil {
			t.Fatal(len(vs), err)
		}
		time.Sleep(90 * time.Second)
		for range 5 { // each key falls in once, however often it is read
			for _, k := range ks {
				mustGet(t, c, k, k+"#1")
				time.Sleep(100 * time.Microsecond)
			}
		}
		time.Sleep(time.Second)
		calls := o.asked()
		if len(calls) != 2 || len(calls[1].keys) != 40 {
			t.Errorf("%d calls: %v", len(calls), calls[1:])
		}
	})
}

func TestTheBucketDrainsEvenly(t *testing.T) {
	for _, rate := range []float64{0.5, 2, 7, 50, 200} {
		for name, many := range map[string]bool{"Load": false, "LoadMany": true} {
			t.Run(fmt.Sprint(rate, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(30 * time.Millisecond)
					cfg := warming(o)
					if !many {
						cfg.Load, cfg.LoadMany = o.load, nil
					}
					cfg.TTL = time.Hour
					cfg.Warm.KeysPerSecond = rate
					c := open(t, cfg)
					ks := keys(max(8, int(rate*4)))
					if vs, err := c.GetMany(t.Context(), ks); len(vs) != len(ks) || err != nil {
						t.Fatal(len(vs), err)
					}
					before := len(o.asked())
					time.Sleep(55 * time.Minute)
					if vs, err := c.GetMany(t.Context(), ks); len(vs) != len(ks) || err != nil {
						t.Fatal(len(vs), err)
					}
					need := time.Duration(float64(len(ks)) / rate * float64(time.Second))
					time.Sleep(need + 2*time.Second)
					most, all := windowMost(o.asked()[before:])
					if all != len(ks) {
						t.Errorf("%d keys were refreshed in %v; want %d", all, need, len(ks))
					}
					if limit := max(1, 1.2*rate); float64(most) > limit {
						t.Errorf("%d keys within a second; want at most %v", most, limit)
					}
				})
			})
		}
	}
}

func TestAnUnlimitedBucketDrainsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, warming(o))
		ks := keys(900)
		if vs, err := c.GetMany(t.Context(), ks); len(vs) != 900 || err != nil {
			t.Fatal(len(vs), err)
		}
		time.Sleep(90 * time.Second)
		if _, err := c.GetMany(t.Context(), ks); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		for _, k := range ks {
			mustCount(t, o, k, 2)
		}
	})
}

func TestAFullBucketDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropped := 0
		o := newOrigin(0)
		cfg := warming(o)
		cfg.Warm.Bucket = 10
		cfg.Trace = &dewar.Trace{RefreshDropped: func() { dropped++ }}
		c := open(t, cfg)
		ks := keys(30)
		if vs, err := c.GetMany(t.Context(), ks); len(vs) != 30 || err != nil {
			t.Fatal(len(vs), err)
		}
		time.Sleep(90 * time.Second)
		if vs, err := c.GetMany(t.Context(), ks); len(vs) != 30 || err != nil {
			t.Fatal(len(vs), err)
		}
		if s := c.Stats(); s.RefreshDropped != 20 || dropped != 20 || s.Bucket != 10 {
			t.Errorf("%d traced, %+v", dropped, s)
		}
		time.Sleep(time.Second)
		if s := c.Stats(); s.Refreshed != 10 || s.Bucket != 0 {
			t.Errorf("%+v", s)
		}
		// Nothing is lost but earliness: the next reads bring the others.
		for range 2 {
			if _, err := c.GetMany(t.Context(), ks); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if s := c.Stats(); s.Refreshed != 30 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAFailedRefreshKeepsTheOldValueAndRetriesEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := warming(o)
		cfg.TTL = 1000 * time.Second
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		fresh := time.Now().Add(1000 * time.Second)
		o.fail(errOrigin)
		time.Sleep(890 * time.Second)
		for time.Until(fresh) > 0 {
			mustGet(t, c, "a", "a#1")
			time.Sleep(10 * time.Millisecond)
		}
		tries := o.asked()[1:]
		if len(tries) < 6 || len(tries) > 12 {
			t.Fatalf("%d tries in 110 s; want 1 s, 2 s, 4 s ... apart", len(tries))
		}
		for i := range tries[1 : len(tries)-1] {
			gap, want := tries[i+1].at.Sub(tries[i].at), time.Second<<i
			if left := fresh.Sub(tries[i].at); want > left {
				want = left // bounded by the time to stale
			}
			if gap < want*79/100 || gap > want+50*time.Millisecond {
				t.Errorf("try %d after %v; want %v, less up to a fifth", i+1, gap, want)
			}
		}
		mustFail(t, c, "a", errOrigin) // it is over
		o.fail(nil)
		if _, err := c.Get(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestAFailedRefreshIsRetriedAlsoWhereItsErrorIsNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := warming(o)
		cfg.Stale = dewar.Stale{IfError: time.Hour, Accepts: func(error) bool { return false }}
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		o.fail(errOrigin)
		time.Sleep(90 * time.Second)
		for range 50 {
			mustGet(t, c, "a", "a#1")
			time.Sleep(100 * time.Millisecond)
		}
		if n := o.count("a"); n < 3 || n > 6 {
			t.Errorf("%d loads in 5 s; want the first, and a retry after 1 s, 2 s", n)
		}
	})
}

func TestARefreshIsAdoptedFromAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer()
		oa, ob := newOrigin(0), newOrigin(0)
		open := func(o *origin) *cache {
			cfg := warming(o)
			cfg.Remote = srv
			return open(t, cfg)
		}
		a, b := open(oa), open(ob)
		mustGet(t, a, "a", "a#1")
		time.Sleep(time.Second)
		mustGet(t, b, "a", "a#1") // from the remote tier
		time.Sleep(90 * time.Second)
		mustGet(t, a, "a", "a#1")
		time.Sleep(time.Second)
		mustGet(t, a, "a", "a#2")
		mustGet(t, b, "a", "a#1")
		time.Sleep(time.Second)
		mustGet(t, b, "a", "a#2")
		mustCount(t, ob, "a", 0)
		if s := b.Stats(); s.Adopted != 1 || s.Refreshed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheBucketsGoroutineExistsOnlyWhileItHoldsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := func() bool {
			synctest.Wait()
			stacks := make([]byte, 1<<20)
			return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "dewar.(*bucket")
		}
		o := newOrigin(0)
		cfg := warming(o)
		cfg.Warm.Gather = 100 * time.Millisecond
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		if running() {
			t.Error("there is a goroutine before anything is due")
		}
		time.Sleep(90 * time.Second)
		mustGet(t, c, "a", "a#1")
		if !running() {
			t.Error("there is no goroutine while a key is due")
		}
		time.Sleep(time.Second)
		if running() {
			t.Error("the goroutine is still there")
		}
	})
}

func TestBackgroundLoadsNeverTakeTheLastSlotsFromReaders(t *testing.T) {
	for _, slots := range []struct{ all, background, most int }{{4, 0, 2}, {4, 3, 3}, {8, 1, 1}} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := warming(o)
				cfg.Load, cfg.LoadMany = o.load, nil
				cfg.Guard.MaxConcurrent, cfg.Guard.MaxBackground = slots.all, slots.background
				c := open(t, cfg)
				ks := keys(50)
				if vs, err := c.GetMany(t.Context(), ks); len(vs) != 50 || err != nil {
					t.Fatal(len(vs), err)
				}
				time.Sleep(90 * time.Second)
				o.slow(9 * time.Second)
				before := len(o.asked())
				if _, err := c.GetMany(t.Context(), ks); err != nil {
					t.Fatal(err)
				}
				go c.Preload(t.Context(), func(yield func(string) bool) {
					for i := range 50 {
						if !yield(fmt.Sprint("p", i)) {
							return
						}
					}
				})
				time.Sleep(time.Second)
				if n := len(o.asked()) - before; n != slots.most {
					t.Errorf("%d background calls at once; want %d", n, slots.most)
				}
				o.slow(0)
				begun := time.Now()
				mustGet(t, c, "reader", "reader#1")
				if took := time.Since(begun); took != 0 {
					t.Error("a reader waited", took)
				}
			})
		})
	}
}
