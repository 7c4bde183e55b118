package dewartest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// unlink is an Unlink of one key.
func unlink(ctx context.Context, tier dewar.RemoteTier[string], key string) error {
	errs := make([]error, 1)
	tier.Unlink(ctx, []string{key}, errs)
	return errs[0]
}

// faulty returns a process whose operations and hearing meet f, and an
// undisturbed one, which has stored k. Both are closed by the test's end.
func faulty(t *testing.T, f dewartest.Faults) (srv *dewartest.Remote[string], bad, good *listener) {
	t.Helper()
	srv = dewartest.NewRemote[string]()
	bad, good = listen(t, srv), listen(t, srv)
	if err := store(t, good, "k", lease(t, good, "k"), 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	bad.chaos.Seed(1, f)
	return srv, bad, good
}

func TestFaultsThatFailAnOperation(t *testing.T) {
	for name, c := range map[string]struct {
		faults          dewartest.Faults
		done, doneLater bool
	}{
		"Refuse": {dewartest.Faults{Refuse: 1}, false, false},
		"Lose":   {dewartest.Faults{Lose: 1}, true, true},
		"Late":   {dewartest.Faults{Late: 1, Spread: time.Second}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, bad, _ := faulty(t, c.faults)
				if err := unlink(t.Context(), bad, "k"); !errors.Is(err, dewartest.ErrFault) {
					t.Errorf("error %v", err)
				}
				if done := !srv.Has("videos", "k"); done != c.done {
					t.Errorf("carried out: %v, want %v", done, c.done)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if done := !srv.Has("videos", "k"); done != c.doneLater {
					t.Errorf("carried out later: %v, want %v", done, c.doneLater)
				}
			})
		})
	}
}

func TestCloseCarriesOutWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, _ := faulty(t, dewartest.Faults{Late: 1, Spread: 1000 * time.Hour})
		unlink(t.Context(), bad, "k")
		bad.Close()
		if srv.Has("videos", "k") {
			t.Error("Close did not wait for it")
		}
	})
}

func TestLateOperationsOfEveryKindLeaveTheCallersSlicesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, _ := faulty(t, dewartest.Faults{Late: 1})
		ctx, keys := t.Context(), []string{"l"}
		found, errs, places := make([]dewar.Found[string], 1), make([]error, 1), make([]dewar.Place, 1)
		fills := []dewar.Fill[string]{{Key: "l"}}
		do := map[string]func(){
			"Read":         func() { bad.Read(ctx, keys, found) },
			"Lease":        func() { bad.Lease(ctx, keys, found) },
			"LeaseRefresh": func() { bad.LeaseRefresh(ctx, keys, found) },
			"Seize":        func() { bad.Seize(ctx, keys, found) },
			"Fill":         func() { bad.Fill(ctx, fills) },
			"Renew":        func() { bad.Renew(ctx, fills) },
			"Release":      func() { bad.Release(ctx, fills) },
			"Unlink":       func() { bad.Unlink(ctx, keys, errs) },
			"Expire":       func() { bad.Expire(ctx, keys, time.Hour, errs) },
			"Announce":     func() { bad.Announce(ctx, dewar.AnnounceSet, keys, places, errs) },
			"NextEpoch":    func() { errs[0] = bad.NextEpoch(ctx) },
		}
		for op, do := range do {
			srv.ResetCounts()
			found[0].Err, fills[0].Err, errs[0] = nil, nil, nil
			do()
			if err := cmpErr(found[0].Err, fills[0].Err, errs[0]); !errors.Is(err, dewartest.ErrFault) {
				t.Errorf("%s: error %v", op, err)
			}
			if srv.Counts() != (dewartest.RemoteCounts{}) {
				t.Errorf("%s was carried out at once", op)
			}
			before := fmt.Sprint(found, fills, errs, places)
			keys[0], fills[0].Key = "other", "other"
			time.Sleep(time.Second)
			keys[0], fills[0].Key = "l", "l"
			if srv.Counts() == (dewartest.RemoteCounts{}) {
				t.Errorf("%s was not carried out later", op)
			}
			if after := fmt.Sprint(found, fills, errs, places); after != before {
				t.Errorf("%s wrote to what its caller has: %s, was %s", op, after, before)
			}
		}
		if srv.Leased("videos", "other") || srv.Refreshing("videos", "other") {
			t.Error("what the caller has changed since was carried out")
		}
	})
}

