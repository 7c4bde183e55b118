package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestDoubtedCopiesReadTogetherAllServeWhereTheRemoteTierFails(t *testing.T) {
	for _, batch := range []bool{true, false} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, _ := startFleet(t, 2, origin)
				a, b := fleet[0], fleet[1]
				var keys []string
				for i := range 50 {
					keys = append(keys, fmt.Sprint("k", i))
					b.get(keys[i])
				}
				b.wait()
				missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
				b.fail("Read", errors.New("down"))
				before := origin.total()
				if batch {
					if m, err := b.GetMany(t.Context(), keys); err != nil || len(m) != 50 {
						t.Error(m, err)
					}
				} else {
					gate := b.hold("Read")
					var wg sync.WaitGroup
					for _, k := range keys {
						wg.Go(func() { b.get(k) })
					}
					gate.await(t)
					gate.open()
					wg.Wait()
				}
				if n := origin.total() - before; n != 0 {
					t.Errorf("%d loads of doubted keys while the remote tier is down", n)
				}
			})
		})
	}
}

func TestADoubtedCopyServesWhileAWriteOfItsKeyIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		b.fail("Seize", errors.New("down"))
		b.fail("Unlink", errors.New("down"))
		if err := b.Set(t.Context(), "k", "k@set"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
		b.fail("Read", errors.New("down"))
		if v, err := b.Get(t.Context(), "k", dewar.CacheOnly()); err != nil || v != "k@set" {
			t.Errorf("CacheOnly: %v, %v", v, err)
		}
		b.get("k")
		if n := origin.loadsOf("k"); n != 0 {
			t.Errorf("%d loads", n)
		}
		b.fail("Seize", nil)
		b.fail("Unlink", nil)
		b.fail("Read", nil)
	})
}

func TestWithLocalTTLACopyServesWhileAWriteOfItsKeyIsPending(t *testing.T) {
	for _, many := range []bool{true, false} {
		t.Run(fmt.Sprint("GetMany ", many), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, _ := startFleet(t, 1, origin, localTTL(time.Second, -1))
				b := fleet[0]
				b.fail("Seize", errors.New("down"))
				b.fail("Unlink", errors.New("down"))
				b.fail("Read", errors.New("down"))
				_ = b.Set(t.Context(), "k", "k@set")
				for range 40 {
					time.Sleep(time.Second)
					if many {
						_, _ = b.GetMany(t.Context(), []string{"k"})
					} else {
						b.get("k")
					}
				}
				if n := origin.loadsOf("k"); n != 0 {
					t.Errorf("%d loads in 40 s of a TTL of a minute", n)
				}
				b.fail("Seize", nil)
				b.fail("Unlink", nil)
				b.fail("Read", nil)
			})
		})
	}
}

func TestAReaderWithANewerNegativeEntryWaitsForAnotherProcessWithoutSpinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		var mu sync.Mutex
		gone := false
		fleet, _ := startFleet(t, 2, origin, staleFor(time.Hour), func(cfg *fleetConfig) {
			cfg.NegativeTTL = time.Second
			load := cfg.Load
			cfg.Load = func(ctx context.Context, k string) (string, error) {
				mu.Lock()
				g := gone
				mu.Unlock()
				if g {
					return "", dewar.ErrNotFound
				}
				return load(ctx, k)
			}
		})
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		time.Sleep(61 * time.Second) // stale in the remote tier, kept for an hour
		mu.Lock()
		gone = true
		mu.Unlock()
		b.fail("Fill", errors.New("down")) // b learns that k is gone, and cannot write it
		if _, err := b.Get(t.Context(), "k"); !errors.Is(err, dewar.ErrNotFound) {
			t.Fatal(err)
		}
		_ = b.Wait(t.Context())
		b.fail("Fill", nil)
		mu.Lock()
		gone = false
		mu.Unlock()
		time.Sleep(2 * time.Second) // the negative entry has ended
		load := a.hold("load")
		first := a.beginGet("k", dewar.NoStale()) // has the refresh lease
		load.await(t)
		b.forget()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r, err := b.GetResult(t.Context(), "k")
			t.Logf("%+v %v", r, err)
		}()
		for range 200_000 { // a fake second may not pass: the spin keeps the clock
			runtime.Gosched()
			if b.count("LeaseRefresh") > 300 {
				t.Errorf("%d times asked for the refresh lease in no time at all", b.count("LeaseRefresh"))
				break
			}
		}
		load.open()
		<-first
		<-done
	})
}

