package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// The order of steps between readers, fillers, refreshers and writers of one
// key, in one process and in several.

// loadSteps are the places at which a Get of a cold key can be held, in order.
var loadSteps = []string{
	"Read", "Read answered", "Lease", "Lease answered", "load", "Fill", "Fill answered",
}

func TestALoadBegunBeforeAnInvalidateStoresNothing(t *testing.T) {
	for _, step := range loadSteps {
		for _, write := range []string{"Invalidate", "Expire", "Expire with a fallback", "Set", "Set without TTL"} {
			t.Run(fmt.Sprintf("%s while held at %s", write, step), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, origin := dewartest.NewRemote[string](), newLedger()
					change := func(cfg *fleetConfig) {
						cfg.TTLOf = func(_ string, v string) time.Duration {
							if v == "" {
								return 0
							}
							return time.Minute
						}
					}
					if write == "Expire with a fallback" {
						change = staleFor(time.Hour)
					}
					a := startProcess(t, srv, origin, change)
					held := a.hold(step)
					old := a.beginGet("k")
					held.await(t)

					origin.commit("k")
					switch write {
					case "Invalidate":
						a.must(a.Invalidate(t.Context(), "k"))
					case "Expire", "Expire with a fallback":
						a.must(a.Expire(t.Context(), "k"))
					case "Set":
						a.must(a.Set(t.Context(), "k", "k@1"))
					case "Set without TTL":
						a.must(a.Set(t.Context(), "k", ""))
					}
					held.open()
					// The waiter overlaps the write: either value will do.
					if got := <-old; got.err != nil {
						t.Errorf("the waiting reader got %v", got.err)
					}
					a.wait()

					if write == "Set" {
						a.want("k", "k@1", dewar.CacheOnly())
					} else if r, err := a.GetResult(t.Context(), "k", dewar.CacheOnly()); err == nil && (write != "Expire with a fallback" || r.Status != dewar.StatusStale) {
						t.Errorf("%s is served as %v from %s; steps: %v", r.Value, r.Status, r.Tier, a.steps)
					}
					if e, ok := srv.Entry(fleetName, "k"); ok && e.Value != "k@1" && dewar.Clock() < e.Fresh {
						t.Errorf("the remote tier has %s as fresh; steps: %v", e.Value, a.steps)
					}
					a.want("k", "k@1")
					a.wait() // else another process may serve its stale copy meanwhile
					startProcess(t, srv, origin, change).want("k", "k@1")
				})
			})
		}
	}
}

func TestALoadBegunBeforeAnotherProcessInvalidatesIsNotFilled(t *testing.T) {
	for _, step := range loadSteps[4:] { // it has its lease by then
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a, b := startProcess(t, srv, origin), startProcess(t, srv, origin)
				held := a.hold(step)
				old := a.beginGet("k")
				held.await(t)
				origin.commit("k")
				b.must(b.Invalidate(t.Context(), "k"))
				held.open()
				<-old
				a.wait()
				wantRemote(t, srv, "k", "")
				b.want("k", "k@1")
				startProcess(t, srv, origin).want("k", "k@1")
			})
		})
	}
}

func TestABatchBegunBeforeAnInvalidateStoresNothing(t *testing.T) {
	for _, step := range loadSteps {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a := startProcess(t, srv, origin)
				held := a.hold(step)
				done := beginWrite(func() error {
					_, err := a.GetMany(t.Context(), []string{"j", "k", "l"})
					return err
				})
				held.await(t)
				origin.commit("k")
				a.must(a.Invalidate(t.Context(), "k"))
				held.open()
				if got := <-done; got.err != nil {
					t.Error(got.err)
				}
				a.wait()
				a.wantNotCached("k")
				wantRemote(t, srv, "k", "")
				a.want("j", "j@0", dewar.CacheOnly())
				a.want("k", "k@1")
			})
		})
	}
}