// cmpErr returns the first error there is.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestSlowOperationsTakeTheirTimeAndOutliveTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, _ := faulty(t, dewartest.Faults{Slow: 1, Spread: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := unlink(ctx, bad, "k"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		if !srv.Has("videos", "k") {
			t.Fatal("carried out within a second, with this seed: take another")
		}
		time.Sleep(time.Hour)
		if srv.Has("videos", "k") {
			t.Error("not carried out in the end")
		}
		began = time.Now()
		if err := unlink(t.Context(), bad, "k"); err != nil || time.Since(began) < time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

func TestUnlinkAndAnnounceAloneHappenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, good := faulty(t, dewartest.Faults{Twice: 1})
		srv.ResetCounts()
		if err := unlink(t.Context(), bad, "k"); err != nil {
			t.Fatal(err)
		}
		bad.announce("k")
		bad.nextEpoch()
		state(t, bad, "k")
		time.Sleep(time.Second)
		c := srv.Counts()
		if c.Unlink.Calls != 2 || c.Announce.Calls != 2 || c.NextEpoch.Calls != 1 || c.Read.Calls != 1 {
			t.Errorf("counts %+v", c)
		}
		synctest.Wait()
		if got := good.take(); len(got) != 3 {
			t.Errorf("told %q, want the announcement twice and the epoch", got)
		}
	})
}

func TestAPauseStallsOperationsAndHearing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, good := faulty(t, dewartest.Faults{Pause: 1, PauseFor: 10 * time.Second})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan error)
		go func() { done <- unlink(ctx, bad, "k") }()
		synctest.Wait()
		good.announce("k")
		time.Sleep(10*time.Second - 1)
		bad.want(t)
		if !srv.Has("videos", "k") {
			t.Error("carried out in the pause")
		}
		if err := <-done; time.Since(began) > 16*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		time.Sleep(time.Second)
		bad.want(t, `other 1 ["k"] at 1`)
		if srv.Has("videos", "k") {
			t.Error("not carried out after it")
		}

		bad.chaos.Seed(0, dewartest.Faults{})
		bad.chaos.Pause(time.Hour)
		began = time.Now()
		if state(t, bad, "k"); time.Since(began) != time.Hour {
			t.Errorf("a pause of %v, want 1h", time.Since(began))
		}
	})
}

func TestAnnouncementsAreHeardLateOrMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, bad, good := faulty(t, dewartest.Faults{Lag: 1, Spread: time.Hour})
		good.announce("k")
		time.Sleep(time.Second)
		bad.want(t)
		time.Sleep(time.Hour)
		bad.want(t, `other 1 ["k"] at 1`)

		bad.chaos.Seed(1, dewartest.Faults{Miss: 1})
		good.announce("k")
		time.Sleep(time.Second - 1)
		bad.want(t)
		time.Sleep(time.Millisecond)
		bad.want(t, "missed")
		good.announce("k")
		bad.chaos.Seed(0, dewartest.Faults{})
		good.announce("l")
		time.Sleep(time.Millisecond)
		bad.want(t, "missed", `other 1 ["l"] at 4`)
	})
}

