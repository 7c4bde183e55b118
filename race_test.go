package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	redistier "github.com/dewarcache/dewar/redis"
)

// Everything at once. Worth most under the race detector.

// forEachSetup runs test for each engine and each kind of remote tier.
func forEachSetup(t *testing.T, test func(t *testing.T, change func(*fleetConfig))) {
	remotes := map[string]func(t *testing.T) dewar.RemoteOpener[string]{
		"local only": func(*testing.T) dewar.RemoteOpener[string] { return nil },
		"in memory":  func(*testing.T) dewar.RemoteOpener[string] { return dewartest.NewRemote[string]() },
		"miniredis": func(t *testing.T) dewar.RemoteOpener[string] {
			return redistier.Config[string]{Client: redisClient(t, miniredis.RunT(t).Addr())}
		},
		"redis": func(t *testing.T) dewar.RemoteOpener[string] {
			return redistier.Config[string]{Client: redisClient(t, startRedis(t).addr)}
		},
		"no redis": func(t *testing.T) dewar.RemoteOpener[string] {
			return redistier.Config[string]{Client: redisClient(t, unusedAddr)}
		},
	}
	for engine, local := range engines[string]() {
		for name, remote := range remotes {
			switch {
			case local == nil && name == "local only":
				continue
			case name == "no redis" && engine != "otter":
				continue // slow: Close tries for 5s
			}
			t.Run(engine+", "+name, func(t *testing.T) {
				opener := remote(t)
				test(t, func(cfg *fleetConfig) { cfg.Local, cfg.Remote = local, opener })
			})
		}
	}
}

func TestCloseRacesEveryMethod(t *testing.T) {
	forEachSetup(t, func(t *testing.T, change func(*fleetConfig)) {
		before := runtime.NumGoroutine()
		rounds := 3
		if strings.HasSuffix(t.Name(), "no_redis") {
			rounds = 1
		}
		for round := range rounds {
			cfg := fleetConfig{
				Name: fleetName, TTL: 20 * time.Millisecond, NegativeTTL: time.Millisecond,
				Stale: dewar.Stale{IfError: 20 * time.Millisecond, WhileRevalidate: 5 * time.Millisecond, SoftTimeout: time.Millisecond},
				Warm:  dewar.Warm{Gather: time.Millisecond},
				Load: func(ctx context.Context, k string) (string, error) {
					switch rand.IntN(20) {
					case 0:
						return "", errPlanned
					case 1:
						return "", dewar.ErrNotFound
					case 2:
						panic(errPlanned)
					case 3:
						runtime.Goexit()
					case 4:
						select {
						case <-time.After(5 * time.Millisecond):
						case <-ctx.Done():
							return "", ctx.Err()
						}
					}
					return k, nil
				},
			}
			if round%2 == 1 {
				cfg.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
					m := make(map[string]string)
					var err error
					for _, k := range keys {
						var v string
						if v, err = cfg.Load(ctx, k); err == nil {
							m[k] = v
						}
					}
					return m, err
				}
				cfg.Batch.Linger = time.Millisecond
			}
			change(&cfg)
			c, err := dewar.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var done atomic.Bool
			check := func(what, key, v string, err error) {
				if err == nil && v != key && v != "set" {
					t.Errorf("%s(%q) = %q", what, key, v)
				}
			}
			for g := range 8 {
				wg.Go(func() {
					for !done.Load() {
						key, other := fmt.Sprint("key", rand.IntN(20)), fmt.Sprint("key", rand.IntN(20))
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rand.IntN(20))*time.Millisecond)
						if g%2 == 0 {
							cancel()
							ctx, cancel = context.Background(), func() {}
						}
						opts := planOptions[rand.IntN(len(planOptions))]
						switch rand.IntN(16) {
						case 0, 1, 2:
							v, err := c.Get(ctx, key, opts...)
							check("Get", key, v, err)
						case 3:
							r, err := c.GetResult(ctx, key, opts...)
							check("GetResult", key, r.Value, err)
						case 4, 5:
							m, _ := c.GetMany(ctx, []string{key, other, key}, opts...)
							for k, v := range m {
								check("GetMany", k, v, nil)
							}
						case 6:
							c.GetManyResults(ctx, []string{key, other}, opts...)
						case 7:
							c.Set(ctx, key, "set")
						case 8:
							c.SetMany(ctx, map[string]string{key: "set", other: "set"})
						case 9:
							c.Invalidate(ctx, key, other)
						case 10:
							c.Expire(ctx, key, other)
						case 11:
							c.Refresh(ctx, key, other)
						case 12:
							c.KeepWarm(key, other)
							c.LetGo(other)
						case 13:
							c.Preload(ctx, slices.Values([]string{key, other, "preloaded"}))
						case 14:
							c.Wait(ctx)
						case 15:
							c.Stats()
						}
						cancel()
					}
				})
			}
			time.Sleep(time.Duration(10+rand.IntN(40)) * time.Millisecond)
			closed := make(chan error, 3)
			for range cap(closed) {
				go func() { closed <- c.Close() }()
			}
			for range cap(closed) {
				select {
				case err := <-closed:
					// What a Redis that is not there lost is told; no loader ignores its context.
					if err != nil && strings.Contains(err.Error(), "ignore their context") {
						t.Errorf("Close: %v", err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("Close hangs")
				}
			}
			time.Sleep(2 * time.Millisecond)
			done.Store(true)
			finished := make(chan struct{})
			go func() { wg.Wait(); close(finished) }()
			select {
			case <-finished:
			case <-time.After(10 * time.Second):
				t.Fatal("a caller hangs after Close")
			}
			for method, err := range everyMethod(context.Background(), c, "key1") {
				if !errors.Is(err, dewar.ErrClosed) {
					t.Errorf("%s after Close: %v", method, err)
				}
			}
			if s := c.Stats(); s.Flights+s.Bucket+s.BackfillQueue+s.OverdueLoads != 0 {
				t.Errorf("flights %d, bucket %d, backfill %d, overdue %d", s.Flights, s.Bucket, s.BackfillQueue, s.OverdueLoads)
			}
		}
		// Connections that the client keeps have goroutines in the servers.
		eventually(t, "all goroutines of the caches have ended", func() bool {
			return runtime.NumGoroutine() <= before+50 && len(goroutinesOf("dewar.(*")) == 0
		})
	})
}

