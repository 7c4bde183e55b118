package dewar_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestWritesReachTheLocalCopiesOfTheOtherProcesses(t *testing.T) {
	for name, tt := range map[string]struct {
		write func(*process) error
		want  string
	}{
		"Invalidate":    {func(p *process) error { return p.Invalidate(p.t.Context(), "k", "other") }, "k@1"},
		"InvalidateAll": {func(p *process) error { return p.InvalidateAll(p.t.Context()) }, "k@1"},
		"Expire":        {func(p *process) error { return p.Expire(p.t.Context(), "k") }, "k@1"},
		"Set":           {func(p *process) error { return p.Set(p.t.Context(), "k", "k@set") }, "k@set"},
	} {
		for _, stale := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprintf("%s, stale for %v", name, stale), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					origin := newLedger()
					fleet, srv := startFleet(t, 3, origin, staleFor(stale))
					for _, p := range fleet {
						p.want("k", "k@0")
					}
					fleet[0].wait()
					origin.commit("k")
					fleet[0].must(tt.write(fleet[0]))
					synctest.Wait()
					for _, p := range fleet {
						p.want("k", tt.want)
						p.wait()
					}
					wantRemote(t, srv, "k", tt.want)
				})
			})
		}
	}
}

func TestAnAnnouncedExpiryLeavesTheLocalCopyAsFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, _ := startFleet(t, 2, origin, staleFor(time.Hour))
		a, b := fleet[0], fleet[1]
		a.want("k", "k@0")
		a.wait()
		b.want("k", "k@0")
		a.must(a.Expire(t.Context(), "k"))
		synctest.Wait()
		b.chaos.Down(true) // so that the remote copy is not at hand
		origin.fail(errOrigin)
		if r, err := b.GetResult(t.Context(), "k"); err != nil || r.Status != dewar.StatusStale {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// What runs in another process while a write of the key is announced there
// must leave the old value nowhere.
func TestAnAnnouncementFencesLoadsAndPromotionsUnderWay(t *testing.T) {
	for _, step := range []string{"Read answered", "Lease answered", "load", "Fill", "Fill answered"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 2, origin)
				a, b := fleet[0], fleet[1]
				if step == "Read answered" { // a promotion
					a.want("k", "k@0")
					a.wait()
				}
				held := b.hold(step)
				reading := b.beginGet("k")
				held.await(t)
				origin.commit("k")
				a.must(a.Invalidate(t.Context(), "k"))
				synctest.Wait()
				held.open()
				<-reading
				b.wait()
				a.want("k", "k@1")
				b.want("k", "k@1")
				a.wait()
				wantRemote(t, srv, "k", "k@1")
			})
		})
	}
}

func TestAnInvalidationOfAThousandKeysIsTwoRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet, srv := startFleet(t, 2, newLedger())
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = fmt.Sprint("k", i)
		}
		fleet[0].must(fleet[0].Invalidate(t.Context(), keys...))
		if n := srv.Counts(); n.Unlink != (dewartest.OpCount{Calls: 1, Keys: 1000}) || n.Announce != (dewartest.OpCount{Calls: 1, Keys: 1000}) {
			t.Errorf("%+v", n)
		}
	})
}

func TestNothingIsAnnouncedBeforeItIsDone(t *testing.T) {
	for name, tt := range map[string]struct {
		write func(*process) error
		last  string
	}{
		"Invalidate": {func(p *process) error { return p.Invalidate(p.t.Context(), "k") }, "Unlink answered"},
		"Expire":     {func(p *process) error { return p.Expire(p.t.Context(), "k") }, "Expire answered"},
		"Set":        {func(p *process) error { return p.Set(p.t.Context(), "k", "new") }, "Fill answered"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 2, origin, staleFor(time.Hour))
				a, b := fleet[0], fleet[1]
				a.want("k", "k@0")
				a.wait()
				held := a.hold(tt.last)
				writing := beginWrite(func() error { return tt.write(a) })
				held.await(t)
				if n := srv.Counts().Announce.Calls; n != 0 {
					t.Errorf("announced before %s", tt.last)
				}
				held.open()
				a.must((<-writing).err)
				// And told only after that: what b reads now is not the old value.
				synctest.Wait()
				if v := b.get("k"); v == "k@0" && name != "Expire" && name != "Invalidate" {
					t.Errorf("%s", v)
				}
				if n := srv.Counts().Announce.Calls; n != 1 {
					t.Errorf("%d announcements", n)
				}
			})
		})
	}
}

func TestTheMarkStaysUntilTheAnnouncementIsAnswered(t *testing.T) {
	for name, write := range map[string]func(*process) error{
		"Invalidate": func(p *process) error { return p.Invalidate(p.t.Context(), "k") },
		"Set":        func(p *process) error { return p.Set(p.t.Context(), "k", "new") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 1, origin)
				a := fleet[0]
				held := a.hold("Announce")
				writing := beginWrite(func() error { return write(a) })
				held.await(t)
				a.forget()
				srv.ResetCounts()
				a.get("k")
				a.get("k", dewar.Reload())
				if n := srv.Counts(); n.Read.Calls+n.Lease.Calls+n.Fill.Calls > 0 {
					t.Errorf("the remote tier was used: %v", a.steps)
				}
				held.open()
				a.must((<-writing).err)
			})
		})
	}
}