func TestAPollIsBoundByTheOldestOfItsFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		gates := []*gate{}
		hold := func() { gates = append(gates, a.hold("load")) }
		hold()
		one := a.beginGet("old")
		synctest.Wait()
		begun := time.Now()
		type res struct {
			err  error
			took time.Duration
		}
		old := make(chan res, 1)
		go func() {
			_, err := b.Get(t.Context(), "old")
			old <- res{err, time.Since(begun)}
		}()
		time.Sleep(6500 * time.Millisecond)
		hold()
		two := a.beginGet("young")
		synctest.Wait()
		time.Sleep(2500 * time.Millisecond)
		// a poll is under way when the young one comes
		g := b.hold("Lease")
		for {
			synctest.Wait()
			select {
			case <-g.arrived:
			default:
				time.Sleep(time.Millisecond)
				continue
			}
			break
		}
		young := b.beginGet("young")
		synctest.Wait()
		b.chaos.Delay(time.Minute) // honours the context
		time.Sleep(50 * time.Millisecond)
		g.open()
		r := <-old
		if r.took > 10100*time.Millisecond {
			t.Errorf("the old one's reader waited %v: %v", r.took, r.err)
		}
		b.chaos.Delay(0)
		for _, g := range gates {
			g.open()
		}
		<-one
		<-two
		<-young
	})
}

func TestARefreshThatJoinsACheckStillLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		b.want("k", "k@0")
		b.wait()
		missing(b, func() { a.must(a.Invalidate(t.Context(), "other")) })
		b.fail("Read", errors.New("down"))
		gate := b.hold("Read")
		get := b.beginGet("k")
		gate.await(t)
		origin.commit("k")
		refresh := beginWrite(func() error { return b.Refresh(t.Context(), "k") })
		synctest.Wait()
		gate.open()
		<-get
		if r := <-refresh; r.err != nil {
			t.Fatal(r.err)
		}
		if n := origin.loadsOf("k"); n != 2 {
			t.Errorf("%d loads: Refresh returned nil and loaded nothing", n)
		}
		b.want("k", "k@1")
	})
}

func TestAKeyOfABatchStartsOverWhileASlowOneIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		srv := dewartest.NewRemote[string]()
		a := startProcess(t, srv, origin)
		b := startProcess(t, srv, origin, func(cfg *fleetConfig) {
			cfg.Load = func(ctx context.Context, k string) (string, error) {
				v, err := origin.load(k)
				d := 500 * time.Millisecond
				if k == "slow" {
					d = 9800 * time.Millisecond
				}
				select {
				case <-time.After(d):
					return v, err
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
		})
		load := a.hold("load")
		first := a.beginGet("k")
		load.await(t)
		many := begin(func() (string, error) {
			m, err := b.GetMany(t.Context(), []string{"k", "slow"})
			return m["k"], err
		})
		time.Sleep(time.Second)
		origin.commit("k")
		a.must(a.Invalidate(t.Context(), "k"))
		if r := <-many; r.err != nil {
			t.Errorf("%q, %v", r.value, r.err)
		}
		load.open()
		<-first
	})
}

type statsHandler struct {
	slog.Handler
	c **dewar.Cache[string, string]
}

func (h statsHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h statsHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h statsHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "not confirmed") && *h.c != nil {
		_ = (*h.c).Stats()
	}
	return nil
}
