package dewar_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestCloseWaitsForLookUpsOfLeavingAndStayingCallers(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	seed, _ := dewar.New(fleetConfig{Name: "wg", TTL: time.Hour, Remote: srv, Load: func(_ context.Context, k string) (string, error) { return k, nil }})
	for i := range 64 {
		_, _ = seed.Get(context.Background(), fmt.Sprint(i))
	}
	_ = seed.Wait(context.Background())
	begun := time.Now()
	for time.Since(begun) < 2*time.Second {
		c, err := dewar.New(fleetConfig{Name: "wg", TTL: time.Hour, Remote: srv, Load: func(_ context.Context, k string) (string, error) { return k, nil }})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 20 {
					ctx := context.Background()
					if i%2 == 0 {
						ctx = t.Context()
					}
					_, _ = c.Get(ctx, fmt.Sprint((i*20+j)%64))
				}
			})
		}
		time.Sleep(time.Duration(time.Now().UnixNano() % 300_000))
		_ = c.Close()
		wg.Wait()
	}
}
