package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// When a breaker opens, half-opens and closes.

// mustBreaker fails the test unless the breaker before c is in the state.
func mustBreaker(t *testing.T, c *cache, want dewar.BreakerState) {
	t.Helper()
	synctest.Wait()
	if s := c.Stats().Origin.Breaker; s != want {
		t.Fatalf("the breaker is %v; want %v", s, want)
	}
}

func TestABreakerOpensWithinMinRequestsFailures(t *testing.T) {
	for _, b := range []dewar.Breaker{{}, {MinRequests: 1}, {MinRequests: 5, FailureRatio: 1}, {FailureRatio: 0.01}} {
		t.Run(fmt.Sprintf("%+v", b), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour // so it is on
				cfg.Guard.Breaker = b
				c := open(t, cfg)
				o.fail(errOrigin)
				most := b.MinRequests
				if most == 0 {
					most = 20
				}
				for i := range most {
					mustBreaker(t, c, dewar.BreakerClosed)
					mustFail(t, c, fmt.Sprint(i), errOrigin)
				}
				mustBreaker(t, c, dewar.BreakerOpen)
				for i := range 50 {
					mustFail(t, c, fmt.Sprint("more", i), dewar.ErrBreakerOpen)
				}
				if n := len(o.asked()); n != most {
					t.Errorf("%d calls", n)
				}
				if s := c.Stats(); s.BreakerRefused != 50 || s.LoadErrors != uint64(most) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestABreakerOpensAtFailureRatioOnly(t *testing.T) {
	for _, of := range []struct {
		ratio    float64 // 0: the default
		failures int     // in a hundred calls
		opens    bool
	}{{0, 24, false}, {0, 25, true}, {0.5, 49, false}, {0.5, 50, true}, {1, 99, false}, {1, 100, true}, {0.01, 1, true}} {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Guard.Breaker = dewar.Breaker{FailureRatio: of.ratio, MinRequests: 100}
				c := open(t, cfg)
				for i := range 100 - of.failures {
					mustGet(t, c, fmt.Sprint(i), fmt.Sprintf("%d#1", i))
				}
				o.fail(errOrigin)
				for i := range of.failures {
					mustFail(t, c, fmt.Sprint("fails", i), errOrigin)
				}
				synctest.Wait() // the breaker may hear of a timeout after the reader
				if is := c.Stats().Origin.Breaker; is == dewar.BreakerOpen != of.opens {
					t.Error(is)
				}
			})
		})
	}
}

func TestFailuresOlderThanTheWindowDoNotCount(t *testing.T) {
	for _, window := range []time.Duration{0, time.Second, time.Minute} {
		t.Run(window.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Guard.Breaker = dewar.Breaker{Window: window, MinRequests: 20}
				c := open(t, cfg)
				if window == 0 {
					window = 10 * time.Second
				}
				o.fail(errOrigin)
				for i := range 100 { // 19 or 20 to a window and a tenth
					mustFail(t, c, fmt.Sprint(i), errOrigin)
					time.Sleep(window / 17)
				}
				mustBreaker(t, c, dewar.BreakerClosed)
				for i := range 100 { // more than 20 to nine tenths
					if _, err := c.Get(t.Context(), fmt.Sprint("more", i)); errors.Is(err, dewar.ErrBreakerOpen) {
						return
					}
					time.Sleep(window / 30)
				}
				t.Error("it has not opened")
			})
		})
	}
}

func TestABreakerStaysOpenForOpenForGiveOrTakeAFifth(t *testing.T) {
	for _, openFor := range []time.Duration{0, time.Minute} {
		t.Run(openFor.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				var mu sync.Mutex
				least, most := time.Duration(1<<62), time.Duration(0)
				want := openFor
				if want == 0 {
					want = 5 * time.Second
				}
				for range 100 { // processes
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, OpenFor: openFor}
					c := open(t, cfg)
					trip(t, c, o)
					begun := time.Now()
					wg.Go(func() {
						time.Sleep(want * 79 / 100)
						for c.Stats().Origin.Breaker == dewar.BreakerOpen {
							time.Sleep(want / 500)
						}
						mu.Lock()
						defer mu.Unlock()
						least, most = min(least, time.Since(begun)), max(most, time.Since(begun))
					})
				}
				wg.Wait()
				if least < want*80/100 || least > want*85/100 || most < want*115/100 || most > want*121/100 {
					t.Errorf("between %v and %v; want %v, more or less by up to a fifth", least, most, want)
				}
			})
		})
	}
}

