package dewar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// What the guard does for, and with, loads that no reader waits for.

// tripping is a breaker that one failure opens, for about a second.
func tripping() dewar.Breaker {
	return dewar.Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 1}
}

// trip opens the breaker of a cache by a failed load of a key that is read
// nowhere else, and leaves the origin failing.
func trip(t *testing.T, c *cache, o *origin) {
	t.Helper()
	o.fail(errOrigin)
	mustFail(t, c, "trips the breaker", errOrigin)
	if s := c.Stats().Origin; s.Breaker != dewar.BreakerOpen {
		t.Fatalf("the breaker did not open: %+v", s)
	}
}

// A breaker that half-opens while the bucket looks in the remote tier:
//
//	bucket: finds the breaker open: looks whether another process has the key
//	        the breaker lets probes through
//	bucket: has the answer: nothing
func TestARefreshGoesOnWhenTheBreakerHalfOpensDuringItsLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := warming(o)
		remote := slowRemote(newServer(), 0)
		cfg.Remote, cfg.Guard.Breaker = remote, tripping()
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(90 * time.Second)
		trip(t, c, o)
		o.fail(nil)
		remote.Delay(2 * time.Second)
		mustGet(t, c, "a", "a#1") // is due
		time.Sleep(9 * time.Second)
		if s := c.Stats(); s.Flights != 0 || s.Bucket != 0 {
			t.Errorf("%d flights, %d keys in the bucket", s.Flights, s.Bucket)
		}
		mustGet(t, c, "a", "a#2")
	})
}
