package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// What Wait and Close promise.

func TestWaitReturnsAfterTheWritesBegunBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		first := a.hold("Fill")
		a.get("first")
		first.await(t)
		waiting := beginWrite(func() error { return a.Wait(t.Context()) })
		synctest.Wait()
		second := a.hold("Fill") // of a write that begins after the Wait
		a.get("second")
		synctest.Wait()
		select {
		case <-waiting:
			t.Error("Wait returned before the write had ended")
		default:
		}
		first.open()
		second.await(t)
		synctest.Wait()
		select {
		case got := <-waiting:
			if got.err != nil {
				t.Error(got.err)
			}
		default:
			t.Error("Wait waits for a write that began after it")
		}
		wantRemoteNow(t, srv, "first", "first@0")
		second.open()
		a.wait()
		wantRemoteNow(t, srv, "second", "second@0")
	})
}

// Whoever has the answer of a load and then calls Wait waits for its write.
func TestWaitSeesTheWriteOfALoadThatWasAnswered(t *testing.T) {
	srv, origin := dewartest.NewRemote[string](), newLedger()
	a := startProcess(t, srv, origin)
	for i := range 500 {
		key := fmt.Sprint("key", i)
		a.get(key)
		a.wait()
		wantRemoteNow(t, srv, key, valueAt(key, 0))
	}
}

func TestWaitSaysHowManyWritesFailedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		broken := errors.New("the connection broke")
		a.fail("Fill", broken)
		for i := range 7 {
			a.get(fmt.Sprint("key", i))
		}
		err := a.Wait(t.Context())
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "7") {
			t.Errorf("Wait: %v, want it to tell of 7 writes and why", err)
		}
		a.wait()
		a.fail("Fill", nil)
		a.get("well")
		a.wait()
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		held := a.hold("Fill")
		a.get("k")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := a.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Wait took %v", took)
		}
		held.open()
		a.wait()
	})
}

func TestAFullBackfillQueueDropsAndCounts(t *testing.T) {
	const room, more = 16 * 1024, 500
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		var dropped atomic.Int64
		a := startProcess(t, srv, nil, func(cfg *fleetConfig) {
			cfg.Load = nil
			cfg.Batch.MaxSize = 1000
			cfg.LoadMany = func(_ context.Context, keys []string) (map[string]string, error) {
				m := make(map[string]string)
				for _, k := range keys {
					m[k] = k
				}
				return m, nil
			}
			cfg.Trace = &dewar.Trace{WriteFailed: func(error) { dropped.Add(1) }}
		})
		held := a.hold("Fill")
		a.get("held")
		held.await(t)
		keys := make([]string, room+more)
		for i := range keys {
			keys[i] = fmt.Sprint("key", i)
		}
		start := time.Now()
		for rest := keys; len(rest) > 0; {
			n := min(1000, len(rest))
			m, err := a.GetMany(t.Context(), rest[:n])
			if err != nil || len(m) != n {
				t.Fatalf("%d values, %v", len(m), err)
			}
			rest = rest[n:]
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("readers waited %v for the full queue", took)
		}
		s := a.Stats()
		if s.WritesDropped != more {
			t.Errorf("%d writes dropped, want %d", s.WritesDropped, more)
		}
		if dropped.Load() != more {
			t.Errorf("Trace.WriteFailed was called %d times", dropped.Load())
		}
		if s.BackfillQueue != room+1 {
			t.Errorf("%d writes in the queue", s.BackfillQueue)
		}
		held.open()
		if err := a.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(more)) {
			t.Errorf("Wait: %v", err)
		}
		if n := srv.Len(); n != room+1 {
			t.Errorf("%d entries in the remote tier", n)
		}
	})
}

