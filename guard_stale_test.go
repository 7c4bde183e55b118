package dewar_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// Refused loads behave as failures do, without the origin having been asked.

// refusal is one way in which a guard refuses loads.
type refusal struct {
	err   error
	guard dewar.Guard
	begin func(t *testing.T, c *cache, o *origin) // from here on loads are refused
	end   func(o *origin)                         // from about a second after this they are not
}

// refusals are all of them. Each lasts for a minute at least.
func refusals() map[string]refusal {
	return map[string]refusal{
		"no slot": {
			err:   dewar.ErrOverloaded,
			guard: dewar.Guard{MaxConcurrent: 1, QueueTimeout: 10 * time.Millisecond},
			begin: func(t *testing.T, c *cache, o *origin) {
				o.slow(70 * time.Second)
				go c.Get(t.Context(), "holds the slot")
				synctest.Wait()
			},
			end: func(o *origin) { o.slow(0); time.Sleep(70 * time.Second) },
		},
		"no turn": {
			err:   dewar.ErrOverloaded,
			guard: dewar.Guard{LoadsPerSecond: 1.0 / 100},
			begin: func(t *testing.T, c *cache, _ *origin) {
				time.Sleep(100 * time.Second)
				mustGet(t, c, "takes the turn", "takes the turn#1")
			},
			end: func(*origin) { time.Sleep(100 * time.Second) },
		},
		"breaker": {
			err:   dewar.ErrBreakerOpen,
			guard: dewar.Guard{Breaker: dewar.Breaker{MinRequests: 1, FailureRatio: 0.01, OpenFor: 75 * time.Second}},
			begin: func(t *testing.T, c *cache, o *origin) { trip(t, c, o); o.fail(nil) },
			end:   func(*origin) { time.Sleep(90 * time.Second) },
		},
		"user's breaker": {
			err:   dewar.ErrBreakerOpen,
			guard: dewar.Guard{Breaker: dewar.Breaker{Use: &userBreaker}},
			begin: func(*testing.T, *cache, *origin) { userBreaker.refuse(errRefused) },
			end:   func(*origin) { userBreaker.refuse(nil) },
		},
	}
}

var (
	userBreaker switchBreaker
	errRefused  = errors.New("refused by the user's breaker")
)

// forEachRefusal runs test before a cache with a stale a#1 whose loads are
// refused.
func forEachRefusal(t *testing.T, s dewar.Stale, alter func(*config), test func(t *testing.T, c *cache, o *origin, r refusal)) {
	for name, r := range refusals() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				userBreaker.refuse(nil)
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale, cfg.Guard = s, r.guard
				cfg.Flight.Timeout = time.Hour
				if alter != nil {
					alter(&cfg)
				}
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				time.Sleep(2 * time.Minute)
				r.begin(t, c, o)
				defer r.end(o)
				test(t, c, o, r)
			})
		})
	}
}

func TestARefusedLoadIsAnsweredWithAStaleValueOrThePreciseError(t *testing.T) {
	s := dewar.Stale{IfError: time.Hour, Accepts: func(error) bool { return false }} // refusals always fall back
	forEachRefusal(t, s, nil, func(t *testing.T, c *cache, o *origin, r refusal) {
		mustBeStale(t, c, r.err)
		mustBeStale(t, c, r.err, dewar.Reload())
		mustFail(t, c, "a", r.err, dewar.NoStale())
		mustFail(t, c, "cold", r.err)
		if err := c.Refresh(t.Context(), "a"); !errors.Is(err, r.err) {
			t.Error("Refresh:", err)
		}
		vs, err := c.GetMany(t.Context(), []string{"a", "cold", "colder"})
		var batch *dewar.BatchError[string]
		if len(vs) != 1 || vs["a"] != "a#1" || !errors.As(err, &batch) || len(batch.Errs) != 2 ||
			!errors.Is(batch.For("cold"), r.err) || !errors.Is(batch.For("colder"), r.err) {
			t.Error("GetMany:", vs, err)
		}
		if r.err == dewar.ErrBreakerOpen { // background work waits for slots and turns
			if err := preload(c, []string{"cold"}); !errors.Is(err, r.err) {
				t.Error("Preload:", err)
			}
		}
		mustCount(t, o, "a", 1)
		mustCount(t, o, "cold", 0)
		if s := c.Stats(); s.Overloaded+s.BreakerRefused < 5 || s.LoadErrors > 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRefusalsDoNotStartRetryAfter(t *testing.T) {
	forEachRefusal(t, dewar.Stale{IfError: time.Hour, RetryAfter: time.Hour}, nil, func(t *testing.T, c *cache, o *origin, r refusal) {
		mustBeStale(t, c, r.err)
		r.end(o)
		time.Sleep(time.Second)
		mustGet(t, c, "a", "a#2")
	})
}

func TestARefusalLeavesRetryAfterAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Stale = dewar.Stale{IfError: time.Hour, RetryAfter: 10 * time.Minute}
		cfg.Guard.Breaker = tripping()
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(2 * time.Minute)
		o.fail(errOrigin)
		mustBeStale(t, c, errOrigin) // trips the breaker
		mustFail(t, c, "a", dewar.ErrBreakerOpen, dewar.NoStale())
		o.fail(nil)
		time.Sleep(9 * time.Minute)
		mustBeStale(t, c, errOrigin)
		mustCount(t, o, "a", 2)
		time.Sleep(time.Minute)
		mustGet(t, c, "a", "a#3")
	})
}

// A read that gets a stale value must not be a round trip each: there may be
// very many, and nothing else answers them.
func TestStaleReadsThatAreRefusedLoadsDoNotHammerTheRemoteTier(t *testing.T) {
	for name, s := range map[string]dewar.Stale{
		"IfError":         {IfError: time.Hour},
		"WhileRevalidate": {IfError: time.Hour, WhileRevalidate: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var trips atomic.Int64
			alter := func(cfg *config) {
				cfg.Remote = &dewartest.Chaos[string]{
					Remote:    newServer(),
					Intercept: func(string, []string) error { trips.Add(1); return nil },
				}
			}
			forEachRefusal(t, s, alter, func(t *testing.T, c *cache, o *origin, r refusal) {
				trips.Store(0)
				begun := time.Now()
				for time.Since(begun) < 10*time.Second {
					if v, err := c.Get(t.Context(), "a"); v != "a#1" || err != nil {
						t.Fatal(v, err)
					}
					time.Sleep(time.Millisecond)
				}
				// Every 50 ms a look, and where only the last step refuses the
				// lease and its release as well. Who waits for a slot in vain
				// does so once per QueueTimeout.
				most := int64(620)
				if r.guard.MaxConcurrent > 0 {
					most = 3 * int64(10*time.Second/r.guard.QueueTimeout)
				}
				if n := trips.Load(); n > most {
					t.Errorf("%d round trips in 10 s", n)
				}
				mustCount(t, o, "a", 1)
			})
		})
	}
}
