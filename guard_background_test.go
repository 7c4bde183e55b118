package dewar_test

import (
	"context"
	"fmt"
	"slices"
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

func preload(c *cache, ks []string) error {
	return c.Preload(context.Background(), slices.Values(ks))
}

func TestPreloadGoesAsFastAsTheRateLimitAndFailsNoKey(t *testing.T) {
	for _, perSecond := range []float64{0.5, 5, 40} {
		for name, many := range map[string]bool{"Load": false, "LoadMany": true} {
			t.Run(fmt.Sprint(perSecond, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					if many {
						cfg = batched(o)
						cfg.Batch.MaxSize = 1
					}
					cfg.Guard.LoadsPerSecond = perSecond
					c := open(t, cfg)
					ks, begun := keys(100), time.Now()
					if err := preload(c, ks); err != nil {
						t.Error(err)
					}
					want := time.Duration(100 / perSecond * float64(time.Second))
					if took := time.Since(begun); took > want*11/10 {
						t.Errorf("took %v; want %v", took, want)
					}
					if n := len(o.asked()); n != 100 {
						t.Errorf("%d calls", n)
					}
				})
			})
		}
	}
}

func TestBackgroundLoadsTakeNoTurnOfAReader(t *testing.T) {
	for name, bucket := range map[string]bool{"Preload": false, "bucket": true} {
		for tier, tiers := range tierings() {
			t.Run(name+", "+tier, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.TTL, cfg.Warm.Ahead = time.Hour, 0.5
					tiers(&cfg)
					ks := keys(100)
					cfg.Origin = dewar.NewOrigin("limited", dewar.Guard{LoadsPerSecond: 10, QueueTimeout: 150 * time.Millisecond})
					c := open(t, cfg)
					if bucket {
						if err := preload(c, ks); err != nil {
							t.Fatal(err)
						}
						time.Sleep(35 * time.Minute) // all are due
					}
					before := len(o.asked())
					done := make(chan error, 1)
					go func() {
						if !bucket {
							done <- preload(c, ks)
							return
						}
						_, err := c.GetMany(t.Context(), ks)
						done <- err
					}()
					time.Sleep(time.Second)
					if s := c.Stats().Origin; s.Calls > 1 {
						t.Errorf("%d slots are held by who waits for a turn", s.Calls)
					}
					// As many readers as there are turns for: none is refused, and
					// what waits in the background goes on waiting.
					for i := range 50 {
						begun := time.Now()
						mustGet(t, c, fmt.Sprint("reader", i), fmt.Sprintf("reader%d#1", i))
						if waited := time.Since(begun); waited > 175*time.Millisecond { // its turn, and the remote tier
							t.Errorf("reader %d waited %v", i, waited)
						}
						time.Sleep(100*time.Millisecond - time.Since(begun))
					}
					time.Sleep(10 * time.Second)
					if err := <-done; err != nil {
						t.Error(err)
					}
					// A refresh that lost its turn is due again with the next read.
					lost := int(c.Stats().Overloaded)
					if n := len(o.asked()) - before; n+lost != 150 && bucket || n != 150 && !bucket {
						t.Errorf("%d calls; want 50 readers' and 100 in the background, of which %d lost their turn", n, lost)
					}
				})
			})
		}
	}
}

// Readers take the turn that a key was to have while the remote tier is asked
// for it; who asked for the preload has all the time of its context.
func TestAPreloadThatLosesItsTurnsToReadersWaitsForOthers(t *testing.T) {
	for name, many := range map[string]bool{"Load": false, "LoadMany": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				if many {
					cfg = batched(o)
					cfg.Batch.MaxSize = 3
				}
				cfg.Remote = slowRemote(newServer(), 50*time.Millisecond)
				cfg.Guard = dewar.Guard{LoadsPerSecond: 10, QueueTimeout: 20 * time.Millisecond}
				c := open(t, cfg)
				time.Sleep(time.Minute)
				done := make(chan error, 1)
				go func() { done <- preload(c, keys(20)) }()
				time.Sleep(10 * time.Millisecond) // its first keys are looked up
				for i := range 60 {               // about what the origin can take, and a little more
					go c.Get(context.Background(), fmt.Sprint("reader", i))
					time.Sleep(90 * time.Millisecond)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				for _, k := range keys(20) {
					mustCount(t, o, k, 1)
				}
			})
		})
	}
}

// Its due time is over, but there is time until the entry is stale.
func TestARefreshThatWasRefusedIsTriedAgain(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := warming(o)
				tiers(&cfg)
				cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, OpenFor: 15 * time.Second, Probes: 1}
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(71 * time.Second)
				trip(t, c, o)
				o.fail(nil)
				for range 18 { // due between 72 and 88 s; the breaker is open until 83 to 89 s
					mustGet(t, c, "a", "a#1")
					time.Sleep(500 * time.Millisecond)
				}
				mustCount(t, o, "a", 1)
				for range 35 {
					if v, err := c.Get(t.Context(), "a"); v == "" || err != nil {
						t.Fatal(v, err)
					}
					time.Sleep(500 * time.Millisecond)
				}
				mustGet(t, c, "a", "a#2") // at 98 s
			})
		})
	}
}