func TestExtraKeysOfALoadManyBegunBeforeAnInvalidateAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		var a *process
		a = startProcess(t, srv, origin, func(cfg *fleetConfig) {
			cfg.Load = nil
			cfg.LoadMany = func(_ context.Context, keys []string) (map[string]string, error) {
				m := make(map[string]string)
				for _, k := range append(keys, "extra", "other") {
					m[k], _ = origin.load(k)
				}
				return m, a.at("load")
			}
		})
		held := a.hold("load")
		got := a.beginGet("k")
		held.await(t)
		origin.commit("extra")
		a.must(a.Invalidate(t.Context(), "extra"))
		held.open()
		<-got
		a.wantNotCached("extra")
		a.want("other", "other@0", dewar.CacheOnly())
	})
}

// seed puts what the origin has for key into the remote tier by another
// process.
func seed(t *testing.T, srv *dewartest.Remote[string], origin *ledger, key string, change ...func(*fleetConfig)) {
	t.Helper()
	p := startProcess(t, srv, origin, change...)
	p.get(key)
	p.wait()
	if !srv.Has(fleetName, key) {
		t.Fatalf("%q was not stored", key)
	}
}

func TestAReadOfTheRemoteTierBegunBeforeAWriteIsNotPromoted(t *testing.T) {
	reads := map[string]func(context.Context, *process) error{
		"Get":       func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k"); return err },
		"CacheOnly": func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.CacheOnly()); return err },
		"GetMany":   func(ctx context.Context, p *process) error { _, err := p.GetMany(ctx, []string{"k", "j"}); return err },
		"GetMany of cached": func(ctx context.Context, p *process) error {
			_, err := p.GetMany(ctx, []string{"k"}, dewar.CacheOnly())
			return err
		},
		"Preload": func(ctx context.Context, p *process) error {
			return p.Preload(ctx, func(yield func(string) bool) { yield("k") })
		},
	}
	writes := map[string]func(context.Context, *process) error{
		"Invalidate": func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") },
		"Expire":     func(ctx context.Context, p *process) error { return p.Expire(ctx, "k") },
		"Set":        func(ctx context.Context, p *process) error { return p.Set(ctx, "k", "k@1") },
	}
	for readName, read := range reads {
		for writeName, write := range writes {
			for _, stale := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprintf("%s, %s, stale for %v", readName, writeName, stale), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						srv, origin := dewartest.NewRemote[string](), newLedger()
						seed(t, srv, origin, "k", staleFor(stale))
						a := startProcess(t, srv, origin, staleFor(stale))
						held := a.hold("Read answered")
						done := beginWrite(func() error { return read(t.Context(), a) })
						held.await(t)
						origin.commit("k")
						a.must(write(t.Context(), a))
						held.open()
						if got := <-done; got.err != nil {
							t.Errorf("the overlapping read: %v", got.err)
						}
						a.want("k", "k@1", dewar.NoStale())
						a.want("k", "k@1")
						a.wait()
						startProcess(t, srv, origin).want("k", "k@1")
					})
				})
			}
		}
	}
}

// A stale copy that only the remote tier had is kept locally for the time
// after a failed load, unless it was invalidated meanwhile.
func TestAStaleCopyReadBeforeAnInvalidateIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k", staleFor(time.Hour))
		time.Sleep(2 * time.Minute)
		a := startProcess(t, srv, origin, staleFor(time.Hour))
		held := a.hold("load")
		a.fail("load", errors.New("origin down"))
		got := a.beginGet("k")
		held.await(t)
		a.must(a.Invalidate(t.Context(), "k"))
		held.open()
		<-got
		if r, err := a.GetResult(t.Context(), "k"); err == nil {
			t.Errorf("%s is served as %v from %s after Invalidate", r.Value, r.Status, r.Tier)
		}
	})
}

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

// setSteps are the places at which a Set can be held.
var setSteps = []string{"Seize", "Seize answered", "Fill", "Fill answered"}

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

