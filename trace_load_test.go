package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// loadTrace notes the hooks of loads, and the loader between them.
type loadTrace struct {
	traced[loadStep]
}

type loadStep struct {
	hook string // "LoadStart", "Load", "loader", "ended", "LoadDone"
	info dewar.LoadInfo
}

func (l *loadTrace) trace() *dewar.Trace {
	return &dewar.Trace{
		LoadStart: func(info dewar.LoadInfo) { l.note(context.Background(), loadStep{"LoadStart", info}) },
		LoadDone:  func(info dewar.LoadInfo) { l.note(context.Background(), loadStep{"LoadDone", info}) },
		Load: func(ctx context.Context, info dewar.LoadInfo) (context.Context, func(dewar.LoadInfo)) {
			l.note(ctx, loadStep{"Load", info})
			return as(ctx, who(ctx)+"'s span"), func(info dewar.LoadInfo) { l.note(context.Background(), loadStep{"ended", info}) }
		},
	}
}

// of returns the infos with which a hook was called.
func (l *loadTrace) of(hook string) (infos []dewar.LoadInfo) {
	for _, call := range l.all() {
		if call.with.hook == hook {
			infos = append(infos, call.with.info)
		}
	}
	return infos
}

// waiters names whose contexts a load's waiters are.
func waiters(info dewar.LoadInfo) (names []string) {
	for _, ctx := range info.Waiters {
		names = append(names, who(ctx))
	}
	slices.Sort(names)
	return names
}

func TestHooksOfALoadAreCalledAroundEachCallOfTheOriginOnItsGoroutine(t *testing.T) {
	type step = dewar.LoadInfo
	one := step{Cache: "test", Origin: "test", Keys: 1}
	background := step{Cache: "test", Origin: "test", Keys: 1, Background: true}
	failing := func(alter func(o *origin), call func(c *cache, ctx context.Context)) func(c *cache, o *origin, ctx context.Context) {
		return func(c *cache, o *origin, ctx context.Context) {
			alter(o)
			call(c, ctx)
		}
	}
	get := func(c *cache, ctx context.Context) { _, _ = c.Get(ctx, "a") }
	for name, tt := range map[string]struct {
		do   func(c *cache, o *origin, ctx context.Context)
		want []step // each call, as its end tells of it
		who  string // whose values the loader sees
	}{
		"Get":         {func(c *cache, _ *origin, ctx context.Context) { get(c, ctx) }, []step{one}, "caller"},
		"no such key": {failing(func(o *origin) { o.remove("a") }, get), []step{one}, "caller"},
		"an error": {
			failing(func(o *origin) { o.fail(errOrigin) }, get),
			[]step{{Cache: "test", Origin: "test", Keys: 1, Err: errOrigin}},
			"caller",
		},
		"GetMany": {
			func(c *cache, _ *origin, ctx context.Context) { _, _ = c.GetMany(ctx, keys(5)) },
			[]step{{Cache: "test", Origin: "test", Keys: 2}, {Cache: "test", Origin: "test", Keys: 2}, {Cache: "test", Origin: "test", Keys: 1}},
			"caller",
		},
		"Refresh":  {func(c *cache, _ *origin, ctx context.Context) { _ = c.Refresh(ctx, "a") }, []step{one}, "caller"},
		"Preload":  {func(c *cache, _ *origin, ctx context.Context) { _ = c.Preload(ctx, slices.Values([]string{"a"})) }, []step{background}, ""},
		"KeepWarm": {func(c *cache, _ *origin, _ context.Context) { c.KeepWarm("a"); time.Sleep(time.Second) }, []step{background}, ""},
		"neither a hit nor a refusal": {func(c *cache, _ *origin, ctx context.Context) {
			_ = c.Set(ctx, "a", "set")
			get(c, ctx)
			c.Dial().Set(dewar.Lockdown)
			_, _ = c.Get(ctx, "b")
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard loadTrace
				o := newOrigin(time.Millisecond)
				cfg := batched(o)
				cfg.Batch.MaxSize = 2
				cfg.Trace = heard.trace()
				cfg.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
					heard.note(ctx, loadStep{hook: "loader"})
					return o.loadMany(ctx, keys)
				}
				c := open(t, cfg)
				tt.do(c, o, as(t.Context(), "caller"))
				synctest.Wait()
				byGoroutine := make(map[int][]tracedCall[loadStep])
				for _, call := range heard.all() {
					byGoroutine[call.goroutine] = append(byGoroutine[call.goroutine], call)
				}
				var ended []step
				for _, calls := range byGoroutine {
					for ; len(calls) >= 5; calls = calls[5:] {
						for i, hook := range []string{"LoadStart", "Load", "loader", "ended", "LoadDone"} {
							if calls[i].with.hook != hook {
								t.Fatalf("%+v; want %s", calls[i], hook)
							}
						}
						if calls[1].who != tt.who || calls[2].who != tt.who+"'s span" {
							t.Errorf("Load saw the context of %q, the loader that of %q", calls[1].who, calls[2].who)
						}
						begun, done := calls[1].with.info, calls[3].with.info
						if begun.Took != 0 || begun.Err != nil || done.Took != time.Millisecond {
							t.Errorf("from %+v to %+v", begun, done)
						}
						done.Took, done.Waiters = 0, nil
						for i, same := range []dewar.LoadInfo{begun, calls[0].with.info, calls[4].with.info} {
							if same.Keys != done.Keys || same.Background != done.Background || same.Waiters != nil || i == 2 && same.Err != done.Err {
								t.Errorf("%d: %+v beside %+v", i, same, done)
							}
						}
						ended = append(ended, done)
					}
					if len(calls) != 0 {
						t.Errorf("left: %+v", calls)
					}
				}
				slices.SortFunc(ended, func(a, b step) int { return b.Keys - a.Keys })
				if fmt.Sprintf("%+v", ended) != fmt.Sprintf("%+v", tt.want) {
					t.Errorf("%+v; want %+v", ended, tt.want)
				}
			})
		})
	}
}