func TestAHalfOpenBreakerLetsAsManyProbesThroughAndClosesWhenAllWentWell(t *testing.T) {
	for _, probes := range []int{0, 1, 5} {
		for name, well := range map[string]bool{"well": true, "one fails": false} {
			t.Run(fmt.Sprint(probes, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, Probes: probes, OpenFor: time.Second}
					c := open(t, cfg)
					if probes == 0 {
						probes = 3
					}
					trip(t, c, o)
					o.fail(nil)
					o.slow(time.Second)
					time.Sleep(2 * time.Second)
					before := len(o.asked())
					var wg sync.WaitGroup
					var mu sync.Mutex
					answered := 0
					for i := range 50 {
						wg.Go(func() {
							if _, err := c.Get(t.Context(), fmt.Sprint(i)); err == nil {
								mu.Lock()
								defer mu.Unlock()
								answered++
							} else if !errors.Is(err, dewar.ErrBreakerOpen) && !errors.Is(err, errOrigin) {
								t.Error(err)
							}
						})
					}
					time.Sleep(500 * time.Millisecond)
					mustBreaker(t, c, dewar.BreakerHalfOpen)
					if n := len(o.asked()) - before; n != probes {
						t.Errorf("%d probes", n)
					}
					if !well {
						o.fail(errOrigin)
					}
					wg.Wait()
					if well {
						mustBreaker(t, c, dewar.BreakerClosed)
						if answered != probes {
							t.Errorf("%d readers were answered", answered)
						}
					} else {
						mustBreaker(t, c, dewar.BreakerOpen)
					}
				})
			})
		}
	}
}

// Their slots and their permission come back at Flight.Timeout.
func TestProbesThatHangOpenTheBreakerAgainAtTheirTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newBarrier()
		defer gate.open()
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Flight.Timeout = 3 * time.Second
		cfg.Guard.Breaker = tripping()
		var hang atomic.Bool
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if hang.Load() {
				return gate.load(ctx, k)
			}
			return o.load(ctx, k)
		}
		c := open(t, cfg)
		trip(t, c, o)
		o.fail(nil)
		hang.Store(true)
		time.Sleep(2 * time.Second)
		go c.Get(t.Context(), "probe")
		time.Sleep(2999 * time.Millisecond)
		mustBreaker(t, c, dewar.BreakerHalfOpen)
		mustFail(t, c, "a", dewar.ErrBreakerOpen)
		time.Sleep(2 * time.Millisecond)
		mustBreaker(t, c, dewar.BreakerOpen)
		hang.Store(false)
		time.Sleep(2 * time.Second)
		mustGet(t, c, "a", "a#1") // though the probe of before still hangs
		mustBreaker(t, c, dewar.BreakerClosed)
		gate.open()
		synctest.Wait()
		mustBreaker(t, c, dewar.BreakerClosed)
	})
}

// Close calls them off, which says nothing of the origin: others may probe.
func TestProbesCalledOffByCloseGiveWayToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Origin = dewar.NewOrigin("shared", dewar.Guard{Breaker: tripping()})
		a, b := open(t, cfg), open(t, cfg)
		trip(t, a, o)
		o.fail(nil)
		o.slow(time.Hour)
		time.Sleep(2 * time.Second)
		go a.Get(t.Context(), "probe")
		synctest.Wait()
		mustFail(t, b, "b", dewar.ErrBreakerOpen)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		mustBreaker(t, b, dewar.BreakerHalfOpen)
		o.slow(0)
		mustGet(t, b, "b", "b#1")
		mustBreaker(t, b, dewar.BreakerClosed)
	})
}

// Calls that began before the breaker opened tell nothing of how the origin is
// after it.
func TestStragglersNeitherCloseNorOpenAHalfOpenBreaker(t *testing.T) {
	for name, end := range map[string]error{"well": nil, "ill": errOrigin} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := newBarrier()
				defer gate.open()
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Guard.Breaker = tripping()
				cfg.Load = func(ctx context.Context, k string) (string, error) {
					if k == "straggler" {
						_, _ = gate.load(ctx, k)
						return k, end
					}
					return o.load(ctx, k)
				}
				c := open(t, cfg)
				go c.Get(t.Context(), "straggler")
				synctest.Wait()
				trip(t, c, o)
				time.Sleep(2 * time.Second)
				mustBreaker(t, c, dewar.BreakerHalfOpen)
				gate.open()
				synctest.Wait()
				mustBreaker(t, c, dewar.BreakerHalfOpen)
			})
		})
	}
}
