package dewar_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// gauges are what a snapshot tells of the present.
type gauges struct {
	Flights, Awaiting, OverdueLoads, Bucket, Pinned, BackfillQueue, PendingInvalidations int

	OldestFlight time.Duration
	Level        dewar.Level
	Calls        int
	Queued       int
	Breaker      dewar.BreakerState
	Entries      int64
}

func gaugesOf(s dewar.Stats) gauges {
	return gauges{
		s.Flights, s.Awaiting, s.OverdueLoads, s.Bucket, s.Pinned, s.BackfillQueue, s.PendingInvalidations,
		s.OldestFlight, s.Level, s.Origin.Calls, s.Origin.Queued, s.Origin.Breaker, s.Local.Entries,
	}
}

func TestGaugesTellOfThePresent(t *testing.T) {
	background := context.Background()
	alters := func(a ...func(*config)) []func(*config) { return a }
	quiet := func(g gauges) gauges { // what is always so
		if g.Level == 0 {
			g.Level = dewar.Normal
		}
		return g
	}
	for name, tt := range map[string]struct {
		alter []func(*config)
		do    func(w *scene)
		want  gauges // while it happens
		end   func(w *scene)
		after gauges // once that has ended
	}{
		"a flight": {
			alter: alters(noRemote),
			do: func(w *scene) {
				w.o.slow(5 * time.Second)
				go w.read("a")
				time.Sleep(time.Second)
				go w.read("b")
				go w.read("a")
				time.Sleep(time.Second)
			},
			want:  gauges{Flights: 2, OldestFlight: 2 * time.Second, Calls: 2},
			end:   func(*scene) { time.Sleep(5 * time.Second) },
			after: gauges{Entries: 2},
		},
		"a flight that looks into the remote tier": {
			do: func(w *scene) {
				w.chaos.Delay(time.Second)
				go w.read("a")
				time.Sleep(500 * time.Millisecond)
			},
			want:  gauges{Flights: 1, OldestFlight: 500 * time.Millisecond},
			end:   func(*scene) { time.Sleep(5 * time.Second) },
			after: gauges{Entries: 1},
		},
		"loads that wait for a slot": {
			alter: alters(noRemote, oneSlot, func(cfg *config) { cfg.Guard.QueueTimeout = time.Minute }),
			do: func(w *scene) {
				w.o.slow(3 * time.Second)
				for _, k := range []string{"a", "b", "c"} {
					go w.read(k)
				}
				time.Sleep(time.Second)
			},
			want:  gauges{Flights: 3, OldestFlight: time.Second, Calls: 1, Queued: 2},
			end:   func(*scene) { time.Sleep(9 * time.Second) },
			after: gauges{Entries: 3},
		},
		"a loader past its time": {
			alter: alters(noRemote, func(cfg *config) {
				cfg.LoadMany = func(context.Context, []string) (map[string]string, error) {
					time.Sleep(time.Minute)
					return nil, nil
				}
			}),
			do:    func(w *scene) { w.read("a") },
			want:  gauges{OverdueLoads: 1, Calls: 1},
			end:   func(*scene) { time.Sleep(time.Minute) },
			after: gauges{},
		},
		"a flight that waits for another process": {
			do: func(w *scene) {
				w.o.slow(5 * time.Second)
				go func() { _, _ = w.other.Get(background, "a") }()
				time.Sleep(time.Second)
				go w.read("a")
				time.Sleep(time.Second)
			},
			want:  gauges{Flights: 1, OldestFlight: time.Second, Awaiting: 1},
			end:   func(*scene) { time.Sleep(5 * time.Second) },
			after: gauges{Entries: 1},
		},
		"keys in the bucket": {
			alter: alters(noRemote, refreshAhead, func(cfg *config) { cfg.Warm.KeysPerSecond = 1 }),
			do: func(w *scene) {
				w.many(keys(4)...)
				time.Sleep(90 * time.Second)
				w.many(keys(4)...)
				time.Sleep(500 * time.Millisecond)
			},
			want:  gauges{Bucket: 3, Entries: 4},
			end:   func(*scene) { time.Sleep(5 * time.Second) },
			after: gauges{Entries: 4},
		},
		"a refresh from the bucket": {
			alter: alters(noRemote, refreshAhead),
			do: func(w *scene) {
				w.read("a")
				time.Sleep(90 * time.Second)
				w.o.slow(5 * time.Second)
				w.read("a")
				time.Sleep(time.Second)
			},
			want:  gauges{Bucket: 1, Flights: 1, OldestFlight: 995 * time.Millisecond, Calls: 1, Entries: 1},
			end:   func(*scene) { time.Sleep(5 * time.Second) },
			after: gauges{Entries: 1},
		},
		"pinned keys": {
			alter: alters(noRemote),
			do:    func(w *scene) { w.KeepWarm("a", "b", "a"); time.Sleep(time.Second) },
			want:  gauges{Pinned: 2, Entries: 2},
			end:   func(w *scene) { w.LetGo("a", "b") },
			after: gauges{Entries: 2},
		},
		"writes behind": {
			do: func(w *scene) {
				w.intercept(slowOp("Fill", 2*time.Second)) // less than a lease
				w.many("a", "b", "c")
			},
			want:  gauges{BackfillQueue: 3, Entries: 3},
			end:   func(w *scene) { _ = w.Wait(background) },
			after: gauges{Entries: 3},
		},
		"invalidations that are not confirmed": {
			do: func(w *scene) {
				w.many("a", "b", "c")
				_ = w.Wait(background)
				w.chaos.Down(true)
				_ = w.Invalidate(background, "a", "b")
			},
			want:  gauges{PendingInvalidations: 2, Entries: 1},
			end:   func(w *scene) { w.chaos.Down(false); time.Sleep(5 * time.Second) },
			after: gauges{Entries: 1},
		},
		"everything invalidated, and not confirmed": {
			do: func(w *scene) {
				w.many("a", "b", "c")
				_ = w.Wait(background)
				w.chaos.Down(true)
				_ = w.InvalidateAll(background)
			},
			want: gauges{PendingInvalidations: 1},
			end:  func(w *scene) { w.chaos.Down(false); time.Sleep(5 * time.Second) },
		},
		"the dial": {
			alter: alters(noRemote),
			do:    func(w *scene) { w.Dial().Set(dewar.Protect) },
			want:  gauges{Level: dewar.Protect},
			end:   func(w *scene) { w.Dial().Set(dewar.Normal) },
		},
		"the breaker": {
			alter: alters(noRemote, tightBreaker),
			do:    func(w *scene) { w.o.fail(errOrigin); w.read("a") },
			want:  gauges{Breaker: dewar.BreakerOpen},
			end:   func(*scene) { time.Sleep(73 * time.Second) },
			after: gauges{Breaker: dewar.BreakerHalfOpen},
		},
		"a breaker that is closed": {
			alter: alters(noRemote, tightBreaker),
			do:    func(w *scene) { w.read("a") },
			want:  gauges{Breaker: dewar.BreakerClosed, Entries: 1},
			end:   func(*scene) {},
			after: gauges{Breaker: dewar.BreakerClosed, Entries: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := setScene(t, tt.alter...)
				tt.do(w)
				synctest.Wait() // a call may have ended that has yet to say so
				if got := gaugesOf(w.Stats()); got != quiet(tt.want) {
					t.Errorf("%+v\nwant %+v", got, quiet(tt.want))
				}
				w.intercept(nil)
				tt.end(w)
				synctest.Wait()
				if got := gaugesOf(w.Stats()); got != quiet(tt.after) {
					t.Errorf("once it has ended: %+v\nwant %+v", got, quiet(tt.after))
				}
			})
		})
	}
}

