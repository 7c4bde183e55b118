package dewar_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestExpireMakesTheRemoteCopyStaleUnderANewFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k", staleFor(time.Hour))
		a, b := startProcess(t, srv, origin, staleFor(time.Hour)), startProcess(t, srv, origin, staleFor(time.Hour))

		// b's refresh of the old value is about to be filled ...
		held := b.hold("Fill")
		b.must(b.Refresh(t.Context(), "k"))
		held.await(t)
		// ... when the origin changes and a expires the key.
		origin.commit("k")
		a.must(a.Expire(t.Context(), "k"))
		e, ok := srv.Entry(fleetName, "k")
		if !ok || e.Value != "k@0" || dewar.Clock() < e.Fresh {
			t.Errorf("the remote tier has %+v (%v), want k@0 past its time", e, ok)
		}
		held.open()
		b.wait()
		if n := b.Stats().FillsRefused; n != 1 {
			t.Errorf("%d fills refused: the one over the old fence was not", n)
		}
		if e, _ := srv.Entry(fleetName, "k"); dewar.Clock() < e.Fresh {
			t.Errorf("%s is fresh again", e.Value)
		}

		// Whoever reads it loads anew, and has it as a fallback when that fails.
		c := startProcess(t, srv, origin, staleFor(time.Hour))
		origin.fail(errors.New("origin down"))
		r, err := c.GetResult(t.Context(), "k")
		if err != nil || r.Value != "k@0" || r.Status != dewar.StatusStale || r.Tier != dewar.TierRemote {
			t.Errorf("%+v, %v", r, err)
		}
		origin.fail(nil)
		time.Sleep(2 * time.Second) // RetryAfter
		c.want("k", "k@1")
		c.wait()
		a.want("k", "k@1")
		wantRemote(t, srv, "k", "k@1")
	})
}

func TestExpireKeepsTheLocalCopyAsFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin, staleFor(time.Hour))
		a.get("k")
		a.wait()
		origin.commit("k")
		a.must(a.Expire(t.Context(), "k"))
		origin.fail(errors.New("origin down"))
		r, err := a.GetResult(t.Context(), "k")
		if err != nil || r.Value != "k@0" || r.Status != dewar.StatusStale {
			t.Errorf("%+v, %v", r, err)
		}
		origin.fail(nil)
		time.Sleep(2 * time.Second)
		a.want("k", "k@1")
	})
}

func TestExpireWithoutAStaleWindowRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		a.get("k")
		a.wait()
		a.must(a.Expire(t.Context(), "k"))
		a.wantNotCached("k")
		wantRemote(t, srv, "k", "")
	})
}

func TestExpireRemovesLeasesAndNegativeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		missing := func(cfg *fleetConfig) { cfg.NotFound = func(error) bool { return true } }
		a := startProcess(t, srv, origin, staleFor(time.Hour), missing)
		origin.fail(dewar.ErrNotFound)
		a.Get(t.Context(), "absent")
		a.wait()
		if !srv.Has(fleetName, "absent") {
			t.Fatal("the missing key is not remembered")
		}
		held := a.hold("load")
		leased := a.beginGet("leased")
		held.await(t)
		origin.fail(nil)
		a.must(a.Expire(t.Context(), "absent", "leased"))
		if srv.Has(fleetName, "absent") {
			t.Error("the negative entry is still there")
		}
		if srv.Leased(fleetName, "leased") {
			t.Error("the lease is still there")
		}
		held.open()
		<-leased
		a.want("absent", "absent@0")
		a.want("leased", "leased@0")
	})
}