// faultyRun lets three processes use a server at all the fault rates there are,
// and returns what happened, in order.
func faultyRun(t *testing.T, seed uint64) (log []string) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards log
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprint(dewar.Clock(), " ")+fmt.Sprintf(format, args...))
		}
		srv := dewartest.NewRemote[string]()
		began := dewar.Clock()
		var wg sync.WaitGroup
		for p := range uint64(3) {
			l := listen(t, srv)
			l.each = func(line string) { note("process %d is told %s", p, line) }
			l.chaos.Seed(seed+p, dewartest.Faults{
				Refuse: .1, Lose: .1, Late: .1, Slow: .2, Twice: .2, Pause: .01, Lag: .1, Miss: .1,
			})
			for g := range uint64(4) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, p*100+g))
					for range 30 {
						time.Sleep(1 + time.Duration(r.Int64N(int64(20*time.Millisecond))))
						key := fmt.Sprint("k", r.IntN(3))
						ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
						switch r.IntN(4) {
						case 0:
							note("%d.%d unlink %s: %v", p, g, key, unlink(ctx, l, key))
						case 1:
							errs := make([]error, 1)
							l.Announce(ctx, dewar.AnnounceSet, []string{key}, make([]dewar.Place, 1), errs)
							note("%d.%d announce %s: %v", p, g, key, errs[0])
						default:
							found := make([]dewar.Found[string], 1)
							l.Lease(ctx, []string{key}, found)
							note("%d.%d lease %s: %d %v", p, g, key, found[0].State, found[0].Err)
						}
						cancel()
					}
				})
			}
		}
		wg.Wait()
		time.Sleep(time.Minute)
		for i, line := range log {
			var at int64
			var rest string
			fmt.Sscan(line, &at)
			rest = line[len(fmt.Sprint(at)):]
			log[i] = fmt.Sprint(time.Duration(at-began), rest)
		}
	})
	return log
}

func TestASeedReplaysAndAnotherOneDiffers(t *testing.T) {
	first := faultyRun(t, 1)
	for range 20 {
		if again := faultyRun(t, 1); !slices.Equal(again, first) {
			for i := range again {
				if i >= len(first) || again[i] != first[i] {
					t.Fatalf("line %d is %s, was %s", i, again[i], first[min(i, len(first)-1)])
				}
			}
			t.Fatalf("%d lines, were %d", len(again), len(first))
		}
	}
	if slices.Equal(first, faultyRun(t, 100)) {
		t.Error("two seeds do the same")
	}
}

func TestFaultRatesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, bad, _ := faulty(t, dewartest.Faults{Refuse: .1, Lose: .2, Late: .3})
		srv.ResetCounts()
		const n = 5000
		failed, lost := 0, 0
		for i := range n {
			before := srv.Counts().Unlink.Calls
			err := unlink(t.Context(), bad, fmt.Sprint("k", i%100))
			done := srv.Counts().Unlink.Calls > before
			if err != nil {
				failed++
			}
			if err != nil && done {
				lost++
			}
			time.Sleep(time.Second) // until what is late is done
		}
		for _, c := range []struct {
			what      string
			got, want int
		}{
			{"refused", n - srv.Counts().Unlink.Calls, n / 10},
			{"lost", lost, n * 2 / 10},
			{"late", failed - lost - (n - srv.Counts().Unlink.Calls), n * 3 / 10},
		} {
			if c.got < c.want*8/10 || c.got > c.want*12/10 {
				t.Errorf("%d %s of %d, want about %d", c.got, c.what, n, c.want)
			}
		}
	})
}

func TestSeededOperationsAreNeverAtTheSameInstant(t *testing.T) {
	for name, pause := range map[string]time.Duration{"begun": 0, "resumed": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := dewartest.NewRemote[string]()
				var mu sync.Mutex // guards done
				done := make(map[time.Time]bool)
				var wg sync.WaitGroup
				for p := range uint64(4) {
					l := listen(t, srv)
					l.chaos.Seed(p, dewartest.Faults{Lag: 1e-9})
					l.chaos.Pause(pause)
					for i := range 5 {
						wg.Go(func() {
							unlink(t.Context(), l, fmt.Sprint("k", i))
							mu.Lock()
							defer mu.Unlock()
							done[time.Now()] = true
						})
					}
				}
				wg.Wait()
				if len(done) != 20 {
					t.Errorf("20 operations were answered at %d instants", len(done))
				}
			})
		})
	}
}
