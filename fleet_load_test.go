package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// slowOrigin makes every load take d.
func slowOrigin(origin *ledger, d time.Duration) func(*fleetConfig) {
	return func(cfg *fleetConfig) {
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			v, err := origin.load(k)
			select {
			case <-time.After(d):
				return v, err
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	}
}

// startFleet opens n processes on one remote tier.
func startFleet(t *testing.T, n int, origin *ledger, change ...func(*fleetConfig)) ([]*process, *dewartest.Remote[string]) {
	t.Helper()
	srv := dewartest.NewRemote[string]()
	fleet := make([]*process, n)
	for i := range fleet {
		fleet[i] = startProcess(t, srv, origin, change...)
	}
	return fleet, srv
}

func TestAFleetLoadsAColdKeyOnceHoweverSlowTheOriginIs(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, time.Second, 9 * time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, _ := startFleet(t, 5, origin, slowOrigin(origin, took))
				begun := time.Now()
				var wg sync.WaitGroup
				for _, p := range fleet {
					for range 50 {
						wg.Go(func() { p.want("k", "k@0") })
					}
				}
				wg.Wait()
				if n := origin.loadsOf("k"); n != 1 {
					t.Errorf("%d loads", n)
				}
				if late := time.Since(begun) - took; late > 250*time.Millisecond {
					t.Errorf("the last was answered %v after the load", late)
				}
			})
		})
	}
}

func TestABatchLoadsOnlyWhatNoOtherProcessIsLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin, slowOrigin(origin, time.Second))
		a, b := fleet[0], fleet[1]
		one := a.beginGet("k1")
		synctest.Wait()
		got, err := b.GetMany(t.Context(), []string{"k0", "k1", "k2"})
		if err != nil || len(got) != 3 {
			t.Error(got, err)
		}
		<-one
		for _, k := range []string{"k0", "k1", "k2"} {
			if n := origin.loadsOf(k); n != 1 {
				t.Errorf("%d loads of %s", n, k)
			}
		}
	})
}

func TestWhoWaitsForADeadHolderLoadsWhenItsLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		waiting := a.beginGet("k")
		load.await(t)
		a.fail("Renew", errors.New("dead"))
		begun := time.Now()
		b.want("k", "k@0")
		if took := time.Since(begun); took < time.Second || took > 4500*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
		load.open()
		<-waiting
		a.wait()
		wantRemote(t, a.srv, "k", "k@0")
	})
}

func TestAFailedLoadFreesTheKeyForTheFleetAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		a.fail("load", errOrigin)
		failing := a.beginGet("k")
		load.await(t)
		waiting := b.beginGet("k")
		synctest.Wait()
		load.open()
		if got := <-failing; !errors.Is(got.err, errOrigin) {
			t.Error(got)
		}
		begun := time.Now()
		if got := <-waiting; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
	})
}

func TestWhileAnotherProcessLoadsStaleIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin, staleFor(time.Hour))
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		b.want("k", "k@0")
		time.Sleep(61 * time.Second)
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		begun := time.Now()
		if r, err := b.GetResult(t.Context(), "k"); err != nil || r.Status != dewar.StatusStale || r.Value != "k@0" || r.Err == nil {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(begun); took > time.Millisecond {
			t.Errorf("answered after %v", took)
		}
		strict := b.beginGet("k", dewar.NoStale()) // waits
		time.Sleep(time.Second)
		select {
		case got := <-strict:
			t.Error("NoStale did not wait: ", got)
		default:
		}
		origin.commit("k")
		load.open()
		<-first
		if got := <-strict; got.err != nil || got.value != "k@0" {
			t.Error(got)
		}
		if n := origin.loadsOf("k"); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestWaitingForAnotherProcessEndsWithTheFlightsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		time.Sleep(5 * time.Second)
		load2 := b.hold("load") // b takes over when a's flight has ended, and hangs too
		begun := time.Now()
		if _, err := b.Get(t.Context(), "k"); !errors.Is(err, dewar.ErrTimeout) {
			t.Error(err)
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
		load.open()
		load2.open()
		<-first
	})
}

func TestALeavingCallerDoesNotWaitForAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := b.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		load.open()
		<-first
		time.Sleep(time.Second)
		if r, err := b.GetResult(t.Context(), "k"); err != nil || r.Tier != dewar.TierLocal {
			t.Errorf("the flight it left did not end: %+v, %v", r, err)
		}
	})
}

func TestOnePollerAsksForAllAwaitedKeysTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin, slowOrigin(origin, 2*time.Second))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { fleet[0].get(fmt.Sprint("k", i)) })
		}
		synctest.Wait()
		srv.ResetCounts()
		for i := range 100 {
			wg.Go(func() { fleet[1].get(fmt.Sprint("k", i)) })
		}
		wg.Wait()
		// About 25 polls in two seconds, and the Lease that found them taken.
		if n := srv.Counts().Lease; n.Calls > 60 {
			t.Errorf("%d calls for %d keys", n.Calls, n.Keys)
		}
		if n := origin.total(); n != 100 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestCloseEndsThoseWhoWaitForAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		waiting := b.beginGet("k")
		time.Sleep(time.Second)
		if n := b.Stats().Awaiting; n != 1 {
			t.Errorf("%d flights wait", n)
		}
		b.must(b.Close())
		if got := <-waiting; !errors.Is(got.err, dewar.ErrClosed) {
			t.Error(got)
		}
		load.open()
		<-first
	})
}