// everyMethod calls each method that returns an error, on one key.
func everyMethod(ctx context.Context, c *dewar.Cache[string, string], key string) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = c.Get(ctx, key)
	for name, opt := range map[string]dewar.ReadOption{
		"CacheOnly": dewar.CacheOnly(), "Reload": dewar.Reload(), "MaxAge": dewar.MaxAge(0), "NoStale": dewar.NoStale(),
	} {
		_, errs["Get "+name] = c.Get(ctx, key, opt)
		_, errs["GetMany "+name] = c.GetMany(ctx, []string{key, key + "2"}, opt)
	}
	_, errs["GetResult"] = c.GetResult(ctx, key)
	_, errs["GetMany"] = c.GetMany(ctx, []string{key, key + "2"})
	_, errs["GetManyResults"] = c.GetManyResults(ctx, []string{key})
	errs["Set"] = c.Set(ctx, key, "v")
	errs["SetMany"] = c.SetMany(ctx, map[string]string{key: "v", key + "2": "v"})
	errs["Invalidate"] = c.Invalidate(ctx, key)
	errs["Invalidate two"] = c.Invalidate(ctx, key, key+"2")
	errs["Expire"] = c.Expire(ctx, key)
	errs["Refresh"] = c.Refresh(ctx, key)
	errs["Refresh two"] = c.Refresh(ctx, key, key+"2")
	errs["Preload"] = c.Preload(ctx, func(yield func(string) bool) { yield(key) })
	errs["Wait"] = c.Wait(ctx)
	return errs
}

func TestAfterCloseEveryMethodGivesErrClosed(t *testing.T) {
	for name, change := range map[string]func(*fleetConfig){
		"both tiers":  func(*fleetConfig) {},
		"local only":  func(cfg *fleetConfig) { cfg.Remote = nil },
		"with stale":  staleFor(time.Hour),
		"ristretto":   func(cfg *fleetConfig) { cfg.Local = ristrettoTier },
		"otter":       func(cfg *fleetConfig) { cfg.Local = smallLocal },
		"with linger": func(cfg *fleetConfig) { cfg.LoadMany, cfg.Batch.Linger = noneFound, time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := startProcess(t, dewartest.NewRemote[string](), newLedger(), change)
				a.Set(t.Context(), "cached", "v")
				a.KeepWarm("cached")
				a.must(a.Close())
				a.must(a.Close())
				for _, key := range []string{"cached", "not"} {
					for method, err := range everyMethod(t.Context(), a.Cache, key) {
						if !errors.Is(err, dewar.ErrClosed) {
							t.Errorf("%s of a key that was %s: %v", method, key, err)
						}
					}
				}
				a.KeepWarm("k")
				a.LetGo("k", "cached")
				if s := a.Stats(); s.Flights+s.Bucket+s.BackfillQueue+s.OverdueLoads != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func noneFound(context.Context, []string) (map[string]string, error) { return nil, nil }

func TestCloseCancelsLoadsAndAnswersWaitersWithErrClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		a := startProcess(t, dewartest.NewRemote[string](), newLedger(), staleFor(time.Hour), func(cfg *fleetConfig) {
			cfg.Load = func(ctx context.Context, k string) (string, error) {
				<-ctx.Done()
				if k == "k" {
					cause = context.Cause(ctx)
				}
				return "", ctx.Err()
			}
		})
		readers := map[string]<-chan answer{
			"Get":     a.beginGet("k"),
			"NoStale": a.beginGet("k", dewar.NoStale()),
			"GetMany": beginWrite(func() error { _, err := a.GetMany(t.Context(), []string{"k", "l"}); return err }),
			"Refresh": beginWrite(func() error { return a.Refresh(t.Context(), "k") }),
			"Preload": beginWrite(func() error { return a.Preload(t.Context(), func(yield func(string) bool) { yield("p") }) }),
		}
		synctest.Wait()
		start := time.Now()
		a.must(a.Close())
		if took := time.Since(start); took > 0 {
			t.Errorf("Close took %v", took)
		}
		for name, ch := range readers {
			if got := <-ch; !errors.Is(got.err, dewar.ErrClosed) {
				t.Errorf("%s: %v", name, got.err)
			}
		}
		if !errors.Is(cause, dewar.ErrClosed) {
			t.Errorf("the load was cancelled with %v", cause)
		}
	})
}

