package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestALogHandlerMayReadStats(t *testing.T) {
	chaos := &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
	var c *dewar.Cache[string, string]
	c, err := dewar.New(fleetConfig{
		Name: "x", TTL: time.Minute, Local: smallLocal, Remote: chaos,
		Logger: slog.New(statsHandler{Handler: slog.DiscardHandler, c: &c}),
		Load:   func(_ context.Context, k string) (string, error) { return k, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	chaos.Down(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = c.Invalidate(ctx, "k")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("Invalidate hangs: ", err)
		return // Close would hang too
	}
	chaos.Down(false)
	_ = c.Close()
}

func TestAStaleReaderDoesNotWaitWithANoStaleReaderForAnotherProcess(t *testing.T) {
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
		strict := b.beginGet("k", dewar.NoStale())
		synctest.Wait()
		begun := time.Now()
		go func() { time.Sleep(5 * time.Second); load.open() }()
		r, err := b.GetResult(t.Context(), "k")
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Errorf("waited %v for %+v, %v", took, r, err)
		}
		<-strict
		<-first
	})
}

func TestAnExpireBeforeTheFillKeepsTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 1, origin, staleFor(time.Hour))
		a := fleet[0]
		fill := a.hold("Fill")
		a.want("k", "k@0")
		fill.await(t)
		a.must(a.Expire(t.Context(), "k"))
		fill.open()
		a.wait()
		origin.fail(errOrigin)
		if r, err := a.GetResult(t.Context(), "k"); err != nil || r.Status != dewar.StatusStale {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestValuesThatAreNotStoredAreNotLoadedByOneProcessAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 15, origin, slowOrigin(origin, time.Second), func(cfg *fleetConfig) {
			cfg.TTLOf = func(string, string) time.Duration { return 0 }
		})
		begun := time.Now()
		var wg sync.WaitGroup
		for _, p := range fleet {
			wg.Go(func() {
				if _, err := p.Get(t.Context(), "k"); err != nil {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
			})
		}
		wg.Wait()
		t.Log(time.Since(begun), origin.total())
	})
}

func TestATierWithoutEpochsMayTellThatAllIsInvalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		o := &grabEvents{RemoteOpener: srv}
		c := dewartest.New(t, fleetConfig{Remote: o, Load: func(_ context.Context, k string) (string, error) { return k, nil }})
		defer func() {
			if p := recover(); p != nil {
				t.Error(p)
			}
		}()
		o.events.AnnouncedAll(nil)
		_, _ = c.Get(t.Context(), "k")
	})
}

type grabEvents struct {
	dewar.RemoteOpener[string]
	events dewar.RemoteEvents
}

func (g *grabEvents) OpenRemote(o dewar.RemoteOptions) (dewar.RemoteTier[string], error) {
	g.events = o.Events
	return g.RemoteOpener.OpenRemote(o)
}

func TestARefreshAmongManyReadersLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		srv := dewartest.NewRemote[string]()
		chaos := &dewartest.Chaos[string]{Remote: srv}
		c, err := dewar.New(fleetConfig{
			Name: "lone", TTL: time.Hour, Warm: dewar.Warm{Ahead: -1}, Remote: chaos,
			Load: func(_ context.Context, k string) (string, error) { return origin.load(k) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait(t.Context())
		chaos.Delay(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Microsecond)
				for ctx.Err() == nil {
					_, _ = c.Get(ctx, "k")
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		begun := time.Now()
		if err := c.Refresh(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 20*time.Millisecond {
			t.Errorf("Refresh took %v, a round trip %v", took, time.Millisecond)
		} else {
			t.Log(took)
		}
		cancel()
		wg.Wait()
	})
}

func TestWhoJoinsAFlightThatStartedOverHasItsWholeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		srv := dewartest.NewRemote[string]()
		a := startProcess(t, srv, origin, func(cfg *fleetConfig) { cfg.Flight.Timeout = time.Minute })
		b := startProcess(t, srv, origin, slowOrigin(origin, 500*time.Millisecond))
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		old := b.beginGet("k")
		time.Sleep(9700 * time.Millisecond)
		a.must(a.Invalidate(t.Context(), "k")) // starts b's reader over
		time.Sleep(150 * time.Millisecond)
		begun := time.Now()
		if v, err := b.Get(t.Context(), "k"); err != nil {
			t.Errorf("after %v: %q, %v", time.Since(begun), v, err)
		}
		<-old
		load.open()
		<-first
	})
}

func TestStaleReadsDoNotAskForTheRefreshLeaseEachTime(t *testing.T) {
	for _, revalidate := range []bool{true, false} {
		t.Run(fmt.Sprint("WhileRevalidate ", revalidate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 2, origin, func(cfg *fleetConfig) {
					if revalidate {
						cfg.Stale.WhileRevalidate = time.Hour
					} else {
						cfg.Stale.IfError = time.Hour
					}
				})
				a, b := fleet[0], fleet[1]
				a.want("k", "k@0")
				a.wait()
				b.want("k", "k@0")
				time.Sleep(61 * time.Second)
				load := a.hold("load")
				first := a.beginGet("k", dewar.NoStale())
				load.await(t)
				srv.ResetCounts()
				for range 2000 {
					b.want("k", "k@0")
					time.Sleep(time.Millisecond)
				}
				if n := srv.Counts().LeaseRefresh.Calls; n > 100 {
					t.Errorf("asked %d times in 2 s", n)
				}
				load.open()
				<-first
			})
		})
	}
}

func TestAfterAGapPlacesMayBeginAnew(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprint(far), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				srv := dewartest.NewRemote[string]()
				o := &grabEvents{RemoteOpener: srv}
				b := startProcess(t, srv, origin)
				a := startProcess(t, srv, origin, func(cfg *fleetConfig) {
					ch := cfg.Remote.(*dewartest.Chaos[string])
					ch.Remote = o.over(srv)
				})
				synctest.Wait()
				if far {
					o.events.Announced(dewar.Announcement{Kind: dewar.AnnounceInvalidate, Keys: []string{"z"}, Place: dewar.Place{Time: 1 << 63}})
					o.events.Missed(nil)
				}
				a.chaos.Lag(time.Second)
				b.chaos.Lag(time.Second)
				seize := a.hold("Seize")
				set := beginWrite(func() error { return a.Set(t.Context(), "k", "old") })
				seize.await(t)
				origin.commit("k")
				b.must(b.Invalidate(t.Context(), "k"))
				seize.open()
				<-set
				time.Sleep(3 * time.Second)
				b.want("k", "k@1")
				a.want("k", "k@1")
			})
		})
	}
}

func (g *grabEvents) over(r dewar.RemoteOpener[string]) dewar.RemoteOpener[string] {
	g.RemoteOpener = r
	return g
}
