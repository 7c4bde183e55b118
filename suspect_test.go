package dewar_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// missing makes p miss what do announces, and find that out.
func missing(p *process, do func()) {
	p.t.Helper()
	p.chaos.Miss(true)
	do()
	synctest.Wait()
	p.chaos.Miss(false)
	synctest.Wait()
}

func TestAfterAGapALocalCopyIsComparedWithTheRemoteTierOnce(t *testing.T) {
	for name, tiers := range map[string]func(*fleetConfig){
		"map": func(*fleetConfig) {}, "ristretto": func(cfg *fleetConfig) { cfg.Local = ristrettoTier }, "otter": func(cfg *fleetConfig) { cfg.Local = smallLocal },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 2, origin, tiers)
				a, b := fleet[0], fleet[1]
				for _, k := range []string{"changed", "same", "none"} {
					if k != "none" {
						a.get(k)
						a.wait()
						b.get(k)
					}
				}
				missing(b, func() {
					origin.commit("changed")
					a.must(a.Invalidate(t.Context(), "changed"))
				})
				srv.ResetCounts()
				b.want("changed", "changed@1")
				for range 3 {
					if r, err := b.GetResult(t.Context(), "same"); err != nil || r.Value != "same@0" || r.Status != dewar.StatusHit {
						t.Errorf("%+v, %v", r, err)
					}
				}
				if n := srv.Counts().Read; n.Keys != 2 {
					t.Errorf("asked for %d keys", n.Keys)
				}
				if n := origin.loadsOf("same"); n != 1 {
					t.Errorf("%d loads", n)
				}
				if m, err := b.GetMany(t.Context(), []string{"same", "changed"}); err != nil || m["changed"] != "changed@1" {
					t.Error(m, err)
				}
			})
		})
	}
}

func TestWhereTheRemoteTierCannotBeAskedDoubtedCopiesServeAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		b.want("k", "k@0")
		missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
		b.fail("Read", errors.New("down"))
		srv.ResetCounts()
		b.forget()
		for range 1000 {
			if r, err := b.GetResult(t.Context(), "k"); err != nil || r.Status != dewar.StatusHit || r.Tier != dewar.TierLocal {
				t.Fatalf("%+v, %v", r, err)
			}
			if r, err := b.GetResult(t.Context(), "k", dewar.CacheOnly()); err != nil || r.Status != dewar.StatusHit {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if n := origin.loadsOf("k"); n != 1 {
			t.Errorf("%d loads", n)
		}
		if n := b.count("Read"); n > 2 { // one answers for all, for a moment
			t.Errorf("asked in vain %d times", n)
		}
		b.fail("Read", nil)
		time.Sleep(200 * time.Millisecond)
		b.want("k", "k@0")
		if n := srv.Counts().Read.Calls; n != 1 { // doubted still
			t.Errorf("%d looks", n)
		}
	})
}

func TestDoubtedCopiesThatAreLookedUpTogetherInVainAllServeAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		keys := []string{"k", "l", "m"}
		for _, k := range keys {
			b.want(k, k+"@0")
		}
		b.wait()
		missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
		b.fail("Read", errors.New("down"))
		if m, err := b.GetMany(t.Context(), keys); err != nil || len(m) != len(keys) {
			t.Errorf("%v, %v", m, err)
		}
		for _, k := range keys {
			if n := origin.loadsOf(k); n != 1 {
				t.Errorf("%d loads of %s", n, k)
			}
		}
	})
}

func TestWhatIsLoadedAfterAGapIsNotDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
		time.Sleep(time.Nanosecond)
		b.want("k", "k@0")
		b.wait()
		srv.ResetCounts()
		b.want("k", "k@0")
		if n := srv.Counts().Read.Calls; n != 0 {
			t.Errorf("%d looks", n)
		}
	})
}

func TestALoadOrPromotionThatAGapOvertakesIsDoubted(t *testing.T) {
	for _, step := range []string{"Read answered", "load"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, _ := startFleet(t, 2, origin)
				a, b := fleet[0], fleet[1]
				if step == "Read answered" {
					a.want("k", "k@0")
					a.wait()
				}
				held := b.hold(step)
				reading := b.beginGet("k")
				held.await(t)
				missing(b, func() {
					origin.commit("k")
					a.must(a.Invalidate(t.Context(), "k"))
				})
				held.open()
				<-reading
				b.want("k", "k@1")
			})
		})
	}
}

func TestAfterAGapADoubtedCopyWhoseRemoteCopyIsGoneIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin, staleFor(time.Hour))
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		b.want("k", "k@0")
		missing(b, func() { a.must(a.Invalidate(t.Context(), "k")) })
		srv.Clear()
		origin.fail(errOrigin) // nothing better than the doubted copy
		if r, err := b.GetResult(t.Context(), "k"); err != nil || r.Status != dewar.StatusStale || !errors.Is(r.Err, errOrigin) {
			t.Errorf("%+v, %v", r, err)
		}
		origin.fail(nil)
		origin.commit("k")
		time.Sleep(2 * time.Second)
		b.want("k", "k@1")
	})
}

func TestANegativeEntryIsDoubtedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		b.fail("load", dewar.ErrNotFound)
		if _, err := b.Get(t.Context(), "k"); !errors.Is(err, dewar.ErrNotFound) {
			t.Fatal(err)
		}
		b.wait()
		b.fail("load", nil)
		missing(b, func() { a.must(a.Invalidate(t.Context(), "k")) })
		b.want("k", "k@0")
	})
}

func TestAGapInTheMiddleOfOwnWritesDeletesThemOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		a.chaos.Deaf(true, 0)
		a.chaos.Miss(true)
		origin.commit("k")
		held := b.hold("Announce")
		invalidating := beginWrite(func() error { return b.Invalidate(t.Context(), "k") })
		held.await(t)
		a.must(a.Set(t.Context(), "k", "k@0")) // undoes b's deletion
		held.open()
		b.must((<-invalidating).err)
		a.chaos.Miss(false)
		a.chaos.Deaf(false, 0)
		time.Sleep(time.Second)
		a.want("k", "k@1")
		b.want("k", "k@1")
		a.wait()
		wantRemote(t, srv, "k", "k@1")
	})
}

func TestWithMaxDeafOldLocalCopiesAreNotFreshWhileNothingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		b := fleet[1]
		b.want("k", "k@0")
		b.wait()
		b.chaos.Deaf(true, 10*time.Second)
		time.Sleep(9 * time.Second)
		b.want("k", "k@0")
		if n := origin.loadsOf("k"); n != 1 {
			t.Errorf("%d loads", n)
		}
		time.Sleep(2 * time.Second)
		b.chaos.Down(true)
		origin.commit("k")
		b.want("k", "k@1") // older than that, and nobody to ask
		b.chaos.Down(false)
		b.chaos.Deaf(false, 0)
		time.Sleep(30 * time.Second)
		b.want("k", "k@1")
		if n := origin.loadsOf("k"); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestWithoutMaxDeafALocalCopyServesItsTTLWhileNothingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 1, origin)
		b := fleet[0]
		b.want("k", "k@0")
		b.wait()
		b.chaos.Deaf(true, 0)
		b.chaos.Down(true)
		time.Sleep(59 * time.Second)
		b.want("k", "k@0")
		if n := origin.loadsOf("k"); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

func localTTL(d time.Duration, ahead float64) func(*fleetConfig) {
	return func(cfg *fleetConfig) { cfg.LocalTTL, cfg.Warm.Ahead = d, ahead }
}

func TestWithLocalTTLTheRemoteTierIsAskedAgainAndTheOriginIsNot(t *testing.T) {
	for _, ahead := range []float64{-1, 0.8} {
		synctest.Test(t, func(t *testing.T) {
			origin := newLedger()
			fleet, srv := startFleet(t, 1, origin, localTTL(5*time.Second, ahead))
			a := fleet[0]
			a.want("k", "k@0")
			a.wait()
			srv.ResetCounts()
			for range 400 { // 40 of the 60 s
				a.want("k", "k@0")
				time.Sleep(100 * time.Millisecond)
			}
			if n := srv.Counts().Read.Calls; n != 7 {
				t.Errorf("Ahead %v: asked %d times", ahead, n)
			}
			if n := origin.loadsOf("k"); n != 1 {
				t.Errorf("Ahead %v: %d loads", ahead, n)
			}
		})
	}
}

func TestWithLocalTTLRefreshAheadStillReloadsOffThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 3, origin, localTTL(5*time.Second, 0.8))
		for range 6000 {
			for _, p := range fleet {
				if r, err := p.GetResult(t.Context(), "k"); err != nil || r.Age > 60*time.Second {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := origin.loadsOf("k"); n < 10 || n > 16 {
			t.Errorf("%d loads in ten TTLs", n)
		}
		loaded := uint64(0)
		for _, p := range fleet {
			loaded += p.Stats().Loaded
		}
		if loaded > 3 {
			t.Errorf("%d readers waited for a load", loaded)
		}
	})
}

func TestWithLocalTTLTheLocalCopyServesOnWhereTheRemoteTierIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 1, origin, localTTL(5*time.Second, -1))
		a := fleet[0]
		a.want("k", "k@0")
		a.wait()
		a.chaos.Down(true)
		a.forget()
		for range 400 {
			a.want("k", "k@0")
			time.Sleep(100 * time.Millisecond)
		}
		if n := origin.loadsOf("k"); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}
