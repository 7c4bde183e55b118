package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		srv := dewartest.NewRemote[string]()
		c, err := dewar.New(dewar.Config[string, string]{
			Name: "x", TTL: 10 * time.Second, Jitter: -1,
			Stale:  dewar.Stale{IfError: time.Hour},
			Local:  memory.Config[string]{MaxEntries: 1000},
			Remote: srv,
			LoadMany: func(ctx context.Context, ks []string) (map[string]string, error) {
				loads.Add(1)
				time.Sleep(20 * time.Millisecond)
				if loads.Load() > 3 {
					return nil, errors.New("down")
				}
				m := map[string]string{}
				for _, k := range ks {
					if k != "gone" {
						m[k] = "v" + k
					}
				}
				return m, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := t.Context()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				v, err := c.Get(ctx, "a")
				if v != "va" || err != nil {
					t.Error(v, err)
				}
			})
		}
		wg.Wait()
		fmt.Println(loads.Load())
		r, err := c.GetManyResults(ctx, []string{"a", "b", "gone", "b"})
		fmt.Println(r, err, loads.Load())
		fmt.Println(c.Wait(ctx), c.Stats())
		time.Sleep(9 * time.Second)
		fmt.Println(c.GetResult(ctx, "a"))
		time.Sleep(100 * time.Millisecond)
		fmt.Println(c.GetResult(ctx, "a"))
		time.Sleep(20 * time.Second)
		fmt.Println(c.GetResult(ctx, "a"))
		fmt.Println(c.GetResult(ctx, "a"))
		fmt.Println(c.Stats())
		fmt.Println(c.Invalidate(ctx, "a"))
		fmt.Println(c.GetResult(ctx, "a"))
	})
}
