package dewar_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// perSecond counts the keys that an origin is asked for in each second.
type perSecond struct {
	mu    sync.Mutex // mu guards these
	begun time.Time
	keys  []int
}

func (p *perSecond) ask(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := int(time.Since(p.begun) / time.Second)
	for len(p.keys) <= at {
		p.keys = append(p.keys, 0)
	}
	p.keys[at] += n
}

// An event runs over its slot, and every schedule changes at once.
func TestExpiringEverythingAtOnceReloadsAtTheBucketsRate(t *testing.T) {
	const keyCount, rate = 100_000, 500
	for name, processes := range map[string]int{"one process": 1, "two on a remote tier": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := &perSecond{begun: time.Now()}
				cfg := dewar.Config[int, int]{
					Name: "schedule", TTL: time.Hour, Local: memory.Config[int]{MaxEntries: 2 * keyCount},
					Stale: dewar.Stale{WhileRevalidate: time.Hour},
					Warm:  dewar.Warm{KeysPerSecond: rate},
					LoadMany: func(_ context.Context, ks []int) (map[int]int, error) {
						asked.ask(len(ks))
						m := make(map[int]int, len(ks))
						for _, k := range ks {
							m[k] = k
						}
						time.Sleep(20 * time.Millisecond)
						return m, nil
					},
				}
				if processes > 1 {
					cfg.Remote = dewartest.NewRemote[int]()
				}
				var caches []*dewar.Cache[int, int]
				for range processes {
					c, err := dewar.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					caches = append(caches, c)
				}
				all := make([]int, keyCount)
				values := make(map[int]int, keyCount)
				for k := range all {
					all[k] = k
					values[k] = k
				}
				if err := caches[0].SetMany(t.Context(), values); err != nil {
					t.Fatal(err)
				}
				if processes > 1 {
					if _, err := caches[1].GetMany(t.Context(), all); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				asked.mu.Lock()
				asked.begun, asked.keys = time.Now(), nil
				asked.mu.Unlock()
				if err := caches[0].Expire(t.Context(), all...); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond) // the other process hears of it
				stale := 0
				for range 20 * 100 {
					for _, c := range caches {
						for range 20 {
							k, began := rand.IntN(keyCount), time.Now()
							r, err := c.GetResult(t.Context(), k)
							if err != nil || r.Value != k || time.Since(began) != 0 {
								t.Fatalf("%+v, %v after %v", r, err, time.Since(began))
							}
							if r.Status == dewar.StatusStale {
								stale++
							}
						}
					}
					time.Sleep(10 * time.Millisecond)
				}
				asked.mu.Lock()
				defer asked.mu.Unlock()
				for second, n := range asked.keys[:len(asked.keys)-1] {
					if n > rate*processes*12/10 || second > 0 && n < rate*6/10 {
						t.Errorf("second %d: %d keys; want about %d a second for each process: %v", second, n, rate, fmt.Sprint(asked.keys))
						break
					}
				}
				if stale < 10_000*processes {
					t.Error(stale, "reads were answered with a stale value")
				}
			})
		})
	}
}
