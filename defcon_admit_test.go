package dewar_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// What stands between a load and the origin when the dial is turned down while
// the load is on its way.

// dialled gives a configuration a dial of its own.
func dialled(cfg *config) *dewar.Defcon {
	cfg.Defcon = new(dewar.Defcon)
	return cfg.Defcon
}

func TestALoadIsNotRepeatedAtLockdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Millisecond)
		o.fail(errOrigin)
		cfg := localOnly(o)
		dial := dialled(&cfg)
		cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1, Pause: 50 * time.Millisecond}
		c := open(t, cfg)
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 2)
		time.AfterFunc(time.Millisecond, func() { dial.Set(dewar.Lockdown) })
		mustFail(t, c, "b", errOrigin)
		mustCount(t, o, "b", 1)
		if s := c.Stats(); s.Retries != 1 {
			t.Errorf("%d repetitions are counted", s.Retries)
		}
	})
}

func TestARepetitionCountsForTheThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		o.fail(errOrigin)
		cfg := localOnly(o)
		dialled(&cfg).Set(dewar.Protect)
		cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1, Pause: time.Millisecond}
		c := open(t, cfg)
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 1)
	})
}

// A breaker that let a repetition through which the dial then stopped must not
// wait for its end: half-open, it would let nobody else through.
func TestARepetitionThatTheDialStopsGivesTheBreakersPermissionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Millisecond)
		cfg := localOnly(o)
		dial := dialled(&cfg)
		breaker := &countingBreaker{}
		cfg.Guard.Breaker.Use = breaker
		cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1, Pause: 50 * time.Millisecond}
		c := open(t, cfg)
		o.fail(errOrigin)
		time.AfterFunc(time.Millisecond, func() { dial.Set(dewar.Lockdown) })
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 1)
		if n := breaker.pending(); n != 0 {
			t.Errorf("the breaker waits for %d calls", n)
		}
	})
}

// countingBreaker lets everything through.
type countingBreaker struct {
	mu  sync.Mutex // mu guards out
	out int        // permissions whose end it has not been told
}

func (b *countingBreaker) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out++
	return func(error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.out--
	}, nil
}

func (b *countingBreaker) pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out
}

// waiting opens a cache whose origin has one slot, taken for a second by the
// load of "first", and has n more loads wait for it.
func waiting(t *testing.T, o *origin, cfg config, n int) (*cache, func() []error) {
	cfg.Guard.MaxConcurrent, cfg.Guard.QueueTimeout, cfg.Flight.Timeout = 1, time.Hour, 2*time.Hour
	c := open(t, cfg)
	var wg sync.WaitGroup
	errs := make([]error, n)
	o.slow(time.Second)
	wg.Go(func() { mustGet(t, c, "first", "first#1") })
	time.Sleep(20 * time.Millisecond)
	for i, k := range keys(n) {
		wg.Go(func() { _, errs[i] = c.Get(t.Context(), k) })
	}
	time.Sleep(20 * time.Millisecond)
	return c, func() []error {
		wg.Wait()
		return errs
	}
}

func TestALoadThatWaitsForASlotIsRefusedWhenTheDialGoesToLockdown(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				tiers(&cfg)
				dial := dialled(&cfg)
				breaker := &countingBreaker{}
				cfg.Guard.Breaker.Use = breaker
				c, end := waiting(t, o, cfg, 50)
				time.Sleep(500 * time.Millisecond)
				dial.Set(dewar.Lockdown)
				for _, err := range end() {
					if !errors.Is(err, dewar.ErrDefcon) {
						t.Error(err)
					}
				}
				time.Sleep(time.Second)
				if n := len(o.asked()); n != 1 {
					t.Errorf("%d loads; want the one that ran", n)
				}
				if n := breaker.pending(); n != 0 {
					t.Errorf("the breaker waits for %d calls", n)
				}
				if s := c.Stats(); s.Origin.Calls != 0 || s.Flights != 0 || s.DefconRefused != 50 {
					t.Errorf("%+v", s)
				}
				mustGet(t, c, "first", "first#1") // begun before, it was stored
				dial.Set(dewar.Normal)
				mustGet(t, c, "k000", "k000#1") // nothing is remembered of the refusal
			})
		})
	}
}

func TestLoadsThatWaitForASlotPassTheThrottleWhenTheDialGoesToProtect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		dial := dialled(&cfg)
		cfg.Levels = map[dewar.Level]dewar.Policy{dewar.Protect: {Throttle: 0.1}}
		_, end := waiting(t, o, cfg, 50)
		dial.Set(dewar.Protect)
		refused := 0
		for _, err := range end() {
			if errors.Is(err, dewar.ErrDefcon) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
		}
		if n := len(o.asked()); n != 2 || refused != 49 { // the one that ran, and the throttle's
			t.Errorf("%d loads, %d refused; want 2 and 49", n, refused)
		}
	})
}

func TestALoadThatWaitsForASlotGoesOnWhenTheDialIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		dial := dialled(&cfg)
		_, end := waiting(t, o, cfg, 5)
		dial.Set(dewar.Lockdown)
		time.Sleep(500 * time.Millisecond)
		dial.Set(dewar.Normal)
		for _, err := range end() {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNoLeaseIsTakenWhereTheThrottleHasNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		srv := newServer()
		cfg.Remote, cfg.Stale.IfError = srv, time.Hour
		dialled(&cfg).Set(dewar.Protect)
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(time.Millisecond)
		srv.ResetCounts()
		mustFail(t, c, "b", dewar.ErrDefcon)
		if vs, err := c.GetMany(t.Context(), []string{"c", "d"}); len(vs) != 0 || !errors.Is(err, dewar.ErrDefcon) {
			t.Error(vs, err)
		}
		mustGet(t, c, "a", "a#1", dewar.MaxAge(0)) // as a fallback
		if n := srv.Counts(); n.Lease.Keys != 0 || n.LeaseRefresh.Keys != 0 || n.Read.Keys != 4 {
			t.Errorf("%+v", n)
		}
		time.Sleep(200 * time.Millisecond)
		mustGet(t, c, "b", "b#1")
	})
}
