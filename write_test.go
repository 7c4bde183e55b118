package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// What Set, Invalidate and Expire promise when the caller has gone or the
// remote tier does not answer.

// aWrite is one way to overwrite the key "k" with or for "k@1".
type aWrite struct {
	name string
	do   func(context.Context, *process) error
}

var writesOfK = []aWrite{
	{"Invalidate", func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") }},
	{"Expire", func(ctx context.Context, p *process) error { return p.Expire(ctx, "k") }},
	{"Set", func(ctx context.Context, p *process) error { return p.Set(ctx, "k", "k@1") }},
	{"SetMany", func(ctx context.Context, p *process) error { return p.SetMany(ctx, map[string]string{"k": "k@1"}) }},
}

// forEachWrite runs test in a bubble for each kind of write, with and without
// a stale window. In it the origin and both tiers of a have k@0, and k@1 was
// just committed.
func forEachWrite(t *testing.T, test func(t *testing.T, a *process, w aWrite)) {
	for _, w := range writesOfK {
		for _, stale := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprintf("%s, stale for %v", w.name, stale), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, origin := dewartest.NewRemote[string](), newLedger()
					a := startProcess(t, srv, origin, staleFor(stale))
					a.want("k", "k@0")
					a.wait()
					wantRemote(t, srv, "k", "k@0")
					origin.commit("k")
					test(t, a, w)
				})
			})
		}
	}
}

// wantWritten asserts that nothing old is served, by this process or a new one.
func wantWritten(t *testing.T, a *process) {
	t.Helper()
	a.want("k", "k@1", dewar.NoStale())
	a.want("k", "k@1")
	a.wait()
	if e, ok := a.srv.Entry(fleetName, "k"); ok && e.Value != "k@1" && dewar.Clock() < e.Fresh {
		t.Errorf("the remote tier has %q, fresh", e.Value)
	}
}

func TestAWriteWithADoneContextIsCarriedOut(t *testing.T) {
	contexts := map[string]func() (context.Context, context.CancelFunc){
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		},
		"past its deadline": func() (context.Context, context.CancelFunc) {
			return context.WithDeadline(context.Background(), time.Now())
		},
	}
	for name, done := range contexts {
		t.Run(name, func(t *testing.T) {
			forEachWrite(t, func(t *testing.T, a *process, w aWrite) {
				ctx, cancel := done()
				defer cancel()
				a.chaos.Delay(time.Second)
				err := w.do(ctx, a)
				if !errors.Is(err, dewar.ErrInvalidationPending) || !errors.Is(err, ctx.Err()) {
					t.Errorf("the write: %v", err)
				}
				// The local part is done.
				r, err := a.GetResult(t.Context(), "k", dewar.CacheOnly(), dewar.NoStale())
				if err == nil && r.Value != "k@1" {
					t.Errorf("%+v is served as fresh", r)
				}
				time.Sleep(5 * time.Second)
				a.chaos.Delay(0)
				if e, ok := a.srv.Entry(fleetName, "k"); ok && e.Value == "k@0" && dewar.Clock() < e.Fresh {
					t.Errorf("the remote part was not carried out; steps: %v", a.steps)
				}
				if strings.HasPrefix(w.name, "Set") {
					wantRemote(t, a.srv, "k", "k@1")
				}
				wantWritten(t, a)
			})
		})
	}
}

func TestACallerThatHangsUpDuringAWriteHindersNothing(t *testing.T) {
	forEachWrite(t, func(t *testing.T, a *process, w aWrite) {
		ctx, cancel := context.WithCancel(t.Context())
		held := a.hold("Unlink", "Expire", "Seize answered")
		done := beginWrite(func() error { return w.do(ctx, a) })
		held.await(t)
		cancel()
		if got := <-done; !errors.Is(got.err, context.Canceled) || !errors.Is(got.err, dewar.ErrInvalidationPending) {
			t.Error(got.err)
		}
		held.open()
		synctest.Wait()
		if strings.HasPrefix(w.name, "Set") {
			wantRemote(t, a.srv, "k", "k@1")
		}
		wantWritten(t, a)
	})
}