// From the local part of a write until the remote tier has confirmed it, the
// process neither reads nor writes the remote copy.
func TestMarkedKeysKeepAwayFromTheRemoteTier(t *testing.T) {
	writes := map[string]struct {
		step string
		do   func(context.Context, *process) error
	}{
		"Invalidate": {"Unlink", func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") }},
		"Expire":     {"Expire", func(ctx context.Context, p *process) error { return p.Expire(ctx, "k") }},
		"answered":   {"Unlink answered", func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") }},
	}
	reads := map[string]func(context.Context, *process) error{
		"Get":     func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k"); return err },
		"Reload":  func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.Reload()); return err },
		"NoStale": func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.NoStale()); return err },
		"MaxAge":  func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.MaxAge(0)); return err },
		"GetMany": func(ctx context.Context, p *process) error { _, err := p.GetMany(ctx, []string{"k"}); return err },
		"Refresh": func(ctx context.Context, p *process) error { return p.Refresh(ctx, "k") },
		"KeepWarm": func(ctx context.Context, p *process) error {
			p.KeepWarm("k")
			time.Sleep(time.Second)
			p.LetGo("k")
			return nil
		},
		"CacheOnly": func(ctx context.Context, p *process) error { p.Get(ctx, "k", dewar.CacheOnly()); return nil },
		"Preload": func(ctx context.Context, p *process) error {
			return p.Preload(ctx, func(yield func(string) bool) { yield("k") })
		},
	}
	for writeName, write := range writes {
		for readName, read := range reads {
			t.Run(writeName+", "+readName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, origin := dewartest.NewRemote[string](), newLedger()
					seed(t, srv, origin, "k", staleFor(time.Hour))
					a := startProcess(t, srv, origin, staleFor(time.Hour))
					origin.commit("k")
					held := a.hold(write.step)
					done := beginWrite(func() error { return write.do(t.Context(), a) })
					held.await(t)
					a.forget()
					if err := read(t.Context(), a); err != nil {
						t.Error(err)
					}
					synctest.Wait()
					for _, step := range []string{"Read", "Lease", "Seize", "Fill", "Release"} {
						if a.count(step) > 0 {
							t.Errorf("a %s while the write was under way: %v", step, a.steps)
						}
					}
					if readName != "CacheOnly" {
						a.want("k", "k@1", dewar.CacheOnly())
					}
					held.open()
					if got := <-done; got.err != nil {
						t.Error(got.err)
					}
					a.want("k", "k@1")

					// Confirmed: the remote tier takes part again.
					a.wait()
					a.must(a.Invalidate(t.Context(), "k"))
					a.forget()
					a.want("k", "k@1")
					a.wait()
					if a.count("Read") != 1 || a.count("Fill") != 1 {
						t.Errorf("after the confirmation: %v", a.steps)
					}
				})
			})
		}
	}
}

func TestTheMarkIsACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		gates := []*gate{a.hold("Unlink"), a.hold("Unlink")}
		invalidate := func() error { return a.Invalidate(t.Context(), "k") }
		first, second := beginWrite(invalidate), beginWrite(invalidate)
		synctest.Wait()
		gates[0].open()
		synctest.Wait()
		a.forget()
		a.want("k", "k@0")
		if a.count("Read") > 0 {
			t.Errorf("the first of two writes that ended took the mark of both: %v", a.steps)
		}
		gates[1].open()
		<-first
		<-second
		a.must(a.Invalidate(t.Context(), "k"))
		a.want("k", "k@0")
		if a.count("Read") != 1 {
			t.Errorf("a mark is left: %v", a.steps)
		}
	})
}

// A load that began while the key was marked ends after the mark is gone: it
// has no fence, and must not write.
func TestALoadBegunUnderAMarkIsNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		unlink := a.hold("Unlink")
		done := beginWrite(func() error { return a.Invalidate(t.Context(), "k") })
		unlink.await(t)
		load := a.hold("load")
		got := a.beginGet("k")
		load.await(t)
		unlink.open()
		<-done
		load.open()
		if got := <-got; got.value != "k@0" {
			t.Error(got)
		}
		a.wait()
		if a.count("Fill")+a.count("Lease") > 0 {
			t.Errorf("written: %v", a.steps)
		}
		a.want("k", "k@0", dewar.CacheOnly())
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

// Detaching is by key: an invalidation refuses no load of another key.
func TestAnInvalidateDetachesNoOtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		held := a.hold("load")
		got := a.beginGet("k")
		held.await(t)
		for i := range 20_000 { // hits every stripe
			a.must(a.Invalidate(t.Context(), fmt.Sprint("other", i)))
		}
		held.open()
		<-got
		a.wait()
		a.want("k", "k@0", dewar.CacheOnly())
		wantRemote(t, srv, "k", "k@0")
	})
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