func TestCloseLeavesTheCallersRedisClientOpenAndNoGoroutine(t *testing.T) {
	server := startRedis(t)
	rdb := redisClient(t, server.addr)
	rdb.Ping(t.Context())
	before := runtime.NumGoroutine()
	for i := range 5 {
		c, err := dewar.New(fleetConfig{
			Name: fleetName, TTL: time.Minute, Local: smallLocal, Remote: redistier.Config[string]{Client: rdb},
			Load: func(_ context.Context, k string) (string, error) { return k, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 50 {
			c.Get(t.Context(), fmt.Sprint(i, k))
		}
		c.KeepWarm("k")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the client does not work any more: %v", err)
	}
	if n := rdb.DBSize(t.Context()).Val(); n < 250 {
		t.Errorf("%d of 250 backfills were flushed", n)
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAStampedeLoadsOnce(t *testing.T) {
	const callers = 1000
	forEachSetup(t, func(t *testing.T, change func(*fleetConfig)) {
		for _, spread := range []time.Duration{0, 40 * time.Millisecond} {
			t.Run(fmt.Sprintf("over %v", spread), func(t *testing.T) {
				var loads atomic.Int64
				cfg := fleetConfig{
					Name: fleetName, TTL: time.Minute,
					Load: func(_ context.Context, k string) (string, error) {
						loads.Add(1)
						time.Sleep(20 * time.Millisecond)
						return k, nil
					},
				}
				change(&cfg)
				c, err := dewar.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				for round := range 3 {
					loads.Store(0)
					key := fmt.Sprint(spread, round)
					var wg sync.WaitGroup
					start := make(chan struct{})
					for i := range callers {
						wg.Go(func() {
							<-start
							time.Sleep(spread * time.Duration(i) / callers)
							var v string
							var err error
							if i%3 == 0 {
								var m map[string]string
								m, err = c.GetMany(t.Context(), []string{key})
								v = m[key]
							} else {
								v, err = c.Get(t.Context(), key)
							}
							if v != key || err != nil {
								t.Errorf("%q, %v", v, err)
							}
						})
					}
					close(start)
					wg.Wait()
					if n := loads.Load(); n != 1 {
						t.Errorf("%d callers: %d loads, want 1", callers, n)
					}
				}
			})
		}
	})
}

// Without lease waiting each process of a fleet may load, but no process twice.
func TestEachProcessOfAFleetLoadsAtMostOnce(t *testing.T) {
	const processes, callers = 6, 50
	srv := dewartest.NewRemote[string]()
	origin := newLedger()
	var wg sync.WaitGroup
	start := make(chan struct{})
	var fleet []*dewar.Cache[string, string]
	for range processes {
		loads := new(atomic.Int64)
		c := dewartest.New(t, fleetConfig{
			Name: fleetName, Remote: srv,
			Load: func(_ context.Context, k string) (string, error) {
				loads.Add(1)
				time.Sleep(10 * time.Millisecond)
				return origin.load(k)
			},
		})
		fleet = append(fleet, c)
		for range callers {
			wg.Go(func() {
				<-start
				if v, err := c.Get(t.Context(), "k"); v != "k@0" || err != nil {
					t.Error(v, err)
				}
			})
		}
		t.Cleanup(func() {
			if n := loads.Load(); n > 1 {
				t.Errorf("a process loaded %d times", n)
			}
		})
	}
	close(start)
	wg.Wait()
	var filled, refused uint64
	for _, c := range fleet {
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		filled, refused = filled+c.Stats().Filled, refused+c.Stats().FillsRefused
	}
	if filled != 1 || refused != 0 {
		t.Errorf("%d fills and %d refused of %d processes, want 1 and 0", filled, refused, processes)
	}
}

// Readers and writers of one process around a real Redis, another process
// writing the same keys' neighbours and reading everything: after a finished
// write of a process, none of its readers see what was there before.
func TestNoReaderSeesWhatWasOverwrittenBefore(t *testing.T) {
	server := startRedis(t)
	for engine, local := range engines[string]() {
		t.Run(engine, func(t *testing.T) {
			const keys = 8 // process p writes the keys of its parity
			redisClient(t, server.addr).FlushAll(t.Context())
			origin := newLedger()
			var floors [keys]atomic.Int64
			var done atomic.Bool
			var wg sync.WaitGroup
			var reads, writes atomic.Int64
			var fleet []*dewar.Cache[string, string]
			for p := range 2 {
				c := openOn(t, server.addr, origin, func(cfg *fleetConfig) {
					cfg.Local, cfg.TTL, cfg.Warm.Ahead = local, 100*time.Millisecond, 0.5
				})
				fleet = append(fleet, c)
				for range 2 {
					wg.Go(func() {
						for !done.Load() {
							k := rand.IntN(keys)
							least := floors[k].Load()
							if k%2 != p {
								least = 0 // the other process's: no promise without announcements
							}
							v, err := c.Get(t.Context(), fmt.Sprint("key", k))
							name, n, _ := strings.Cut(v, "@")
							var version int64
							fmt.Sscan(n, &version)
							if err != nil || name != fmt.Sprint("key", k) || version < least {
								t.Errorf("key%d: %q, %v; at least version %d", k, v, err, least)
								return
							}
							reads.Add(1)
						}
					})
				}
				wg.Go(func() {
					for !done.Load() {
						k := rand.IntN(keys/2)*2 + p
						key := fmt.Sprint("key", k)
						version := origin.commit(key)
						var err error
						switch rand.IntN(3) {
						case 0:
							err = c.Invalidate(t.Context(), key)
						case 1:
							err = c.Set(t.Context(), key, valueAt(key, version))
						case 2:
							err = c.Expire(t.Context(), key)
						}
						if err != nil && !errors.Is(err, dewar.ErrInvalidationPending) {
							t.Error(err)
						}
						floors[k].Store(int64(version))
						writes.Add(1)
						time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
			done.Store(true)
			wg.Wait()
			for _, c := range fleet {
				c.Wait(t.Context())
			}
			time.Sleep(100 * time.Millisecond) // the TTL: what a process has of the other's keys is stale
			for k := range keys {
				for p, c := range fleet {
					if v, err := c.Get(t.Context(), fmt.Sprint("key", k)); v != valueAt(fmt.Sprint("key", k), int(floors[k].Load())) || err != nil {
						t.Errorf("process %d at rest: %q, %v; want version %d", p, v, err, floors[k].Load())
					}
				}
			}
			t.Logf("%d reads, %d writes", reads.Load(), writes.Load())
		})
	}
}