func TestAWriteThatTheRemoteTierDoesNotConfirmIsRepeatedUntilItIs(t *testing.T) {
	forEachWrite(t, func(t *testing.T, a *process, w aWrite) {
		a.chaos.Down(true)
		err := w.do(t.Context(), a)
		if !errors.Is(err, dewar.ErrInvalidationPending) || !errors.Is(err, dewartest.ErrDown) {
			t.Errorf("the write: %v", err)
		}
		if n := a.Stats().PendingInvalidations; n != 1 {
			t.Errorf("%d pending invalidations", n)
		}
		time.Sleep(20 * time.Second)
		wantRemote(t, a.srv, "k", "k@0") // it could not be reached

		// Meanwhile readers see the new value, by any way of reading.
		a.want("k", "k@1")
		a.want("k", "k@1", dewar.Reload())
		m, err := a.GetMany(t.Context(), []string{"k"}, dewar.MaxAge(0))
		if err != nil || m["k"] != "k@1" {
			t.Errorf("GetMany: %v, %v", m, err)
		}

		a.chaos.Down(false)
		time.Sleep(2 * time.Second)
		wantRemote(t, a.srv, "k", "")
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending invalidations after the remote tier is back", n)
		}
		time.Sleep(10 * time.Minute)
		n := a.count("Unlink")
		time.Sleep(10 * time.Minute)
		if a.count("Unlink") != n {
			t.Error("the deletion is repeated after it was confirmed")
		}
		a.forget()
		a.want("k", "k@1", dewar.NoStale())
		a.wait()
		if a.count("Read") != 1 || a.count("Fill") != 1 {
			t.Errorf("the remote tier does not take part again: %v", a.steps)
		}
		wantRemote(t, a.srv, "k", "k@1")
	})
}

// The remote tier comes back with the old value in it before the journal has
// repeated its deletion: the window in which a reader could be misled.
func TestReadersNeverSeeTheOldRemoteValueWhileItsDeletionIsPending(t *testing.T) {
	forEachWrite(t, func(t *testing.T, a *process, w aWrite) {
		a.fail("Unlink", errors.New("refused"))
		a.fail("Expire", errors.New("refused"))
		a.fail("Seize", errors.New("refused"))
		if err := w.do(t.Context(), a); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Errorf("the write: %v", err)
		}
		for range 100 {
			a.want("k", "k@1")
			a.want("k", "k@1", dewar.NoStale())
			if r, err := a.GetResult(t.Context(), "k", dewar.CacheOnly()); err == nil && r.Value != "k@1" {
				t.Errorf("CacheOnly: %+v", r)
			}
			time.Sleep(13 * time.Second)
		}
		if a.count("Read") > 1 { // the one of the start
			t.Errorf("the remote copy was read")
		}
		if a.count("Fill") > 1 {
			t.Errorf("the remote copy was written")
		}
		a.fail("Unlink", nil)
		time.Sleep(2 * time.Second)
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending invalidations", n)
		}
	})
}

func TestASetThatCannotReachTheRemoteTierKeepsItsValueLocally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin)
		a.chaos.Down(true)
		if err := a.Set(t.Context(), "k", "set"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Error(err)
		}
		a.want("k", "set", dewar.CacheOnly())
		a.chaos.Down(false)
		time.Sleep(2 * time.Second)
		a.want("k", "set", dewar.CacheOnly())
		wantRemote(t, srv, "k", "") // deleted, never filled late
		if n := a.count("Fill answered"); n != 0 {
			t.Errorf("filled late: %v", a.steps)
		}
	})
}

func TestAJournalledKeyThatIsWrittenAgainIsNotConfirmedByTheOlderDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin)
		a.chaos.Down(true)
		for range 5 {
			if err := a.Invalidate(t.Context(), "k"); !errors.Is(err, dewar.ErrInvalidationPending) {
				t.Error(err)
			}
		}
		if n := a.Stats().PendingInvalidations; n != 1 {
			t.Errorf("one key is pending %d times", n)
		}
		a.chaos.Down(false)
		// The repetition is carried out but its answer held, while the key is
		// invalidated once more, in vain.
		held := a.hold("Unlink answered")
		time.Sleep(3 * time.Second)
		held.await(t)
		a.chaos.Down(true)
		if err := a.Invalidate(t.Context(), "k"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Error(err)
		}
		held.open()
		synctest.Wait()
		if n := a.Stats().PendingInvalidations; n != 1 {
			t.Errorf("%d pending: the older deletion confirmed the newer one", n)
		}
		a.chaos.Down(false)
		time.Sleep(3 * time.Second)
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending", n)
		}
		a.forget()
		a.want("k", "k@0")
		if a.count("Read") != 1 {
			t.Errorf("a mark is left: %v", a.steps)
		}
	})
}

func TestCloseDrainsTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		keys := make([]string, 500)
		for i := range keys {
			keys[i] = fmt.Sprint("key", i)
		}
		_, err := a.GetMany(t.Context(), keys)
		a.must(err)
		a.wait()
		a.chaos.Down(true)
		a.Invalidate(t.Context(), keys...)
		time.Sleep(time.Minute) // the journal has slowed down by now
		time.AfterFunc(3*time.Second, func() { a.chaos.Down(false) })
		start := time.Now()
		a.must(a.Close())
		if took := time.Since(start); took > 3*time.Second+200*time.Millisecond {
			t.Errorf("Close took %v", took)
		}
		if n := srv.Len(); n != 0 {
			t.Errorf("%d old values are left", n)
		}
	})
}

