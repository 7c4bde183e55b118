package dewar_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// stale opens a cache with a value of "a" that has just gone stale.
func stale(t *testing.T, o *origin, cfg config) *cache {
	t.Helper()
	c := open(t, cfg)
	mustGet(t, c, "a", "a#1")
	time.Sleep(cfg.TTL)
	return c
}

// forStale runs test in a bubble for each tiering, with a value of "a" that has
// just gone stale.
func forStale(t *testing.T, s dewar.Stale, test func(t *testing.T, c *cache, o *origin)) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale = s
				tiers(&cfg)
				test(t, stale(t, o, cfg), o)
			})
		})
	}
}

// mustBeStale fails the test unless GetResult answers the stale "a#1" because
// of why.
func mustBeStale(t testing.TB, c *cache, why error, opts ...dewar.ReadOption) {
	t.Helper()
	r, err := c.GetResult(t.Context(), "a", opts...)
	if err != nil || r.Value != "a#1" || r.Status != dewar.StatusStale || !errors.Is(r.Err, why) || (why == nil) != (r.Err == nil) {
		t.Fatalf("%+v, %v; want a#1, stale because of %v", r, err, why)
	}
}

func TestInsideIfErrorTheOriginIsTriedAndItsErrorAnsweredWithTheStaleValue(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		mustBeStale(t, c, errOrigin)
		mustCount(t, o, "a", 2)
		mustGet(t, c, "a", "a#1")
		vs, err := c.GetMany(t.Context(), []string{"a"})
		if vs["a"] != "a#1" || err != nil {
			t.Error(vs, err)
		}
		o.fail(nil)
		time.Sleep(2 * time.Second)
		mustBe(t, c, "a", "a#3", dewar.StatusLoaded, dewar.TierOrigin)
	})
}

func TestWithoutAStaleWindowTheErrorIsTheAnswer(t *testing.T) {
	forStale(t, dewar.Stale{}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
	})
}

func TestStaleEndsExactlyAtHardExpiryHoweverOftenItWasServed(t *testing.T) {
	forStale(t, dewar.Stale{IfError: 10 * time.Second}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		end := o.asked()[0].at.Add(70 * time.Second)
		for time.Until(end) > 200*time.Millisecond {
			mustBeStale(t, c, errOrigin)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Until(end))
		mustFail(t, c, "a", errOrigin)
		mustFail(t, c, "a", dewar.ErrNotCached, dewar.CacheOnly())
	})
	t.Run("to the nanosecond", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			cfg := localOnly(o)
			cfg.Stale.IfError = 10 * time.Second
			c := stale(t, o, cfg)
			o.fail(errOrigin)
			time.Sleep(10*time.Second - 1)
			mustBeStale(t, c, errOrigin)
			time.Sleep(time.Nanosecond)
			mustFail(t, c, "a", errOrigin)
		})
	})
}

func TestServingStaleNeverWritesTheRemoteTier(t *testing.T) {
	for name, s := range map[string]dewar.Stale{
		"IfError":         {IfError: time.Hour},
		"WhileRevalidate": {WhileRevalidate: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newServer()
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Remote, cfg.Stale = srv, s
				c := stale(t, o, cfg)
				before, _ := srv.Entry("test", "a")
				srv.ResetCounts()
				o.fail(errOrigin)
				for range 100 {
					mustGet(t, c, "a", "a#1")
					time.Sleep(100 * time.Millisecond)
				}
				n := srv.Counts() // each Release is of a refresh lease, which is apart from the key
				if after, ok := srv.Entry("test", "a"); !ok || after != before ||
					n.Fill.Calls+n.Seize.Calls+n.Unlink.Calls > 0 || n.Release.Calls != n.LeaseRefresh.Calls {
					t.Errorf("%+v; %+v before, %+v after", n, before, after)
				}
			})
		})
	}
}

func TestWhileRevalidateServesAtOnceAndReloadsBehind(t *testing.T) {
	forStale(t, dewar.Stale{WhileRevalidate: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		for range 10 { // before the reload and while it runs
			begun := time.Now()
			mustBeStale(t, c, nil)
			if took := time.Since(begun); took > 3*time.Millisecond { // a round trip
				t.Error("took", took)
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		mustCount(t, o, "a", 2)
		mustGet(t, c, "a", "a#2")
	})
}

func TestSoftTimeoutServesStaleAndTheLoadGoesOn(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		begun := time.Now()
		mustBeStale(t, c, dewar.ErrTimeout)
		if took := time.Since(begun); took != 50*time.Millisecond {
			t.Error("took", took)
		}
		time.Sleep(2 * time.Second)
		mustGet(t, c, "a", "a#2")
		mustCount(t, o, "a", 2)
	})
}

