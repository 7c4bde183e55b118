package dewar_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// Leases and refreshes between processes: who loads, and what is given back.

func TestAnotherProcesssLeaseIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a, b := startProcess(t, srv, origin), startProcess(t, srv, origin)
		held := a.hold("load")
		got := a.beginGet("k")
		held.await(t)
		second := b.beginGet("k")
		time.Sleep(9 * time.Second) // a build with lease waiting may take its time
		held.open()
		if got := <-got; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		if got := <-second; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		a.wait()
		b.wait()
		if b.count("Fill")+b.count("Release")+b.count("Unlink")+b.count("Seize") > 0 {
			t.Errorf("the process without the lease wrote: %v", b.steps)
		}
		wantRemote(t, srv, "k", "k@0")
		if n := a.count("Fill"); n != 1 {
			t.Errorf("the holder made %d fills", n)
		}
	})
}

// A second process comes between a's Read (absent) and a's Lease.
func TestALeaseThatFindsAValueAdoptsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		held := a.hold("Lease")
		got := a.beginGet("k")
		held.await(t)
		seed(t, srv, origin, "k")
		held.open()
		if got := <-got; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		if n := origin.loadsOf("k"); n != 1 {
			t.Errorf("%d loads, want the other process's only", n)
		}
	})
}

func TestALeaseIsReleasedWhenNothingIsFilled(t *testing.T) {
	load := func(do func() (string, error)) func(*fleetConfig) {
		return func(cfg *fleetConfig) {
			cfg.Load = func(context.Context, string) (string, error) { return do() }
		}
	}
	for name, change := range map[string]func(*fleetConfig){
		"the load fails":  load(func() (string, error) { return "", errors.New("origin down") }),
		"the load panics": load(func() (string, error) { panic("loader") }),
		"the load exits":  load(func() (string, error) { runtime.Goexit(); return "", nil }),
		"the load times out": func(cfg *fleetConfig) {
			cfg.Flight.Timeout = time.Second
			cfg.Load = func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		},
		"not to be stored": func(cfg *fleetConfig) {
			cfg.TTLOf = func(string, string) time.Duration { return 0 }
		},
		"not found, not remembered": func(cfg *fleetConfig) {
			cfg.NegativeTTL = -1
			cfg.Load = func(context.Context, string) (string, error) { return "", dewar.ErrNotFound }
		},
		"no slot": func(cfg *fleetConfig) {
			cfg.Guard = dewar.Guard{MaxConcurrent: 1, QueueTimeout: time.Millisecond}
			cfg.Load = func(ctx context.Context, k string) (string, error) {
				time.Sleep(time.Second)
				return k, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a := startProcess(t, srv, origin, change)
				if name == "no slot" {
					go a.Get(t.Context(), "other")
					time.Sleep(100 * time.Millisecond)
				}
				start := time.Now()
				a.Get(t.Context(), "k")
				a.wait()
				if srv.Leased(fleetName, "k") {
					t.Errorf("the lease is still there %v after the load began; steps: %v", time.Since(start), a.steps)
				}
				if a.count("Lease answered") == 0 {
					t.Errorf("there was no lease to release: %v", a.steps)
				}
				wantRemote(t, srv, "k", "")
			})
		})
	}
}

func TestALeaseIsReleasedByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin, func(cfg *fleetConfig) {
			cfg.Load = func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		})
		got := a.beginGet("k")
		synctest.Wait()
		if !srv.Leased(fleetName, "k") {
			t.Fatal("no lease during the load")
		}
		a.must(a.Close())
		if got := <-got; !errors.Is(got.err, dewar.ErrClosed) {
			t.Error(got.err)
		}
		if srv.Leased(fleetName, "k") {
			t.Error("the lease outlived the cache")
		}
	})
}

func TestOfTwoProcessesThatRefreshOneFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a, b := startProcess(t, srv, origin), startProcess(t, srv, origin)
		gates := []*gate{a.hold("Fill"), b.hold("Fill")}
		for _, p := range []*process{a, b} {
			origin.commit("k")
			p.must(p.Refresh(t.Context(), "k"))
		}
		for i := range gates {
			gates[i].await(t)
		}
		gates[1].open()
		b.wait()
		wantRemote(t, srv, "k", "k@2")
		gates[0].open()
		a.wait()
		wantRemote(t, srv, "k", "k@2") // and not the older one of the slower process
		if sa, sb := a.Stats(), b.Stats(); sa.FillsRefused != 1 || sb.Filled != 1 || sa.Filled+sb.FillsRefused != 0 {
			t.Errorf("a filled %d, refused %d; b filled %d, refused %d", sa.Filled, sa.FillsRefused, sb.Filled, sb.FillsRefused)
		}
	})
}

// The origin takes back what it had: the remote copy goes too.
func TestARefreshThatFindsNothingRemovesTheRemoteCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin, func(cfg *fleetConfig) { cfg.NegativeTTL = -1 })
		origin.fail(dewar.ErrNotFound)
		if _, err := a.Get(t.Context(), "k", dewar.Reload()); !errors.Is(err, dewar.ErrNotFound) {
			t.Error(err)
		}
		a.wait()
		wantRemote(t, srv, "k", "")
	})
}
