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
		a.wait() // extra keys are stored after the others are answered
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

// setSteps are the places at which a Set can be held.
var setSteps = []string{"Seize", "Seize answered", "Fill", "Fill answered"}

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