func TestAnAnnouncementThatFailsIsPendingAndRepeatedWithItsDeletion(t *testing.T) {
	for name, write := range map[string]func(*process) error{
		"Invalidate": func(p *process) error { return p.Invalidate(p.t.Context(), "k") },
		"Expire":     func(p *process) error { return p.Expire(p.t.Context(), "k") },
		"Set":        func(p *process) error { return p.Set(p.t.Context(), "k", "k@1") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := newLedger()
				fleet, srv := startFleet(t, 2, origin, staleFor(time.Hour))
				a, b := fleet[0], fleet[1]
				a.want("k", "k@0")
				a.wait()
				b.want("k", "k@0")
				origin.commit("k")
				a.fail("Announce", errors.New("lost"))
				if err := write(a); !errors.Is(err, dewar.ErrInvalidationPending) {
					t.Error(err)
				}
				a.forget()
				time.Sleep(10 * time.Second)
				a.fail("Announce", nil)
				time.Sleep(2 * time.Second)
				log := a.String()
				if last := log[strings.LastIndex(log, "Unlink, "):]; last != "Unlink, Unlink answered, Announce, Announce answered" {
					t.Errorf("ended with %s", last)
				}
				if a.count("Seize")+a.count("Fill") > 0 {
					t.Errorf("a value was written again: %v", a.steps)
				}
				if n := a.Stats().PendingInvalidations; n != 0 {
					t.Errorf("%d pending", n)
				}
				wantRemote(t, srv, "k", "")
				b.want("k", "k@1")
			})
		})
	}
}

// Two processes write one key at the same time. Whichever comes last where, at
// the end nobody has what was written over.
func TestWritersOfOneKeyInTwoProcessesAreSettled(t *testing.T) {
	steps := []string{"Seize", "Seize answered", "Fill", "Fill answered", "Announce", "Announce answered"}
	for _, a1 := range steps {
		for _, b1 := range []string{"Unlink", "Unlink answered", "Announce", "Announce answered"} {
			for _, firstA := range []bool{true, false} {
				t.Run(fmt.Sprintf("Set at %s, Invalidate at %s, Set goes on first %v", a1, b1, firstA), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						origin := newLedger()
						fleet, srv := startFleet(t, 2, origin)
						a, b := fleet[0], fleet[1]
						atA, atB := a.hold(a1), b.hold(b1)
						setting := beginWrite(func() error { return a.Set(t.Context(), "k", "k@0") })
						atA.await(t)
						origin.commit("k")
						invalidating := beginWrite(func() error { return b.Invalidate(t.Context(), "k") })
						atB.await(t)
						if firstA {
							atA.open()
							synctest.Wait()
							atB.open()
						} else {
							atB.open()
							synctest.Wait()
							atA.open()
						}
						a.must((<-setting).err)
						b.must((<-invalidating).err)
						time.Sleep(time.Second)
						// The Set was of an older version than the Invalidate's: it
						// may be served only where it began after that.
						a.want("k", "k@1")
						b.want("k", "k@1")
						a.wait()
						b.wait()
						wantRemote(t, srv, "k", "k@1")
					})
				})
			}
		}
	}
}

func TestAWriteHeardOfOnlyAfterOursHasEndedIsSettledToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		a.chaos.Lag(time.Second)
		origin.commit("k")
		atB := b.hold("Announce")
		invalidating := beginWrite(func() error { return b.Invalidate(t.Context(), "k") })
		atB.await(t) // deleted, not announced
		atA := a.hold("Announce")
		setting := beginWrite(func() error { return a.Set(t.Context(), "k", "k@0") })
		atA.await(t) // filled, not announced
		atB.open()
		b.must((<-invalidating).err)
		atA.open()
		a.must((<-setting).err)
		time.Sleep(2 * time.Second)
		a.want("k", "k@1")
		b.want("k", "k@1")
		a.wait()
		wantRemote(t, srv, "k", "k@1")
	})
}

func TestTheEchoOfAnOwnSetLeavesItsLocalCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet, _ := startFleet(t, 2, newLedger())
		a := fleet[0]
		a.must(a.Set(t.Context(), "k", "v"))
		time.Sleep(time.Second)
		if r, err := a.GetResult(t.Context(), "k"); err != nil || r.Tier != dewar.TierLocal {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestTwoInvalidationsOfOneKeyDoNotAnswerEachOtherForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet, srv := startFleet(t, 2, newLedger())
		a, b := fleet[0], fleet[1]
		atA, atB := a.hold("Announce"), b.hold("Announce")
		first := beginWrite(func() error { return a.Invalidate(t.Context(), "k") })
		second := beginWrite(func() error { return b.Invalidate(t.Context(), "k") })
		atA.await(t)
		atB.await(t)
		atA.open()
		atB.open()
		a.must((<-first).err)
		b.must((<-second).err)
		time.Sleep(time.Minute)
		if n := srv.Counts(); n.Announce.Calls != 2 || n.Unlink.Calls != 2 {
			t.Errorf("%+v", n)
		}
	})
}

