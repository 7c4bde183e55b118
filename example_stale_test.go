package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Answer with yesterday's price rather than with an error, and tell so. Get
// does the same without telling.
func ExampleCache_GetResult() {
	down := false
	prices, err := dewar.New(dewar.Config[string, int]{
		Name:  "prices",
		TTL:   30 * time.Second,
		Stale: dewar.Stale{IfError: 24 * time.Hour, SoftTimeout: 50 * time.Millisecond},
		Local: memory.Config[int]{MaxEntries: 100_000},
		Load: func(context.Context, string) (int, error) {
			if down {
				return 0, errors.New("connection refused")
			}
			return 1299, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer prices.Close()

	ctx := context.Background()
	show := func() {
		price, err := prices.GetResult(ctx, "sku-1")
		if err != nil {
			fmt.Println("no price:", err)
			return
		}
		fmt.Println(price.Value, price.Status)
		if price.Status == dewar.StatusStale {
			fmt.Println("because:", price.Err)
		}
	}
	show()
	down = true
	prices.Expire(ctx, "sku-1") // or 30 s later
	show()
	// Output:
	// 1299 loaded
	// 1299 stale
	// because: connection refused
}
