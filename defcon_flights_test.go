package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// The dial is turned while flights are under way.

func TestALoadBegunAtNormalIsStoredAtLockdown(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := localOnly(o)
				tiers(&cfg)
				dial := dialled(&cfg)
				c := open(t, cfg)
				read := begin(func() (string, error) { return c.Get(t.Context(), "a") })
				time.Sleep(500 * time.Millisecond)
				dial.Set(dewar.Lockdown)
				mustGet(t, c, "a", "a#1") // joined
				if got := <-read; got.value != "a#1" || got.err != nil {
					t.Error(got)
				}
				time.Sleep(50 * time.Millisecond)
				mustGet(t, c, "a", "a#1", dewar.CacheOnly())
				mustCount(t, o, "a", 1)
			})
		})
	}
}

// parked has a reader of b wait for the load of another process.
func parked(t *testing.T) (a, b *process, dial *dewar.Defcon, load *gate, read <-chan answer) {
	origin, dial := newLedger(), new(dewar.Defcon)
	fleet, srv := startFleet(t, 1, origin)
	a = fleet[0]
	b = startProcess(t, srv, origin, func(cfg *fleetConfig) { cfg.Defcon = dial })
	load = a.hold("load")
	first := a.beginGet("k")
	t.Cleanup(func() { <-first })
	load.await(t)
	read = b.beginGet("k")
	time.Sleep(time.Second)
	return a, b, dial, load, read
}

func TestWhoWaitsForAnotherProcessIsRefusedAtLockdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, dial, load, read := parked(t)
		defer load.open()
		dial.Set(dewar.Lockdown)
		b.forget()
		begun := time.Now()
		next := b.beginGet("k")
		for _, ch := range []<-chan answer{read, next} {
			if got := <-ch; !errors.Is(got.err, dewar.ErrDefcon) {
				t.Error(got)
			}
		}
		if took := time.Since(begun); took > 100*time.Millisecond { // the longest pause between two looks
			t.Error("refused after", took)
		}
		begun = time.Now()
		if _, err := b.Get(t.Context(), "k"); !errors.Is(err, dewar.ErrDefcon) || time.Since(begun) != 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if steps := b.steps.String(); strings.Contains(steps, "Lease") || strings.Contains(steps, "load") {
			t.Error(steps)
		}
	})
}

func TestWhoWaitsForAnotherProcessGetsItsValueAtLockdownToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, dial, load, read := parked(t)
		load.open()
		synctest.Wait()
		a.wait()
		dial.Set(dewar.Lockdown)
		if got := <-read; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		if n := b.count("load"); n != 0 {
			t.Error(n, "loads")
		}
	})
}

// joining has a remote-only cache, with a stale "k" in the remote tier, load it
// at Normal for a second, of which half is over.
func joining(t *testing.T, s dewar.Stale) (*cache, *origin, *dewar.Defcon) {
	o := newOrigin(0)
	cfg := localOnly(o)
	cfg.Stale, cfg.Local, cfg.Remote = s, nil, newServer()
	dial := dialled(&cfg)
	c := open(t, cfg)
	mustGet(t, c, "k", "k#1")
	time.Sleep(cfg.TTL)
	o.slow(time.Second)
	read := begin(func() (string, error) { return c.Get(t.Context(), "k", dewar.NoStale()) })
	t.Cleanup(func() { <-read })
	time.Sleep(500 * time.Millisecond)
	return c, o, dial
}

func TestAReadThatJoinsALoadIsServedStaleAsItsLevelSays(t *testing.T) {
	for _, s := range []dewar.Stale{{IfError: time.Hour}, {WhileRevalidate: time.Hour}} {
		for _, level := range levels[1:] {
			for how, read := range cellReads() {
				t.Run(fmt.Sprint(how, level, s.IfError), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, o, dial := joining(t, s)
						dial.Set(level)
						begun := time.Now()
						r, err := read(t, c, "k")
						if r.Value != "k#1" || r.Status != dewar.StatusStale || r.Tier != dewar.TierRemote || err != nil || time.Since(begun) != 0 {
							t.Errorf("%+v, %v after %v", r, err, time.Since(begun))
						}
						if down := level <= dewar.Protect; down != errors.Is(r.Err, dewar.ErrDefcon) || !down && r.Err != nil {
							t.Error(r.Err)
						}
						time.Sleep(time.Second)
						mustGet(t, c, "k", "k#2")
						mustCount(t, o, "k", 2)
					})
				})
			}
		}
	}
}

// At a level that serves stale at once, how the load behind it ends is nothing
// to the reader, also if it has ended before the reader is at its answer.
func TestWhatIsServedAtOnceDoesNotDependOnItsLoad(t *testing.T) {
	for _, s := range []dewar.Stale{
		{IfError: time.Hour},
		{WhileRevalidate: time.Hour},
		{IfError: time.Hour, Accepts: func(error) bool { return false }},
	} {
		for _, level := range []dewar.Level{dewar.Elevated, dewar.Degraded} {
			t.Run(fmt.Sprint(level, s.IfError, s.Accepts != nil), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Stale, cfg.Local, cfg.Remote = s, nil, newServer()
					cfg.Load = func(ctx context.Context, k string) (string, error) {
						if k == "slow" {
							time.Sleep(time.Second)
						}
						return o.load(ctx, k)
					}
					dial := dialled(&cfg)
					c := open(t, cfg)
					mustGet(t, c, "k", "k#1")
					time.Sleep(cfg.TTL)
					dial.Set(level)
					o.fail(errOrigin)
					time.AfterFunc(time.Second/2, func() { o.fail(nil) })
					rs, err := c.GetManyResults(t.Context(), []string{"slow", "k"})
					if r := rs["k"]; err != nil || r.Value != "k#1" || r.Status != dewar.StatusStale || r.Err != nil {
						t.Errorf("%+v, %v", r, err)
					}
				})
			})
		}
	}
}