func TestALoadEndsForItsHooksHoweverTheLoaderEnds(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		load func(ctx context.Context) error
		want func(error) bool
		took time.Duration
	}{
		"panic": {func(context.Context) error { panic(boom) }, func(err error) bool {
			p, ok := errors.AsType[*dewar.PanicError](err)
			return ok && p.Value == boom
		}, 0},
		"Goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, func(err error) bool { return err == dewar.ErrLoaderExited }, 0},
		"timeout": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func(err error) bool { return err == dewar.ErrTimeout }, 10 * time.Second},
		"too late": {func(context.Context) error {
			time.Sleep(time.Minute)
			return nil
		}, func(err error) bool { return err == nil }, time.Minute},
		"too late, with an error": {func(context.Context) error {
			time.Sleep(time.Minute)
			return boom
		}, func(err error) bool { return err == boom }, time.Minute},
	} {
		for _, many := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " many:", many), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var heard loadTrace
					cfg := localOnly(newOrigin(0))
					cfg.Trace = heard.trace()
					cfg.Load = func(ctx context.Context, _ string) (string, error) { return "late", tt.load(ctx) }
					if many {
						cfg.Load, cfg.LoadMany = nil, func(ctx context.Context, _ []string) (map[string]string, error) {
							if err := tt.load(ctx); err != nil {
								return nil, err
							}
							return map[string]string{"a": "late"}, nil
						}
					}
					c := open(t, cfg)
					_, _ = c.Get(t.Context(), "a")
					if tt.took > 10*time.Second && len(heard.of("ended")) != 0 {
						t.Error("ended before the loader")
					}
					time.Sleep(2 * time.Minute)
					ended, done := heard.of("ended"), heard.of("LoadDone")
					if len(ended) != 1 || len(done) != 1 {
						t.Fatalf("%+v, %+v", ended, done)
					}
					for _, info := range []dewar.LoadInfo{ended[0], done[0]} {
						if !tt.want(info.Err) || info.Took != tt.took {
							t.Errorf("%+v", info)
						}
					}
				})
			})
		}
	}
}

func TestARepeatedCallIsTwoLoadsTheSecondMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard loadTrace
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Trace = heard.trace()
		cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1, Pause: time.Millisecond}
		cfg.Guard.Breaker.MinRequests = 1000
		c := open(t, cfg)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		ended := heard.of("ended")
		if len(ended) != 2 || ended[0].Repeated || !ended[1].Repeated || ended[0].Err != errOrigin {
			t.Errorf("%+v", ended)
		}
	})
}

func TestTheWaitersOfALoadAreToldUpTo32AndEachOnce(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 10: 9, 33: 32, 100: 32} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard loadTrace
				cfg := localOnly(newOrigin(time.Second))
				cfg.Trace = heard.trace()
				c := open(t, cfg)
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() { _, _ = c.GetMany(as(t.Context(), fmt.Sprint("reader", i)), []string{"a", "a"}) })
					synctest.Wait()
				}
				wg.Wait()
				ended := heard.of("ended")
				names := waiters(ended[0])
				if len(ended) != 1 || len(names) != want || len(slices.Compact(slices.Clone(names))) != want || slices.Contains(names, "reader0") {
					t.Errorf("%d loads, waiters %v", len(ended), names)
				}
			})
		})
	}
}

