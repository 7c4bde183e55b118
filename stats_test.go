package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// counts are the counters of a snapshot, and of its histograms how many values
// they have seen, by the field's name; those that are 0 left out.
func counts(s dewar.Stats) map[string]uint64 {
	counted := make(map[string]uint64)
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		switch f := v.Field(i).Interface().(type) {
		case uint64:
			counted[v.Type().Field(i).Name] = f
		case dewar.Histogram:
			counted[v.Type().Field(i).Name] = f.Count
		}
	}
	maps.DeleteFunc(counted, func(_ string, n uint64) bool { return n == 0 })
	return counted
}

// since is counts of what came after an earlier snapshot.
func since(before, after dewar.Stats) map[string]uint64 {
	counted := counts(after)
	for name, n := range counts(before) {
		if counted[name] -= n; counted[name] == 0 {
			delete(counted, name)
		}
	}
	return counted
}

func TestEveryEventIsCountedWhereItBelongsAndNowhereElse(t *testing.T) {
	type want = map[string]uint64
	alters := func(a ...func(*config)) []func(*config) { return a }
	for name, tt := range map[string]struct {
		alter  []func(*config)
		before func(*scene)
		do     func(*scene)
		want   want
	}{
		"a local hit": {
			before: func(w *scene) { w.read("a") },
			do:     func(w *scene) { w.read("a") },
			want:   want{"LocalHits": 1},
		},
		"local hits together": {
			before: func(w *scene) { w.many("a", "b", "c") },
			do:     func(w *scene) { w.many("a", "b", "c", "a") },
			want:   want{"LocalHits": 4},
		},
		"a local hit off the hit path": {
			before: func(w *scene) { w.read("a") },
			do:     func(w *scene) { w.only("a") },
			want:   want{"LocalHits": 1, "ServeAge": 1},
		},
		"a remote hit": {
			before: func(w *scene) {
				w.both("b")
				_, _ = w.other.Get(context.Background(), "a")
				_ = w.other.Wait(context.Background())
			},
			do:   func(w *scene) { w.read("a") },
			want: want{"RemoteHits": 1, "ServeAge": 1, "WaitTime": 1},
		},
		"a remote hit of a read that may not load": {
			before: func(w *scene) {
				_, _ = w.other.Get(context.Background(), "a")
				_ = w.other.Wait(context.Background())
			},
			do:   func(w *scene) { w.only("a") },
			want: want{"RemoteHits": 1, "ServeAge": 1},
		},
		"a load": {
			do: func(w *scene) { w.read("a") },
			want: want{
				"Loaded": 1, "Loads": 1, "LoadedKeys": 1, "Filled": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1, "FillTime": 1, "BackfillDelay": 1,
			},
		},
		"a load without a remote tier": {
			alter: alters(noRemote),
			do:    func(w *scene) { w.read("a") },
			want:  want{"Loaded": 1, "Loads": 1, "LoadedKeys": 1, "LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1},
		},
		"a load of many": {
			alter: alters(fewKeysAtOnce, noRemote),
			do:    func(w *scene) { w.many("a", "b", "c", "d", "e") },
			want:  want{"Loaded": 5, "Loads": 3, "LoadedKeys": 5, "LoadTime": 3, "WaitTime": 5, "ServeAge": 5, "BatchSize": 3},
		},
		"a load that three read": {
			alter: alters(noRemote),
			do: func(w *scene) {
				w.o.slow(time.Second)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() { w.read("a") })
				}
				wg.Wait()
			},
			want: want{"Loaded": 3, "Collapsed": 2, "Loads": 1, "LoadedKeys": 1, "LoadTime": 1, "WaitTime": 3, "ServeAge": 3, "BatchSize": 1},
		},
		"a stale local value": {
			alter:  alters(staleIfError, noRemote),
			before: func(w *scene) { w.read("a"); time.Sleep(2 * time.Minute); w.o.fail(errOrigin) },
			do:     func(w *scene) { w.read("a") },
			want: want{
				"Stale": 1, "Loads": 1, "LoadedKeys": 1, "LoadErrors": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "StaleAge": 1, "BatchSize": 1,
			},
		},
		"a stale local value while the origin rests": {
			alter: alters(staleIfError, noRemote),
			before: func(w *scene) {
				w.read("a")
				time.Sleep(2 * time.Minute)
				w.o.fail(errOrigin)
				w.read("a")
			},
			do:   func(w *scene) { w.read("a") },
			want: want{"Stale": 1, "ServeAge": 1, "StaleAge": 1},
		},
		"a stale value while it is revalidated": {
			alter:  alters(staleAtOnce, noRemote),
			before: func(w *scene) { w.read("a"); time.Sleep(2 * time.Minute) },
			do:     func(w *scene) { w.read("a"); time.Sleep(time.Second) },
			want: want{
				"Stale": 1, "Refreshed": 1, "Loads": 1, "LoadedKeys": 1,
				"LoadTime": 1, "ServeAge": 1, "StaleAge": 1, "BatchSize": 1,
			},
		},
		"a stale remote value": {
			alter: alters(staleIfError),
			before: func(w *scene) {
				_, _ = w.other.Get(context.Background(), "a")
				time.Sleep(2 * time.Minute)
				w.o.fail(errOrigin)
			},
			do: func(w *scene) { w.read("a") },
			want: want{
				"Stale": 1, "StaleRemote": 1, "Loads": 1, "LoadedKeys": 1, "LoadErrors": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "StaleAge": 1, "BatchSize": 1,
			},
		},
		"a stale remote value to a read that may not load": {
			alter: alters(staleIfError),
			before: func(w *scene) {
				_, _ = w.other.Get(context.Background(), "a")
				time.Sleep(2 * time.Minute)
			},
			do:   func(w *scene) { w.only("a") },
			want: want{"Stale": 1, "StaleRemote": 1, "ServeAge": 1, "StaleAge": 1},
		},
		"missing, says the origin": {
			before: func(w *scene) { w.o.remove("a") },
			do:     func(w *scene) { w.read("a") },
			want: want{
				"Negative": 1, "NegativeOrigin": 1, "Loads": 1, "LoadedKeys": 1, "Filled": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1, "FillTime": 1, "BackfillDelay": 1,
			},
		},
		"missing, says the origin, and is not remembered": {
			alter:  alters(missingUnknown, noRemote),
			before: func(w *scene) { w.o.remove("a") },
			do:     func(w *scene) { w.many("a") },
			want: want{
				"Negative": 1, "NegativeOrigin": 1, "Loads": 1, "LoadedKeys": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1,
			},
		},
		"missing, remembered locally": {
			alter:  alters(missingForLong),
			before: func(w *scene) { w.o.remove("a"); w.read("a") },
			do:     func(w *scene) { w.read("a") },
			want:   want{"Negative": 1, "ServeAge": 1},
		},
		"missing, remembered remotely": {
			alter: alters(missingForLong),
			before: func(w *scene) {
				w.o.remove("a")
				_, _ = w.other.Get(context.Background(), "a")
				_ = w.other.Wait(context.Background())
			},
			do:   func(w *scene) { w.read("a") },
			want: want{"Negative": 1, "NegativeRemote": 1, "WaitTime": 1, "ServeAge": 1},
		},
		"an error": {
			alter:  alters(noRemote),
			before: func(w *scene) { w.o.fail(errOrigin) },
			do:     func(w *scene) { w.read("a") },
			want:   want{"Failed": 1, "Loads": 1, "LoadedKeys": 1, "LoadErrors": 1, "LoadTime": 1, "WaitTime": 1, "BatchSize": 1},
		},
		"not cached": {do: func(w *scene) { w.only("a") }, want: want{"Failed": 1}},
		"a caller who leaves": {
			alter: alters(noRemote),
			do: func(w *scene) {
				w.o.slow(time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				_, _ = w.Get(ctx, "a")
				time.Sleep(2 * time.Second)
			},
			want: want{"Failed": 1, "Loads": 1, "LoadedKeys": 1, "LoadTime": 1, "WaitTime": 1, "BatchSize": 1},
		},
		"a panic": {
			alter: alters(noRemote, func(cfg *config) {
				cfg.LoadMany = func(context.Context, []string) (map[string]string, error) { panic("boom") }
			}),
			do:   func(w *scene) { w.read("a") },
			want: want{"Failed": 1, "Loads": 1, "LoadedKeys": 1, "LoadErrors": 1, "LoadTime": 1, "WaitTime": 1, "BatchSize": 1},
		},
		"an exit": {
			alter: alters(noRemote, func(cfg *config) {
				cfg.LoadMany = func(context.Context, []string) (map[string]string, error) { runtime.Goexit(); return nil, nil }
			}),
			do:   func(w *scene) { w.read("a") },
			want: want{"Failed": 1, "Loads": 1, "LoadedKeys": 1, "LoadErrors": 1, "LoadTime": 1, "WaitTime": 1, "BatchSize": 1},
		},
		"a repetition": {
			alter:  alters(noRemote, repeatable, tightBreaker, func(cfg *config) { cfg.Guard.Breaker.MinRequests = 10 }),
			before: func(w *scene) { w.o.fail(errOrigin) },
			do:     func(w *scene) { w.read("a") },
			want: want{
				"Failed": 1, "Loads": 2, "LoadedKeys": 2, "LoadErrors": 2, "Retries": 1,
				"LoadTime": 2, "WaitTime": 1, "BatchSize": 2,
			},
		},
		"refused for want of a slot": {
			alter:  alters(noRemote, oneSlot),
			before: func(w *scene) { w.o.slow(5 * time.Second); go w.read("b"); synctest.Wait() },
			do:     func(w *scene) { w.read("a") },
			want:   want{"Failed": 1, "Overloaded": 1, "WaitTime": 1},
		},
		"refused by the breaker": {
			alter:  alters(noRemote, tightBreaker),
			before: func(w *scene) { w.o.fail(errOrigin); w.read("b") },
			do:     func(w *scene) { w.read("a") },
			want:   want{"Failed": 1, "BreakerRefused": 1, "WaitTime": 1},
		},
		"refused at the dial's level": {
			alter:  alters(noRemote),
			before: func(w *scene) { w.Dial().Set(dewar.Lockdown) },
			do:     func(w *scene) { w.read("a") },
			want:   want{"Failed": 1, "DefconRefused": 1, "WaitTime": 1},
		},
		"a refresh ahead": {
			alter:  alters(noRemote, refreshAhead),
			before: func(w *scene) { w.read("a"); time.Sleep(90 * time.Second) },
			do:     func(w *scene) { w.read("a"); time.Sleep(time.Second) },
			want: want{
				"LocalHits": 1, "Refreshed": 1, "Loads": 1, "LoadedKeys": 1,
				"LoadTime": 1, "ServeAge": 1, "BatchSize": 1,
			},
		},
		"a refresh ahead that fails": {
			alter:  alters(noRemote, refreshAhead),
			before: func(w *scene) { w.read("a"); time.Sleep(90 * time.Second); w.o.fail(errOrigin) },
			do:     func(w *scene) { w.read("a"); time.Sleep(time.Second) },
			want: want{
				"LocalHits": 1, "Loads": 1, "LoadErrors": 1, "LoadedKeys": 1,
				"LoadTime": 1, "ServeAge": 1, "BatchSize": 1,
			},
		},
		"a refresh that found a newer value": {
			alter: alters(refreshAhead),
			before: func(w *scene) {
				w.both("a")
				time.Sleep(30 * time.Second)
				_ = w.other.Refresh(context.Background(), "a") // tells nobody
				_ = w.other.Wait(context.Background())
				time.Sleep(60 * time.Second)
			},
			do:   func(w *scene) { w.read("a"); time.Sleep(time.Second) },
			want: want{"LocalHits": 1, "Adopted": 1, "ServeAge": 1},
		},
		"a refresh left to another process": {
			alter: alters(refreshAhead),
			before: func(w *scene) {
				w.both("a")
				time.Sleep(90 * time.Second)
				w.o.slow(5 * time.Second)
				_, _ = w.other.Get(context.Background(), "a")
				time.Sleep(time.Second)
			},
			do:   func(w *scene) { w.read("a"); time.Sleep(500 * time.Millisecond) },
			want: want{"LocalHits": 1, "Elsewhere": 1, "ServeAge": 1},
		},
		"a refresh for which there is no room": {
			alter:  alters(noRemote, refreshAhead, smallBucket),
			before: func(w *scene) { w.many("a", "b", "c"); time.Sleep(90 * time.Second) },
			do:     func(w *scene) { w.many("a", "b", "c"); time.Sleep(time.Second) },
			want: want{
				"LocalHits": 3, "RefreshDropped": 2, "Refreshed": 1, "Loads": 1, "LoadedKeys": 1,
				"LoadTime": 1, "ServeAge": 3, "BatchSize": 1,
			},
		},
		"Refresh": {
			alter:  alters(noRemote),
			before: func(w *scene) { w.many("a", "b") },
			do:     func(w *scene) { _ = w.Refresh(context.Background(), "a", "b") },
			want:   want{"Refreshed": 2, "Loads": 1, "LoadedKeys": 2, "LoadTime": 1, "BatchSize": 1},
		},
		"Preload": {
			alter:  alters(noRemote),
			before: func(w *scene) { w.read("a") },
			do:     func(w *scene) { _ = w.Preload(context.Background(), slices.Values([]string{"a", "b"})) },
			want:   want{"Refreshed": 1, "Loads": 1, "LoadedKeys": 1, "LoadTime": 1, "BatchSize": 1},
		},
		"Set": {
			do:   func(w *scene) { _ = w.Set(context.Background(), "a", "set") },
			want: want{"Filled": 1, "FillTime": 1},
		},
		"a Set that cannot be written": {
			before: func(w *scene) { w.intercept(failOp("Fill", errOrigin)) },
			do:     func(w *scene) { _ = w.Set(context.Background(), "a", "set") },
			want:   want{"WritesFailed": 1, "FillTime": 1},
		},
		"a write that the fence refuses": {
			do: func(w *scene) {
				w.o.slow(time.Second)
				go w.read("a")
				time.Sleep(500 * time.Millisecond)
				w.srv.Drop("test", "a") // its lease
				time.Sleep(time.Second)
			},
			want: want{
				"Loaded": 1, "Loads": 1, "LoadedKeys": 1, "FillsRefused": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1, "FillTime": 1,
			},
		},
		"a write that fails": {
			before: func(w *scene) { w.intercept(failOp("Fill", errOrigin)) },
			do:     func(w *scene) { w.read("a"); _ = w.Wait(context.Background()) },
			want: want{
				"Loaded": 1, "Loads": 1, "LoadedKeys": 1, "WritesFailed": 1,
				"LoadTime": 1, "WaitTime": 1, "ServeAge": 1, "BatchSize": 1, "FillTime": 1,
			},
		},
		"what is no event": {
			before: func(w *scene) { w.read("a") },
			do: func(w *scene) {
				_, _ = w.Inspect(context.Background(), "a")
				w.Stats()
				_ = w.Invalidate(context.Background(), "a")
				_ = w.Expire(context.Background(), "a")
				_ = w.InvalidateAll(context.Background())
				w.HotKeys()
			},
			want: want{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := setScene(t, tt.alter...)
				if tt.before != nil {
					tt.before(w)
				}
				_ = w.Wait(t.Context())
				before := w.Stats()
				tt.do(w)
				w.intercept(nil)
				_ = w.Wait(t.Context())
				synctest.Wait()
				after := w.Stats()
				if got := since(before, after); !maps.Equal(got, tt.want) {
					t.Errorf("%v\nwant %v", got, tt.want)
				}
				if after.Gets() != after.LocalHits+after.RemoteHits+after.Loaded+after.Stale+after.Negative+after.Failed {
					t.Error("Gets:", after.Gets())
				}
				time.Sleep(10 * time.Second) // what still runs
			})
		})
	}
}

func TestAWriteThatFindsTheQueueFullIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queue = 16 * 1024
		w := setScene(t)
		gate := newBarrier()
		defer gate.open()
		w.intercept(func(op string, _ []string) error {
			if op == "Fill" {
				<-gate.ch
			}
			return nil
		})
		more := make([]string, queue+300)
		for i := range more {
			more[i] = fmt.Sprint("key", i)
		}
		if _, err := w.GetMany(t.Context(), more); err != nil {
			t.Fatal(err)
		}
		// A batch of 200 is on its way, and as many wait as the queue holds.
		if s := w.Stats(); s.WritesDropped == 0 || s.WritesDropped > 300 || uint64(s.BackfillQueue) != uint64(len(more))-s.WritesDropped {
			t.Errorf("%d dropped, %d wait", s.WritesDropped, s.BackfillQueue)
		}
		gate.open()
		if err := w.Wait(t.Context()); err == nil {
			t.Error("Wait says nothing of what was dropped")
		}
		if s := w.Stats(); s.BackfillQueue != 0 || s.Filled+s.WritesDropped != uint64(len(more)) {
			t.Errorf("%d dropped, %d filled, %d wait", s.WritesDropped, s.Filled, s.BackfillQueue)
		}
	})
}

func TestOnAClosedCacheEveryReadCountsAsFailed(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				before := c.Stats()
				mustFail(t, c, "a", dewar.ErrClosed)
				if _, err := c.GetMany(t.Context(), []string{"a", "b"}); !errors.Is(err, dewar.ErrClosed) {
					t.Error(err)
				}
				mustFail(t, c, "a", dewar.ErrClosed, dewar.CacheOnly())
				if got := since(before, c.Stats()); !maps.Equal(got, map[string]uint64{"Failed": 4}) {
					t.Error(got)
				}
			})
		})
	}
}
