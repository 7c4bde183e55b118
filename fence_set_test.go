package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// A Set or a backfill and the fence: what wins, and what a refused one leaves.

func TestSetSeizesBeforeItFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin)
		held := a.hold("Seize answered")
		done := beginWrite(func() error { return a.Set(t.Context(), "k", "new") })
		held.await(t)
		if a.count("Fill") > 0 {
			t.Errorf("the fill was sent before the seizure was answered: %v", a.steps)
		}
		wantRemote(t, srv, "k", "") // the old value is gone whether or not the fill follows
		if !srv.Leased(fleetName, "k") {
			t.Error("no lease is in place")
		}
		held.open()
		if got := <-done; got.err != nil {
			t.Error(got.err)
		}
		wantRemote(t, srv, "k", "new")
		startProcess(t, srv, origin).want("k", "new")
	})
}

func TestAnInvalidateDuringASetWins(t *testing.T) {
	for _, step := range setSteps {
		for _, sameProcess := range []bool{true, false} {
			if !sameProcess && step == "Seize" {
				continue // the Set comes after it then
			}
			t.Run(fmt.Sprintf("at %s, by the same process: %v", step, sameProcess), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, origin := dewartest.NewRemote[string](), newLedger()
					seed(t, srv, origin, "k")
					a := startProcess(t, srv, origin)
					b := a
					if !sameProcess {
						b = startProcess(t, srv, origin)
					}
					held := a.hold(step)
					done := beginWrite(func() error { return a.Set(t.Context(), "k", "set") })
					held.await(t)
					origin.commit("k")
					b.must(b.Invalidate(t.Context(), "k"))
					held.open()
					if got := <-done; got.err != nil {
						t.Error(got.err)
					}
					wantRemote(t, srv, "k", "")
					b.want("k", "k@1")
					startProcess(t, srv, origin).want("k", "k@1")
				})
			})
		}
	}
}

func TestTheLastOfTwoSetsOfAProcessWins(t *testing.T) {
	for _, first := range setSteps {
		for _, second := range setSteps {
			for _, firstFirst := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, first goes on first: %v", first, second, firstFirst), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						srv, origin := dewartest.NewRemote[string](), newLedger()
						a := startProcess(t, srv, origin)
						gate1 := a.hold(first)
						done1 := beginWrite(func() error { return a.Set(t.Context(), "k", "first") })
						gate1.await(t)
						gate2 := a.hold(second)
						done2 := beginWrite(func() error { return a.Set(t.Context(), "k", "second") })
						synctest.Wait()
						a.want("k", "second", dewar.CacheOnly())
						if !firstFirst {
							gate1, gate2 = gate2, gate1
						}
						gate1.open()
						synctest.Wait()
						gate2.open()
						for _, done := range []<-chan answer{done1, done2} {
							if got := <-done; got.err != nil {
								t.Error(got.err)
							}
						}
						a.want("k", "second", dewar.CacheOnly())
						if e, ok := srv.Entry(fleetName, "k"); ok && e.Value != "second" {
							t.Errorf("the remote tier has %q; steps: %v", e.Value, a.steps)
						}
						if srv.Leased(fleetName, "k") {
							t.Error("a lease is left behind")
						}
						a.want("k", "second")
					})
				})
			}
		}
	}
}

func TestAFillOfASetThatIsRefusedOrUnknownIsUnlinked(t *testing.T) {
	broken := errors.New("the connection broke")
	for name, prepare := range map[string]func(*process){
		"refused":                  func(p *process) { p.fail("Fill", dewar.ErrFenced) },
		"not carried out":          func(p *process) { p.fail("Fill", broken) },
		"carried out, not known":   func(p *process) { p.fail("Fill answered", broken) },
		"seizure not carried out":  func(p *process) { p.fail("Seize", broken) },
		"seizure's answer is lost": func(p *process) { p.fail("Seize answered", broken) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				seed(t, srv, origin, "k")
				a := startProcess(t, srv, origin)
				prepare(a)
				a.must(a.Set(t.Context(), "k", "new"))
				a.want("k", "new", dewar.CacheOnly())
				wantRemote(t, srv, "k", "")
				if a.count("Fill") > 1 || a.count("Seize") != 1 || a.count("Unlink") != 1 {
					t.Errorf("steps: %v", a.steps)
				}
				time.Sleep(10 * time.Second)
				if a.count("Fill") > 1 {
					t.Errorf("a fill was repeated: %v", a.steps)
				}
				if srv.Leased(fleetName, "k") {
					t.Error("a lease is left behind")
				}
				if n := a.Stats().PendingInvalidations; n != 0 {
					t.Errorf("%d invalidations pending", n)
				}
			})
		})
	}
}

func TestABackfillThatFailedIsNeverRepeated(t *testing.T) {
	for _, step := range []string{"Fill", "Fill answered"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a := startProcess(t, srv, origin)
				a.fail(step, context.DeadlineExceeded)
				a.want("k", "k@0")
				synctest.Wait()
				a.fail(step, nil)
				time.Sleep(30 * time.Second)
				a.want("k", "k@0")
				if err := a.Wait(t.Context()); err == nil {
					t.Error("Wait says nothing of the failed write")
				}
				if n := a.count("Fill"); n != 1 {
					t.Errorf("%d fills: %v", n, a.steps)
				}
				if n := a.Stats().WritesFailed; n != 1 {
					t.Errorf("%d writes counted as failed", n)
				}
			})
		})
	}
}

func TestAFillWhoseLeaseIsGoneIsRefusedAndTheReaderStillAnswered(t *testing.T) {
	for name, lose := range map[string]func(*dewartest.Remote[string]){
		"evicted": func(srv *dewartest.Remote[string]) { srv.Drop(fleetName, "k") },
		"flushed": func(srv *dewartest.Remote[string]) { srv.Clear() },
		"expired": func(*dewartest.Remote[string]) { time.Sleep(9500 * time.Millisecond) }, // less than the fill may take
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a := startProcess(t, srv, origin)
				load, fill := a.hold("load"), a.hold("Fill")
				reader := a.beginGet("k")
				time.Sleep(9 * time.Second)
				load.open()
				if got := <-reader; got.value != "k@0" || got.err != nil {
					t.Error(got)
				}
				fill.await(t)
				lose(srv)
				fill.open()
				a.wait() // a refusal is no failure
				wantRemote(t, srv, "k", "")
				if s := a.Stats(); s.FillsRefused != 1 || s.WritesFailed != 0 || s.Filled != 0 {
					t.Errorf("refused %d, failed %d, filled %d", s.FillsRefused, s.WritesFailed, s.Filled)
				}
			})
		})
	}
}

// Another process has changed the key while this one loaded it: what this one
// got is answered to who asked, and kept nowhere.
func TestAFillRefusedByTheFenceIsStoredNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a, b := startProcess(t, srv, origin), startProcess(t, srv, origin)
		load := a.hold("load")
		reader := a.beginGet("k")
		load.await(t)
		origin.commit("k")
		b.must(b.Invalidate(t.Context(), "k"))
		load.open()
		if got := <-reader; got.value != "k@0" || got.err != nil {
			t.Error(got)
		}
		a.wait()
		wantRemote(t, srv, "k", "")
		a.want("k", "k@1")
	})
}