func TestAnInvalidationStartsThoseOverWhoWaitForAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := a.hold("load")
		first := a.beginGet("k") // loads k@0
		load.await(t)
		waiting := b.beginGet("k")
		time.Sleep(time.Second)
		origin.commit("k")
		b.must(b.Invalidate(t.Context(), "k"))
		b.want("k", "k@1")
		if got := <-waiting; got.value != "k@1" || got.err != nil {
			t.Error(got)
		}
		load.open()
		if got := <-first; got.value != "k@0" { // its read began before
			t.Error(got)
		}
		a.wait()
		a.want("k", "k@1")
		wantRemote(t, a.srv, "k", "k@1")
	})
}

func TestOneProcessOfAFleetRefreshesADueKeyAndTheOthersAdoptIt(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 2 * time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ttl, rounds = 20 * time.Second, 20
				origin := newLedger()
				fleet, _ := startFleet(t, 5, origin, slowOrigin(origin, took), func(cfg *fleetConfig) {
					cfg.TTL, cfg.Warm.Ahead, cfg.Jitter = ttl, 0.8, 0
				})
				var wg sync.WaitGroup
				for i, p := range fleet {
					wg.Go(func() {
						p.get("k")
						time.Sleep(time.Duration(i) * 7 * time.Millisecond)
						for begun := time.Now(); time.Since(begun) < rounds*ttl; time.Sleep(50 * time.Millisecond) {
							r, err := p.GetResult(t.Context(), "k")
							if err != nil || r.Tier != dewar.TierLocal || r.Age > ttl+took {
								t.Errorf("%+v, %v", r, err)
							}
						}
					})
				}
				wg.Wait()
				// Reloaded when due, at 0.72 to 0.88 of the TTL, in the process in
				// which that is first; earlier where a load takes a tenth of it.
				if n := origin.loadsOf("k"); n > rounds*8/5 {
					t.Errorf("%d loads in %d TTLs", n, rounds)
				}
				adopted := uint64(0)
				for _, p := range fleet {
					adopted += p.Stats().Adopted
				}
				if adopted < rounds {
					t.Errorf("%d adopted", adopted)
				}
			})
		})
	}
}

func TestARefreshThatOutlivesItsLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin, func(cfg *fleetConfig) {
			cfg.TTL, cfg.Warm.Ahead = 100*time.Second, 0.8
		})
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		b.want("k", "k@0")
		time.Sleep(89 * time.Second)
		load := a.hold("load")
		a.want("k", "k@0") // due
		time.Sleep(time.Second)
		load.await(t)
		for range 8 {
			b.want("k", "k@0")
			time.Sleep(time.Second)
			if !srv.Refreshing(fleetName, "k") {
				t.Fatal("the refresh lease is lost")
			}
		}
		load.open()
		time.Sleep(100 * time.Millisecond)
		if srv.Refreshing(fleetName, "k") {
			t.Error("the refresh lease is not given back")
		}
		if n := origin.loadsOf("k"); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestARefresherLooksAgainAfterItHasTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin, staleFor(time.Hour))
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		time.Sleep(61 * time.Second)
		look := b.hold("Read answered") // sees the stale value
		second := b.beginGet("k")
		look.await(t)
		a.want("k", "k@0") // reloads, and gives the lease back
		a.wait()
		look.open()
		if got := <-second; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		if n := origin.loadsOf("k"); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestALeaseThatTimedOutIsLoadedAndNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 1, origin)
		a := fleet[0]
		a.fail("Lease answered", context.DeadlineExceeded)
		a.want("k", "k@0")
		a.wait()
		if n := srv.Counts().Fill.Calls; n != 0 || !srv.Leased(fleetName, "k") {
			t.Errorf("%d fills; %v", n, a.steps)
		}
	})
}

func TestPreloadOfTwoProcessesLoadsEachKeyOnceAndFillsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin, slowOrigin(origin, 100*time.Millisecond))
		keys := make([]string, 100)
		for i := range keys {
			keys[i] = fmt.Sprint("k", i)
		}
		var wg sync.WaitGroup
		for _, p := range fleet {
			wg.Go(func() { p.must(p.Preload(t.Context(), slices.Values(keys))) })
		}
		wg.Wait()
		if n := origin.total(); n != len(keys) {
			t.Errorf("%d loads", n)
		}
		for _, p := range fleet {
			for _, k := range keys {
				if r, err := p.GetResult(t.Context(), k, dewar.CacheOnly()); err != nil || r.Tier != dewar.TierLocal {
					t.Fatalf("%s: %+v, %v", k, r, err)
				}
			}
		}
	})
}