func TestElevatedRespectsRetryAfter(t *testing.T) {
	for _, s := range []dewar.Stale{
		{IfError: time.Hour},
		{WhileRevalidate: time.Hour},
		{IfError: time.Hour, Accepts: func(error) bool { return false }},
	} {
		t.Run(fmt.Sprint(s.IfError, s.Accepts != nil), func(t *testing.T) {
			forStaleAt(t, dewar.Elevated, s, func(t *testing.T, c *cache, o *origin, _ *dewar.Defcon) {
				o.fail(errOrigin)
				for range 75 {
					mustBeStale(t, c, nil)
					time.Sleep(9 * time.Millisecond)
				}
				mustCount(t, o, "a", 2)
				o.fail(nil)
				time.Sleep(500 * time.Millisecond)
				// Stale, or what this read has reloaded if that was as quick.
				if r, err := c.GetResult(t.Context(), "a"); r.Value != "a#3" || r.Status != dewar.StatusLoaded || err != nil {
					if r.Value != "a#1" || r.Status != dewar.StatusStale || r.Err != nil || err != nil {
						t.Errorf("%+v, %v", r, err)
					}
				}
				time.Sleep(50 * time.Millisecond)
				mustGet(t, c, "a", "a#3")
			})
		})
	}
}

// forStaleAt is forStale with the dial at a level.
func forStaleAt(t *testing.T, level dewar.Level, s dewar.Stale, test func(t *testing.T, c *cache, o *origin, dial *dewar.Defcon)) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale = s
				tiers(&cfg)
				dial := dialled(&cfg)
				c := stale(t, o, cfg)
				dial.Set(level)
				test(t, c, o, dial)
			})
		})
	}
}

// slowLook has a read of a stale "k" look into a remote tier that takes a
// second, of which half is over, and then turns the dial.
func slowLook(t *testing.T, from, to dewar.Level) (c *cache, o *origin, read <-chan dewar.Result[string]) {
	o = newOrigin(0)
	cfg := localOnly(o)
	cfg.Stale.IfError, cfg.Local = time.Hour, nil
	srv := newServer()
	cfg.Remote = srv
	mustGet(t, open(t, cfg), "k", "k#1")
	cfg.Remote = slowRemote(srv, time.Second)
	dial := dialled(&cfg)
	c = open(t, cfg)
	time.Sleep(cfg.TTL)
	dial.Set(from)
	ch := make(chan dewar.Result[string], 1)
	go func() { // the bubble waits for it
		r, err := c.GetResult(t.Context(), "k")
		if err != nil {
			t.Error(err)
		}
		ch <- r
	}()
	time.Sleep(500 * time.Millisecond)
	dial.Set(to)
	return c, o, ch
}

func TestAReadAtNormalIsNotServedStaleByAFlightBegunBelow(t *testing.T) {
	for _, from := range levels[1:] {
		t.Run(from.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, read := slowLook(t, from, dewar.Normal)
				mustBe(t, c, "k", "k#2", dewar.StatusLoaded, dewar.TierOrigin)
				<-read
			})
		})
	}
}

func TestAFlightThatLooksWhileTheDialGoesDownLoadsNothing(t *testing.T) {
	for _, from := range levels[:3] {
		for _, to := range []dewar.Level{dewar.Protect, dewar.Lockdown} {
			t.Run(fmt.Sprint(from, to), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, o, read := slowLook(t, from, to)
					if r := <-read; r.Value != "k#1" || r.Status != dewar.StatusStale {
						t.Errorf("%+v", r)
					}
					time.Sleep(10 * time.Second)
					mustCount(t, o, "k", 1)
				})
			})
		}
	}
}

// A fill that failed leaves an older value in the remote tier than the local
// one, which that is to confirm when LocalTTL is over.
func TestAnOlderRemoteValueNeverReplacesTheLocalOne(t *testing.T) {
	for _, level := range levels {
		for how, read := range cellReads() {
			t.Run(fmt.Sprint(how, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					var unwritten atomic.Bool
					cfg.Remote = &dewartest.Chaos[string]{Remote: newServer(), Intercept: func(op string, _ []string) error {
						if unwritten.Load() && op == "Fill" {
							return dewartest.ErrDown
						}
						return nil
					}}
					cfg.LocalTTL, cfg.Stale.WhileRevalidate = time.Second, time.Hour
					dial := dialled(&cfg)
					c := open(t, cfg)
					mustGet(t, c, "k", "k#1")
					time.Sleep(cfg.TTL)
					unwritten.Store(true)
					mustGet(t, c, "k", "k#1") // and reload it
					time.Sleep(2 * time.Second)
					unwritten.Store(false)
					mustCount(t, o, "k", 2)
					dial.Set(level)
					for range 3 {
						if r, err := read(t, c, "k"); r.Value < "k#2" || err != nil {
							t.Errorf("%+v, %v", r, err)
						}
						time.Sleep(2 * time.Second)
					}
					if level <= dewar.Protect {
						mustBe(t, c, "k", "k#2", dewar.StatusHit, dewar.TierLocal)
						mustCount(t, o, "k", 2)
					}
					if err := c.Wait(t.Context()); !errors.Is(err, dewartest.ErrDown) {
						t.Error(err)
					}
				})
			})
		}
	}
}