func TestCloseReportsInvalidationsThatItCouldNotConfirm(t *testing.T) {
	for name, hinder := range map[string]func(*process){
		"down":    func(p *process) { p.chaos.Down(true) },
		"stalled": func(p *process) { p.chaos.Delay(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachOpenCache(t, func(t *testing.T, p *process) {
				hinder(p)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := p.Invalidate(ctx, "a", "b", "c")
				if !errors.Is(err, dewar.ErrInvalidationPending) {
					t.Error(err)
				}
				start := time.Now()
				err = p.Close()
				if took := time.Since(start); took < 5*time.Second || took > 5*time.Second+100*time.Millisecond {
					t.Errorf("Close took %v, want its 5s", took)
				}
				if !errors.Is(err, dewar.ErrInvalidationPending) || !strings.Contains(err.Error(), "3") {
					t.Errorf("Close: %v", err)
				}
			})
		})
	}
}

// forEachOpenCache gives test, in a bubble, a process that is not closed for
// it, as Close may report.
func forEachOpenCache(t *testing.T, test func(t *testing.T, p *process)) {
	synctest.Test(t, func(t *testing.T) {
		p := &process{steps: &steps{}, t: t, srv: dewartest.NewRemote[string]()}
		p.chaos = &dewartest.Chaos[string]{
			Remote:    p.srv,
			Intercept: func(op string, keys []string) error { return p.atKeys(op, keys) },
			Answer:    func(op string, keys []string) error { return p.atKeys(op+" answered", keys) },
		}
		var err error
		p.Cache, err = dewar.New(fleetConfig{
			Name: fleetName, TTL: time.Minute, Remote: p.chaos,
			Local: smallLocal,
			Load:  func(_ context.Context, k string) (string, error) { return valueAt(k, 0), p.at("load") },
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, p)
		p.Close()
		// Let end what may outlive a Close that reports: otherwise the bubble
		// takes the whole test binary down.
		p.chaos.Delay(0)
		time.Sleep(time.Minute)
	})
}

func TestAValueThatCannotBeEncodedIsKeptLocallyAndTheRemoteCopyRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin)
		a.fail("Fill", fmt.Errorf("too large: %w", dewar.ErrUnencodable))
		if err := a.Set(t.Context(), "k", "huge"); !errors.Is(err, dewar.ErrUnencodable) || errors.Is(err, dewar.ErrInvalidationPending) {
			t.Error(err)
		}
		a.want("k", "huge", dewar.CacheOnly())
		wantRemote(t, srv, "k", "")
		if srv.Leased(fleetName, "k") {
			t.Error("a lease is left behind")
		}
		if s := a.Stats(); s.WritesFailed != 1 || s.PendingInvalidations != 0 {
			t.Errorf("%d writes failed, %d pending", s.WritesFailed, s.PendingInvalidations)
		}
	})
}

func TestAnUnencodableBackfillReleasesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		a.fail("Fill", fmt.Errorf("too large: %w", dewar.ErrUnencodable))
		a.want("k", "k@0")
		if err := a.Wait(t.Context()); !errors.Is(err, dewar.ErrUnencodable) {
			t.Errorf("Wait: %v", err)
		}
		if srv.Leased(fleetName, "k") {
			t.Error("a lease that will not be filled is left behind: with it the fleet waits for a dead holder")
		}
	})
}

func TestASetWithoutTTLRemovesWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin, staleFor(time.Hour), func(cfg *fleetConfig) {
			cfg.TTLOf = func(_, v string) time.Duration {
				if v == "volatile" {
					return -1
				}
				return time.Minute
			}
		})
		a.want("k", "k@0")
		a.wait()
		a.must(a.SetMany(t.Context(), map[string]string{"k": "volatile", "other": "kept"}))
		a.wantNotCached("k")
		wantRemote(t, srv, "k", "")
		wantRemote(t, srv, "other", "kept")
	})
}

func TestASetWinsOverARefreshUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		seed(t, srv, origin, "k")
		a := startProcess(t, srv, origin)
		a.want("k", "k@0")
		held := a.hold("load")
		done := beginWrite(func() error { return a.Refresh(t.Context(), "k") })
		held.await(t)
		a.must(a.Set(t.Context(), "k", "set"))
		held.open()
		if got := <-done; got.err != nil {
			t.Error(got.err)
		}
		a.wait()
		a.want("k", "set", dewar.CacheOnly())
		wantRemote(t, srv, "k", "set")
	})
}