func TestReadersHeldInTheRemoteTierAreAnsweredByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startProcess(t, dewartest.NewRemote[string](), newLedger())
		a.chaos.Delay(time.Hour)
		got := a.beginGet("k")
		synctest.Wait()
		start := time.Now()
		a.Close()
		if got := <-got; !errors.Is(got.err, dewar.ErrClosed) {
			t.Error(got.err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestCloseReportsALoaderThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := dewar.New(fleetConfig{
			Name: fleetName, TTL: time.Minute, Local: smallLocal,
			Load: func(context.Context, string) (string, error) { time.Sleep(time.Hour); return "", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		got := begin(func() (string, error) { return c.Get(t.Context(), "k") })
		synctest.Wait()
		start := time.Now()
		err = c.Close()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("Close took %v, want 5s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "1") {
			t.Errorf("Close: %v", err)
		}
		if got := <-got; !errors.Is(got.err, dewar.ErrClosed) {
			t.Error(got.err)
		}
		if again := c.Close(); again == nil || again.Error() != err.Error() {
			t.Errorf("the second Close: %v, the first: %v", again, err)
		}
		time.Sleep(2 * time.Hour)
		if n := c.Stats().OverdueLoads; n != 0 {
			t.Errorf("%d loads overdue after all returned", n)
		}
	})
}

func TestCloseFlushesPendingBackfills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		held := a.hold("Fill")
		for i := range 1000 {
			a.get(fmt.Sprint("key", i))
		}
		held.await(t)
		time.AfterFunc(2*time.Second, held.open) // while the leases live
		a.must(a.Close())
		if n := srv.Len(); n != 1000 {
			t.Errorf("%d of 1000 entries were written", n)
		}
	})
}

func TestCloseReportsBackfillsThatItCouldNotWrite(t *testing.T) {
	for name, hinder := range map[string]func(*process){
		"failing": func(p *process) { p.fail("Fill", errors.New("refused")) },
		"stalled": func(p *process) { p.chaos.Delay(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachOpenCache(t, func(t *testing.T, p *process) {
				held := p.hold("load")
				got := p.beginGet("k")
				held.await(t)
				hinder(p)
				held.open()
				<-got
				if err := p.Close(); err == nil {
					t.Error("Close says nothing of the lost write")
				}
			})
		})
	}
}

func TestAWriteUnderWayIsFinishedByClose(t *testing.T) {
	for _, step := range []string{"Seize", "Seize answered", "Fill", "Fill answered"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				a := startProcess(t, srv, origin)
				held := a.hold(step)
				done := beginWrite(func() error { return a.Set(t.Context(), "k", "set") })
				held.await(t)
				time.AfterFunc(time.Second, held.open)
				a.must(a.Close())
				if got := <-done; got.err != nil {
					t.Error(got.err)
				}
				wantRemoteNow(t, srv, "k", "set")
			})
		})
	}
}

func TestConcurrentClosesAllWaitAndGetTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := dewar.New(fleetConfig{
			Name: fleetName, TTL: time.Minute, Local: smallLocal,
			Load: func(context.Context, string) (string, error) { time.Sleep(10 * time.Second); return "", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		go c.Get(t.Context(), "k") // ends with Close
		synctest.Wait()
		start := time.Now()
		var closes []<-chan answer
		for range 4 {
			closes = append(closes, beginWrite(c.Close))
		}
		for _, ch := range closes {
			if got := <-ch; got.err == nil || time.Since(start) != 5*time.Second {
				t.Errorf("after %v: %v", time.Since(start), got.err)
			}
		}
		time.Sleep(time.Minute) // the loader ends
	})
}

// goroutinesOf returns the stacks of the goroutines that run in a function of
// the package, that of this test apart.
func goroutinesOf(pkg string) (stacks []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, pkg) && !strings.Contains(g, "goroutinesOf") {
			stacks = append(stacks, g)
		}
	}
	return stacks
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	for name, hinder := range map[string]func(*process){
		"remote tier up":      func(*process) {},
		"remote tier down":    func(p *process) { p.chaos.Down(true) },
		"remote tier stalled": func(p *process) { p.chaos.Delay(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachOpenCache(t, func(t *testing.T, p *process) {
				p.KeepWarm("pinned")
				p.get("k")
				time.Sleep(time.Minute)
				held := p.hold("load")
				p.beginGet("loading")
				held.await(t)
				hinder(p)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				p.Set(ctx, "set", "v")
				p.Invalidate(ctx, "k")
				p.Expire(ctx, "l")
				time.Sleep(time.Second)
				held.open()
				p.Close()
				synctest.Wait()
				if left := goroutinesOf("dewar.(*"); len(left) > 0 {
					t.Errorf("%d goroutines are left, the first:\n%s", len(left), left[0])
				}
			})
		})
	}
}
