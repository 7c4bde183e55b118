package dewar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestAfterAFailedLoadTheKeyIsNotAskedAgainForRetryAfter(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, RetryAfter: 10 * time.Second}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		mustBeStale(t, c, errOrigin)
		asked := o.asked()[1].at
		for time.Since(asked) < 9900*time.Millisecond {
			mustBeStale(t, c, errOrigin) // and why is still told
			time.Sleep(50 * time.Millisecond)
		}
		mustCount(t, o, "a", 2)
		o.fail(nil)
		time.Sleep(200 * time.Millisecond)
		mustGet(t, c, "a", "a#3")
	})
}

func TestRetryAfterOfATimeout(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, RetryAfter: 10 * time.Second}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Hour)
		mustBeStale(t, c, dewar.ErrTimeout)
		mustBeStale(t, c, dewar.ErrTimeout)
		mustCount(t, o, "a", 2)
	})
}

func TestAColdKeyThatFailedIsAskedAgainAtOnce(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, RetryAfter: time.Minute}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		mustFail(t, c, "cold", errOrigin)
		mustFail(t, c, "cold", errOrigin)
		o.fail(nil)
		mustGet(t, c, "cold", "cold#3")
	})
}

func TestInsideWhileRevalidateAFailingOriginIsAskedOncePerRetryAfter(t *testing.T) {
	accepts := func(error) bool { return false }
	for name, s := range map[string]dewar.Stale{
		"WhileRevalidate":                 {WhileRevalidate: time.Hour, RetryAfter: time.Second},
		"with IfError":                    {WhileRevalidate: time.Hour, IfError: time.Hour, RetryAfter: time.Second},
		"with errors that do not qualify": {WhileRevalidate: time.Hour, IfError: time.Hour, RetryAfter: time.Second, Accepts: accepts},
	} {
		t.Run(name, func(t *testing.T) {
			forStale(t, s, func(t *testing.T, c *cache, o *origin) {
				o.fail(errOrigin)
				begun := time.Now()
				for time.Since(begun) < 10*time.Second {
					mustGet(t, c, "a", "a#1")
					time.Sleep(20 * time.Millisecond)
				}
				if n := o.count("a") - 1; n < 3 || n > 11 {
					t.Errorf("asked %d times in 10 s; want about one in a second", n)
				}
			})
		})
	}
}

func TestNoStaleAndReloadAskInSpiteOfRetryAfter(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour, RetryAfter: time.Minute}, func(t *testing.T, c *cache, o *origin) {
		o.fail(errOrigin)
		mustBeStale(t, c, errOrigin)
		mustFail(t, c, "a", errOrigin, dewar.NoStale())
		mustBeStale(t, c, errOrigin, dewar.Reload())
		if err := c.Refresh(t.Context(), "a"); err != errOrigin {
			t.Error(err)
		}
		mustCount(t, o, "a", 5)
	})
}

func TestTheNewerOfTheLocalAndTheRemoteStaleCopyIsServed(t *testing.T) {
	for name, opts := range map[string][]dewar.ReadOption{"Get": nil, "Reload": {dewar.Reload()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newServer()
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Remote, cfg.Stale.IfError = srv, time.Hour
				a := open(t, cfg)
				b := open(t, cfg)
				mustGet(t, a, "a", "a#1")
				time.Sleep(70 * time.Second)
				mustGet(t, b, "a", "a#2") // a still has a#1
				time.Sleep(70 * time.Second)
				o.fail(errOrigin)
				mustBe(t, a, "a", "a#2", dewar.StatusStale, dewar.TierRemote, opts...)
				mustGet(t, b, "a", "a#2", opts...)
				mustGet(t, a, "a", "a#2")

				srv.Clear() // and where the remote tier has nothing, or less, the local copy
				time.Sleep(2 * time.Second)
				mustGet(t, a, "a", "a#2")
				mustGet(t, b, "a", "a#2")
			})
		})
	}
}

func TestAStaleCopyThatOnlyTheRemoteTierHasIsServedAfterSoftTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Remote = slowRemote(newServer(), 80*time.Millisecond) // slower than SoftTimeout
		cfg.Stale = dewar.Stale{IfError: time.Hour, SoftTimeout: 50 * time.Millisecond}
		a := open(t, cfg)
		mustGet(t, a, "a", "a#1")
		time.Sleep(2 * time.Minute)
		o.slow(time.Second)
		b := open(t, cfg)
		begun := time.Now()
		mustBe(t, b, "a", "a#1", dewar.StatusStale, dewar.TierRemote)
		if took := time.Since(begun); took != 80*time.Millisecond {
			t.Error("took", took)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestExpireKeepsTheValueAsFallbackOnly(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = 10 * time.Second
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				if err := c.Expire(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				o.fail(errOrigin)
				mustBeStale(t, c, errOrigin)
				o.fail(nil)
				time.Sleep(2 * time.Second)
				mustGet(t, c, "a", "a#3")
			})
		})
	}
}

func TestInvalidateLeavesNoFallback(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
	})
}

func TestInvalidateDuringALoadLeavesItsWaitersNoFallback(t *testing.T) {
	forStale(t, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin) {
		o.slow(time.Second)
		o.fail(errOrigin)
		done := make(chan error)
		go func() {
			_, err := c.Get(t.Context(), "a")
			done <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		<-done // either is right: the reader's call overlaps the invalidation
		time.Sleep(time.Second)
		mustFail(t, c, "a", errOrigin)
	})
}
