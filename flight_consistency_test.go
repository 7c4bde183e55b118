package dewar_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// TestNoReadAfterAnInvalidateSeesWhatWasBefore lets writers change the origin
// and then invalidate, while readers of all kinds read: whoever begins after an
// Invalidate or Set has returned must see its version or a later one.
func TestNoReadAfterAnInvalidateSeesWhatWasBefore(t *testing.T) {
	const nkeys, writers, readers, rounds = 4, 3, 12, 150
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var (
					truth  [nkeys]atomic.Int64  // what the origin has
					settle [nkeys]atomic.Int64  // the newest version whose write has returned
					turns  [nkeys]chan struct{} // writers of a key take turns
				)
				for k := range turns {
					turns[k] = make(chan struct{}, 1)
				}
				pause := func(most time.Duration) { time.Sleep(rand.N(most)) }
				one := func(k int) int64 {
					v := truth[k].Load()
					pause(5 * time.Millisecond) // the answer is on its way, and may be old when it arrives
					return v
				}
				cfg := dewar.Config[int, int64]{
					Name: "test", TTL: 50 * time.Millisecond,
					Stale: dewar.Stale{IfError: time.Hour, WhileRevalidate: 20 * time.Millisecond, SoftTimeout: 2 * time.Millisecond},
					Load: func(_ context.Context, k int) (int64, error) {
						if rand.IntN(20) == 0 {
							return 0, errOrigin
						}
						return one(k), nil
					},
					LoadMany: func(_ context.Context, ks []int) (map[int]int64, error) {
						m := make(map[int]int64)
						for k := range nkeys { // more than was asked for
							m[k] = truth[k].Load()
						}
						pause(5 * time.Millisecond)
						return m, nil
					},
				}
				convertTiers(&cfg, tiers)
				c, err := dewar.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				ctx := t.Context()
				check := func(how string, k int, atLeast, got int64, err error) {
					if err == nil && got < atLeast {
						t.Errorf("%s of %d: version %d after %d was settled", how, k, got, atLeast)
					}
				}
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for range rounds {
							k := rand.IntN(nkeys)
							turns[k] <- struct{}{}
							v := truth[k].Add(1)
							switch rand.IntN(3) {
							case 0:
								c.Set(ctx, k, v)
							default:
								c.Invalidate(ctx, k)
							}
							settle[k].Store(v)
							<-turns[k]
							pause(10 * time.Millisecond)
						}
					})
				}
				for range readers {
					wg.Go(func() {
						for range rounds {
							k := rand.IntN(nkeys)
							atLeast := settle[k].Load()
							switch rand.IntN(6) {
							case 0:
								vs, err := c.GetMany(ctx, []int{k, (k + 1) % nkeys})
								if v, ok := vs[k]; ok {
									check("GetMany", k, atLeast, v, nil)
								} else if err == nil {
									t.Error("a key is absent without an error")
								}
							case 1:
								v, err := c.Get(ctx, k, dewar.Reload())
								check("Reload", k, atLeast, v, err)
							case 2:
								v, err := c.Get(ctx, k, dewar.CacheOnly())
								check("CacheOnly", k, atLeast, v, err)
							case 3:
								v, err := c.Get(ctx, k, dewar.NoStale())
								check("NoStale", k, atLeast, v, err)
							default:
								v, err := c.Get(ctx, k)
								check("Get", k, atLeast, v, err)
							}
							pause(4 * time.Millisecond)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// convertTiers gives a cache of another type the tiers that tiers gives.
func convertTiers(cfg *dewar.Config[int, int64], tiers func(*config)) {
	var like config
	tiers(&like)
	switch like.Local.(type) {
	case memory.Config[string]:
		cfg.Local = memory.Config[int64]{MaxEntries: 1000}
	case memory.Otter[string]:
		cfg.Local = memory.Otter[int64]{MaxEntries: 1000}
	}
	if like.Remote != nil {
		cfg.Remote = &dewartest.Chaos[int64]{
			Remote: dewartest.NewRemote[int64](),
			Intercept: func(string, []string) error {
				if rand.IntN(2) == 0 {
					time.Sleep(rand.N(3 * time.Millisecond))
				}
				return nil
			},
		}
	}
}

func TestABatchIsOneRoundTripPerStep(t *testing.T) {
	for range 100 { // what is written behind depends on the scheduler
		synctest.Test(t, func(t *testing.T) {
			srv := newServer()
			o := newOrigin(0)
			cfg := batched(o)
			cfg.Remote = srv
			c := open(t, cfg)
			ks := keys(100)
			if vs, err := c.GetMany(t.Context(), ks); len(vs) != 100 || err != nil {
				t.Fatal(len(vs), err)
			}
			if err := c.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			n := srv.Counts()
			if n.Read.Calls != 1 || n.Lease.Calls != 1 || n.Fill.Calls != 1 || n.Fill.Keys != 100 || srv.Len() != 100 {
				t.Fatalf("%+v", n)
			}
			other := open(t, cfg)
			srv.ResetCounts()
			if vs, err := other.GetMany(t.Context(), ks); len(vs) != 100 || err != nil {
				t.Fatal(len(vs), err)
			}
			if n := srv.Counts(); n.Read.Calls != 1 || n.Lease.Calls != 0 || n.Fill.Calls != 0 || len(o.asked()) != 1 {
				t.Fatalf("%+v", n)
			}
		})
	}
}

func TestABatchThatStartsOverDoesSoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer()
		o := newOrigin(100 * time.Millisecond)
		cfg := batched(o)
		cfg.Remote = srv
		first := open(t, cfg)
		ks := keys(50)
		if _, err := first.GetMany(t.Context(), ks); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		cfg.Remote = slowRemote(srv, 10*time.Millisecond)
		c := open(t, cfg)
		go c.GetMany(t.Context(), ks) // will be answered by the remote tier
		synctest.Wait()
		begun := time.Now()
		if err := c.Refresh(t.Context(), ks...); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 200*time.Millisecond || len(o.asked()) > 2 {
			t.Errorf("%v and %s", took, fmt.Sprint(len(o.asked())-1, " calls"))
		}
	})
}
