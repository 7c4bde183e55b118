package dewar_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Guard.LoadsPerSecond.

// callsWithin returns how many calls began in each of n seconds from begun on.
func callsWithin(o *origin, begun time.Time, n int) []int {
	perSecond := make([]int, n)
	for _, call := range o.asked() {
		if at := int(call.at.Sub(begun) / time.Second); at >= 0 && at < n {
			perSecond[at]++
		}
	}
	return perSecond
}

// What is refused must leave no trace in the limit, or a herd would use up the
// turns of those that come after it.
func TestRefusedLoadsUseUpNoTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, seconds = 100, 10
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.LoadsPerSecond = perSecond
		c := open(t, cfg)
		begun := time.Now()
		var wg sync.WaitGroup
		for s := range seconds {
			for i := range 20 * perSecond {
				wg.Go(func() {
					if _, err := c.Get(t.Context(), fmt.Sprint(s, "-", i)); err != nil && !errors.Is(err, dewar.ErrOverloaded) {
						t.Error(err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		wg.Wait()
		for s, n := range callsWithin(o, begun, seconds) {
			if n < perSecond || n > perSecond*11/10 {
				t.Errorf("%d calls in second %d", n, s)
			}
		}
	})
}

func TestCallsBeginAtLoadsPerSecond(t *testing.T) {
	for _, perSecond := range []float64{0.5, 3, 50, 1000} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Local = memory.Config[string]{MaxEntries: 10_000}
				cfg.Guard.LoadsPerSecond, cfg.Guard.QueueTimeout = perSecond, time.Hour
				cfg.Flight.Timeout = time.Hour
				c := open(t, cfg)
				begun, n := time.Now(), max(4, int(5*perSecond))
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() { mustGet(t, c, fmt.Sprint(i), fmt.Sprintf("%d#1", i)) })
				}
				wg.Wait()
				// A tenth of a second's may come at once.
				if took, want := time.Since(begun), time.Duration(float64(n)/perSecond*float64(time.Second)); took > want || took < want*7/10 {
					t.Errorf("%d calls took %v; want %v", n, took, want)
				}
				most := 0
				calls := o.asked()
				for i, first := range calls {
					in := 0
					for _, call := range calls[i:] {
						if call.at.Sub(first.at) < time.Second {
							in++
						}
					}
					most = max(most, in)
				}
				if limit := max(1, perSecond*1.1); float64(most) > limit {
					t.Errorf("%d calls within a second; want at most %v", most, limit)
				}
			})
		})
	}
}

func TestALoadWhoseTurnWouldComeTooLateIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.LoadsPerSecond, cfg.Guard.QueueTimeout = 2, 600*time.Millisecond
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		begun := time.Now()
		waits := begin(func() (string, error) { return c.Get(t.Context(), "b") })
		synctest.Wait()
		if s := c.Stats().Origin; s.Queued != 1 || s.Calls != 0 { // it waits without a slot
			t.Errorf("%+v", s)
		}
		mustFail(t, c, "c", dewar.ErrOverloaded)
		if took := time.Since(begun); took > 0 {
			t.Error("the refusal took", took)
		}
		if got := <-waits; got.err != nil || time.Since(begun) != 500*time.Millisecond {
			t.Error(got, time.Since(begun))
		}
		if s := c.Stats(); s.Overloaded != 1 || s.Loads != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestALoadManyTakesOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := batched(o)
		cfg.Guard.LoadsPerSecond = 0.5
		c := open(t, cfg)
		if vs, err := c.GetMany(t.Context(), keys(200)); len(vs) != 200 || err != nil {
			t.Error(len(vs), err)
		}
		mustFail(t, c, "b", dewar.ErrOverloaded) // and that was it
	})
}

func TestALoadThatWaitsForItsTurnEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(0))
		cfg.Guard.LoadsPerSecond, cfg.Guard.QueueTimeout = 0.1, time.Hour
		cfg.Flight.Timeout = 15 * time.Second
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		begun := time.Now()
		waits := begin(func() (string, error) { return c.Get(t.Context(), "b") }) // in 10 s
		synctest.Wait()
		mustFail(t, c, "c", dewar.ErrOverloaded) // in 20 s
		if took := time.Since(begun); took > 0 {
			t.Error("took", took)
		}
		if got := <-waits; got.err != nil {
			t.Error(got.err)
		}
	})
}

// While it waits for its turn, or for a slot, the breaker may open.
func TestALoadThatHasWaitedIsRefusedByABreakerThatOpenedMeanwhile(t *testing.T) {
	for name, g := range map[string]dewar.Guard{
		"turn": {LoadsPerSecond: 2, Breaker: tripping()}, "slot": {MaxConcurrent: 1, Breaker: tripping()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(300 * time.Millisecond)
				cfg := localOnly(o)
				cfg.Guard = g
				c := open(t, cfg)
				o.fail(errOrigin)
				first := begin(func() (string, error) { return c.Get(t.Context(), "first") })
				synctest.Wait()
				second := begin(func() (string, error) { return c.Get(t.Context(), "second") })
				if got := <-first; got.err != errOrigin {
					t.Error(got.err)
				}
				if got := <-second; !errors.Is(got.err, dewar.ErrBreakerOpen) {
					t.Error(got.err)
				}
				if n := len(o.asked()); n != 1 {
					t.Errorf("%d calls", n)
				}
				if s := c.Stats().Origin; s.Calls != 0 || s.Queued != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}