func TestAnAnnouncementFromAnotherSchemaRemovesThisSchemasCopyOnce(t *testing.T) {
	for name, write := range map[string]func(*process) error{
		"Invalidate": func(p *process) error { return p.Invalidate(p.t.Context(), "k") },
		"Expire":     func(p *process) error { return p.Expire(p.t.Context(), "k") },
		"Set":        func(p *process) error { return p.Set(p.t.Context(), "k", "k@1") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				before := startProcess(t, srv, origin, staleFor(time.Hour))
				after := startProcess(t, srv, origin, staleFor(time.Hour), func(cfg *fleetConfig) { cfg.Schema = "2" })
				before.want("k", "k@0")
				after.want("k", "k@0")
				before.wait()
				after.wait()
				origin.commit("k")
				srv.ResetCounts()
				before.must(write(before))
				synctest.Wait()
				after.want("k", "k@1")
				before.want("k", "k@1")
				if n := srv.Counts().Announce.Calls; n != 1 {
					t.Errorf("%d announcements", n) // what removes only its own copy tells nobody
				}
				after.wait()
				other := startProcess(t, srv, origin, func(cfg *fleetConfig) { cfg.Schema = "2" })
				other.want("k", "k@1")
				if n := other.count("load"); n != 0 {
					t.Error("what was loaded since did not reach the remote tier")
				}
			})
		})
	}
}

func TestAForeignDeletionThatCannotBeDoneAtOnceIsRepeatedQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		before := startProcess(t, srv, origin)
		after := startProcess(t, srv, origin, func(cfg *fleetConfig) { cfg.Schema = "2" })
		after.want("k", "k@0")
		after.wait()
		origin.commit("k")
		after.fail("Unlink", errors.New("down"))
		srv.ResetCounts()
		before.must(before.Invalidate(t.Context(), "k"))
		time.Sleep(10 * time.Second)
		after.want("k", "k@1") // from the origin: it keeps away from its remote copy
		after.fail("Unlink", nil)
		time.Sleep(2 * time.Second)
		if n := after.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending", n)
		}
		if n := srv.Counts().Announce.Calls; n != 1 {
			t.Errorf("%d announcements", n)
		}
	})
}

func TestInvalidateAllThatCannotReachTheRemoteTierIsPendingAndRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		for i := range 10 {
			k := fmt.Sprint("k", i)
			a.get(k)
			a.wait()
			b.get(k)
			origin.commit(k)
		}
		a.chaos.Down(true)
		if err := a.InvalidateAll(t.Context()); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Error(err)
		}
		srv.ResetCounts()
		for i := range 10 {
			k := fmt.Sprint("k", i)
			a.want(k, k+"@1")
		}
		if n := srv.Counts(); n.Read.Calls > 0 {
			t.Errorf("%+v", n)
		}
		if n := a.Stats().PendingInvalidations; n != 1 {
			t.Errorf("%d pending", n)
		}
		time.Sleep(10 * time.Second)
		a.chaos.Down(false)
		time.Sleep(2 * time.Second)
		for i := range 10 {
			k := fmt.Sprint("k", i)
			b.want(k, k+"@1")
		}
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending", n)
		}
		a.wait()
		srv.ResetCounts()
		a.get("new")
		if n := srv.Counts(); n.Read.Calls != 1 { // it uses the remote tier again
			t.Errorf("%+v", n)
		}
	})
}

func TestInvalidateAllDetachesLoadsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		load := b.hold("load")
		reading := b.beginGet("k")
		load.await(t)
		origin.commit("k")
		a.must(a.InvalidateAll(t.Context()))
		synctest.Wait()
		load.open()
		<-reading
		b.wait()
		b.want("k", "k@1")
		a.want("k", "k@1")
		b.wait()
		wantRemote(t, srv, "k", "k@1")
	})
}

func TestAFullJournalMovesTheNameToItsNextEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newLedger()
		fleet, srv := startFleet(t, 2, origin)
		a, b := fleet[0], fleet[1]
		keys := make([]string, 100_001)
		for i := range keys {
			keys[i] = fmt.Sprint("k", i)
		}
		last := keys[len(keys)-1]
		b.want(last, last+"@0")
		b.wait()
		origin.commit(last)
		epoch := srv.Epoch(fleetName)
		a.chaos.Down(true)
		if err := a.Invalidate(t.Context(), keys...); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Errorf("%.200v", err)
		}
		time.Sleep(time.Minute)
		a.chaos.Down(false)
		time.Sleep(3 * time.Second)
		if srv.Epoch(fleetName) == epoch {
			t.Error("the epoch has not moved")
		}
		a.want(last, last+"@1")
		b.want(last, last+"@1")
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending", n)
		}
	})
}