// slowOp makes an operation of a Chaos take so long.
func slowOp(op string, d time.Duration) func(string, []string) error {
	return func(asked string, _ []string) error {
		if asked == op {
			time.Sleep(d)
		}
		return nil
	}
}

func TestOriginStatsAreThoseOfTheOriginThatCachesShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(2 * time.Second)
		cfg := localOnly(o)
		alone := open(t, cfg)
		if got, want := alone.Stats().Origin, (dewar.OriginStats{Name: "test", Slots: 128}); got != want {
			t.Errorf("%+v; want %+v", got, want)
		}
		cfg.Origin = dewar.NewOrigin("catalog", dewar.Guard{MaxConcurrent: 7})
		here, there := open(t, cfg), open(t, cfg)
		go here.Get(t.Context(), "a")
		go there.Get(t.Context(), "a")
		time.Sleep(time.Second)
		want := dewar.OriginStats{Name: "catalog", Calls: 2, Slots: 7, Breaker: dewar.BreakerClosed}
		for _, got := range []dewar.OriginStats{here.Stats().Origin, there.Stats().Origin, cfg.Origin.Stats()} {
			if got != want {
				t.Errorf("%+v; want %+v", got, want)
			}
		}
	})
}

func TestLocalStatsAreTheTiers(t *testing.T) {
	for name, tier := range map[string]dewar.LocalOpener[string]{
		"ristretto": memory.Config[string]{MaxCost: 100, Cost: func(string, string) int64 { return 10 }},
		"otter":     memory.Otter[string]{MaxCost: 100, Cost: func(string, string) int64 { return 10 }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := localOnly(newOrigin(0))
			cfg.Local = tier
			c := open(t, cfg)
			for _, k := range keys(3) {
				mustGet(t, c, k, k+"#1")
			}
			if s := c.Stats().Local; s != (dewar.LocalStats{Entries: 3, Cost: 30}) {
				t.Errorf("%+v", s)
			}
			for i := range 500 {
				_, _ = c.Get(t.Context(), fmt.Sprint("more", i))
			}
			if s := c.Stats().Local; s.Cost > 100 || s.Entries > 10 || s.Evicted < 400 {
				t.Errorf("%+v", s)
			}
		})
	}
	cfg := localOnly(newOrigin(0))
	noLocal(&cfg)
	cfg.Remote = newServer()
	c := open(t, cfg)
	mustGet(t, c, "a", "a#1")
	if s := c.Stats().Local; s != (dewar.LocalStats{}) {
		t.Errorf("without a local tier: %+v", s)
	}
}

func TestRemoteStatsAreTheTiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setScene(t)
		mustGet(t, w.cache, "a", "a#1")
		if err := w.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := w.other.Invalidate(t.Context(), "b", "c"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s := w.Stats().Remote
		if s.Announced != 1 || s.Heard != 2 || s.Epoch != 1 {
			t.Errorf("%+v", s)
		}
		if err := w.InvalidateAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.Stats().Remote; s.Epoch != 2 {
			t.Errorf("%+v", s)
		}
		alone := setScene(t, noRemote)
		if s := alone.Stats().Remote; s != (dewar.RemoteStats{}) {
			t.Errorf("without a remote tier: %+v", s)
		}
	})
}