func TestSoftTimeoutCountsFromTheBeginOfTheFlight(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 40 { // the first begins the flight, the last come after the timeout
			wg.Go(func() {
				joined := time.Duration(i) * 5 * time.Millisecond
				time.Sleep(joined)
				mustBeStale(t, c, dewar.ErrTimeout)
				if took, want := time.Since(begun), max(joined, 50*time.Millisecond); took != want {
					t.Errorf("who joined after %v was served after %v; want %v", joined, took, want)
				}
			})
			wg.Go(func() {
				joined := time.Duration(i) * 5 * time.Millisecond
				time.Sleep(joined)
				rs, err := c.GetManyResults(t.Context(), []string{"a"})
				if err != nil || rs["a"].Value != "a#1" || !errors.Is(rs["a"].Err, dewar.ErrTimeout) {
					t.Error(rs, err)
				}
				if took, want := time.Since(begun), max(joined, 50*time.Millisecond); took != want {
					t.Errorf("GetMany: who joined after %v was served after %v; want %v", joined, took, want)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		mustCount(t, o, "a", 2)
	})
}

func TestALoadFasterThanSoftTimeoutIsTheAnswer(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond}, func(t *testing.T, c *cache, o *origin) {
		o.slow(10 * time.Millisecond)
		mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin)
	})
}

func TestSoftTimeoutOfAColdKeyWaitsForTheLoad(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		mustGet(t, c, "cold", "cold#1")
	})
}

func TestAcceptsDecidesWhichErrorsFallBack(t *testing.T) {
	errBad := errors.New("bad request")
	s := dewar.Stale{IfError: time.Hour, Accepts: func(err error) bool { return !errors.Is(err, errBad) }}
	forStale(t, s, func(t *testing.T, c *cache, o *origin) {
		o.fail(errBad)
		mustFail(t, c, "a", errBad)
		mustFail(t, c, "a", errBad) // and RetryAfter does not hide it
		o.fail(errOrigin)
		mustBeStale(t, c, errOrigin)
	})
}

func TestNoSuchKeyReplacesTheStaleValue(t *testing.T) {
	accepts := func(error) bool { return true }
	forStale(t, dewar.Stale{IfError: time.Hour, Accepts: accepts}, func(t *testing.T, c *cache, o *origin) {
		o.remove("a")
		mustFail(t, c, "a", dewar.ErrNotFound)
		time.Sleep(6 * time.Second) // the negative entry is dead
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
	})
}

func TestAPanicFallsBackToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Stale.IfError = time.Hour
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if o.count(k) > 0 {
				panic(errOrigin)
			}
			return o.load(ctx, k)
		}
		mustBeStale(t, stale(t, o, cfg), errOrigin)
	})
}

func TestACallerPastItsDeadlineGetsTheStaleValueACancelledOneItsError(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		late, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		r, err := c.GetResult(late, "a")
		if err != nil || r.Value != "a#1" || r.Status != dewar.StatusStale || !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%+v, %v", r, err)
		}
		gone, leave := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, leave)
		begun := time.Now()
		if v, err := c.Get(gone, "a"); v != "" || err != context.Canceled || time.Since(begun) != 100*time.Millisecond {
			t.Errorf("%q, %v after %v", v, err, time.Since(begun))
		}
		if _, err := c.Get(gone, "a"); err != context.Canceled { // gone before it came
			t.Error(err)
		}
	})
}

func TestAnOverloadFallsBackWhateverAcceptsSaysAndDoesNotRestTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent = 1
		cfg.Stale = dewar.Stale{IfError: time.Hour, RetryAfter: time.Minute, Accepts: func(error) bool { return false }}
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if k == "hung" {
				return gate.load(ctx, k)
			}
			return o.load(ctx, k)
		}
		c := stale(t, o, cfg)
		go c.Get(t.Context(), "hung")
		synctest.Wait()
		begun := time.Now()
		mustBeStale(t, c, dewar.ErrOverloaded)
		if took := time.Since(begun); took != time.Second {
			t.Error("took", took)
		}
		gate.open()
		synctest.Wait()
		mustGet(t, c, "a", "a#2") // asked again at once
	})
}