func TestABatchThatWaitsForManyFlightsOfALoadIsOneWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard loadTrace
		cfg := batched(newOrigin(time.Second))
		cfg.Trace = heard.trace()
		c := open(t, cfg)
		ks := keys(100)
		var wg sync.WaitGroup
		read := func(name string, ks []string) {
			wg.Go(func() { _, _ = c.GetMany(as(t.Context(), name), ks) })
			synctest.Wait()
		}
		read("first", ks)
		read("all of it", ks)
		read("all of it twice", slices.Concat(ks, ks))
		read("half of it", ks[:50])
		read("one of it", ks[:1])
		wg.Wait()
		ended := heard.of("ended")
		want := []string{"all of it", "all of it twice", "half of it", "one of it"}
		if len(ended) != 1 || !slices.Equal(waiters(ended[0]), want) {
			t.Errorf("%v; want %v", waiters(ended[0]), want)
		}
	})
}

func TestGetsThatLingerForOneLoadManyAreItsWaiters(t *testing.T) {
	for n, want := range map[int]int{2: 1, 5: 4, 50: 32} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard loadTrace
				cfg := batched(newOrigin(time.Second))
				cfg.Batch.Linger = 10 * time.Millisecond
				cfg.Trace = heard.trace()
				c := open(t, cfg)
				var wg sync.WaitGroup
				for _, k := range keys(n) {
					wg.Go(func() { _, _ = c.Get(as(t.Context(), k), k) })
					synctest.Wait()
				}
				wg.Wait()
				ended := heard.of("ended")
				if names := waiters(ended[0]); len(ended) != 1 || len(slices.Compact(names)) != want || slices.Contains(names, "k000") {
					t.Errorf("%d loads, waiters %v", len(ended), names)
				}
			})
		})
	}
}

func TestReadersWhoWaitForABackgroundLoadAreItsWaitersAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard loadTrace
		cfg := batched(newOrigin(time.Second))
		cfg.Trace = heard.trace()
		c := open(t, cfg)
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Preload(as(t.Context(), "preload"), slices.Values(keys(3))) })
		synctest.Wait()
		wg.Go(func() { _, _ = c.Get(as(t.Context(), "reader"), "k001") })
		wg.Go(func() { _ = c.Refresh(as(t.Context(), "refresh"), "k002") })
		wg.Wait()
		ended := heard.of("ended")
		if len(ended) != 1 || !ended[0].Background || !slices.Equal(waiters(ended[0]), []string{"reader", "refresh"}) {
			t.Errorf("%+v", ended)
		}
	})
}

func TestNobodyElseWaitsForALoadOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard loadTrace
		cfg := batched(newOrigin(0))
		cfg.Trace = heard.trace()
		c := open(t, cfg)
		if _, err := c.GetMany(as(t.Context(), "reader"), slices.Concat(keys(3), keys(3))); err != nil {
			t.Fatal(err)
		}
		c.KeepWarm("pinned")
		time.Sleep(time.Second)
		for _, info := range heard.of("ended") {
			if len(info.Waiters) != 0 {
				t.Errorf("%+v, waiters %v", info, waiters(info))
			}
		}
	})
}

func TestALoaderHasAContextWhateverTheHookReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		cfg := localOnly(newOrigin(0))
		cfg.Trace = &dewar.Trace{Load: func(context.Context, dewar.LoadInfo) (context.Context, func(dewar.LoadInfo)) { return nil, nil }}
		cfg.Load = func(ctx context.Context, _ string) (string, error) {
			until, _ := ctx.Deadline()
			left = time.Until(until)
			return who(ctx), nil
		}
		c := open(t, cfg)
		if v, err := c.Get(as(t.Context(), "caller"), "a"); v != "caller" || err != nil || left != 10*time.Second {
			t.Error(v, err, left)
		}
	})
}

func TestHooksNeverSeeAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "anna@example.org"
		var heard loadTrace
		var reads traced[dewar.ReadInfo]
		cfg := localOnly(newOrigin(0))
		cfg.Trace = dewar.JoinTraces(heard.trace(), &dewar.Trace{ReadDone: reads.note})
		c := open(t, cfg)
		mustGet(t, c, secret, secret+"#1")
		if got := fmt.Sprintf("%+v %+v", heard.all(), reads.all()); strings.Contains(got, secret) {
			t.Error(got)
		}
	})
}
