package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// User code that panics half-way through a batch leaves no key stuck, no write
// half done and no Close hanging.

func TestACloneThatPanicsInABatchLeavesNoKeyStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed atomic.Bool
		c := dewartest.New(t, dewar.Config[string, string]{
			Load: func(_ context.Context, k string) (string, error) { return k, nil },
			Clone: func(v string) string {
				if v == "hot" && armed.Load() {
					panic("clone")
				}
				return v
			},
		})
		if _, err := c.Get(t.Context(), "hot"); err != nil {
			t.Fatal(err)
		}
		armed.Store(true)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not reach the caller")
				}
			}()
			_, _ = c.GetManyResults(t.Context(), []string{"cold", "hot"})
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if v, err := c.Get(ctx, "cold"); v != "cold" || err != nil {
			t.Errorf("Get of the key claimed before the panic: %q, %v", v, err)
		}
	})
}

func TestAKeyFuncThatPanicsLeavesNoWriteHalfDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		c := dewartest.New(t, dewar.Config[string, string]{
			Name: "keys", Remote: srv,
			Load: func(_ context.Context, k string) (string, error) { return k, nil },
			Key: func(k string) string {
				if k == "bad" {
					panic("key")
				}
				return k
			},
		})
		if _, err := c.Get(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = c.Invalidate(t.Context(), "good", "bad")
		}()
		if r, err := c.GetResult(t.Context(), "good"); err != nil || r.Status != dewar.StatusHit {
			t.Errorf("what was not invalidated: %+v, %v", r, err)
		}
		if err := c.Invalidate(t.Context(), "good"); err != nil || srv.Has("keys", "good") {
			t.Errorf("Invalidate: %v; in the remote tier: %v", err, srv.Has("keys", "good"))
		}
	})
}

// The time of a flight is over while it waits for a slot.
func TestALoaderIsNotCalledForAFlightThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var called atomic.Bool
		release := make(chan struct{})
		c, err := dewar.New(dewar.Config[string, string]{
			Name: "ended", TTL: time.Minute, Local: memory.Config[string]{MaxEntries: 10},
			Flight: dewar.Flight{Timeout: time.Second},
			Guard:  dewar.Guard{MaxConcurrent: 1, QueueTimeout: time.Hour},
			Load: func(_ context.Context, k string) (string, error) {
				if k == "slow" {
					<-release
				} else {
					called.Store(true)
				}
				return k, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = c.Get(t.Context(), "slow") }()
		time.Sleep(time.Millisecond)
		if _, err := c.Get(t.Context(), "late"); !errors.Is(err, dewar.ErrTimeout) {
			t.Error(err)
		}
		close(release)
		synctest.Wait()
		if called.Load() {
			t.Error("the loader was called for nobody")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The origin takes a value back: nobody finds it in the remote tier while its
// removal there is on its way, nor after a removal that failed.
func TestAValueThatTheOriginTookBackDoesNotReturnFromTheRemoteTier(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for how, change := range map[string]func(*dewar.Config[string, string], *atomic.Bool){
			"not found": func(cfg *dewar.Config[string, string], gone *atomic.Bool) {
				cfg.NegativeTTL = -1
				cfg.Load = func(context.Context, string) (string, error) {
					if gone.Load() {
						return "", dewar.ErrNotFound
					}
					return "old", nil
				}
			},
			"not to be stored": func(cfg *dewar.Config[string, string], gone *atomic.Bool) {
				cfg.TTLOf = func(_, v string) time.Duration {
					if v == "new" {
						return 0
					}
					return time.Hour
				}
				cfg.Load = func(context.Context, string) (string, error) {
					if gone.Load() {
						return "new", nil
					}
					return "old", nil
				}
			},
		} {
			t.Run(fmt.Sprintf("%s, fails %v", how, fails), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var gone, failing atomic.Bool
					srv := dewartest.NewRemote[string]()
					chaos := &dewartest.Chaos[string]{Remote: srv}
					chaos.Intercept = func(op string, _ []string) error {
						if op == "Release" {
							time.Sleep(10 * time.Millisecond)
							if failing.Load() {
								return errors.New("refused")
							}
						}
						return nil
					}
					cfg := dewar.Config[string, string]{Name: "taken", Remote: chaos}
					change(&cfg, &gone)
					c := dewartest.New(t, cfg)
					read := func(opts ...dewar.ReadOption) string { v, _ := c.Get(t.Context(), "k", opts...); return v }
					if v := read(); v != "old" {
						t.Fatal(v)
					}
					if err := c.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					gone.Store(true)
					failing.Store(fails)
					read(dewar.Reload())
					for range 100 {
						if v := read() + read(dewar.CacheOnly()); strings.Contains(v, "old") {
							t.Fatalf("%q after the origin took it back", v)
						}
						time.Sleep(time.Millisecond)
					}
					failing.Store(false)
					time.Sleep(5 * time.Second)
					if srv.Has("taken", "k") {
						t.Error("it is still in the remote tier")
					}
				})
			})
		}
	}
}

// A journal of many keys is confirmed at the speed of the remote tier.
func TestCloseDrainsALongJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chaos := &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
		c, err := dewar.New(dewar.Config[string, string]{
			Name: "journal", TTL: time.Minute, Remote: chaos,
			Load: func(_ context.Context, k string) (string, error) { return k, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		chaos.Down(true)
		keys := make([]string, 50_000)
		for i := range keys {
			keys[i] = fmt.Sprint("key", i)
		}
		if err := c.Invalidate(t.Context(), keys...); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		chaos.Down(false)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
