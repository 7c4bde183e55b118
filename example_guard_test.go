package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// maintenance is a breaker that is opened by hand, and counts failures.
type maintenance struct {
	on       atomic.Bool
	failures atomic.Int64
}

var errMaintenance = errors.New("the catalog is being maintained")

func (m *maintenance) Allow() (done func(error), err error) {
	if m.on.Load() {
		return nil, errMaintenance
	}
	return func(err error) {
		if err != nil && !errors.Is(err, dewar.ErrNotCounted) {
			m.failures.Add(1)
		}
	}, nil
}

// A breaker of one's own takes the place of the built-in one. Another that fits
// is *gobreaker.TwoStepCircuitBreaker.
func ExampleCircuitBreaker() {
	breaker := new(maintenance)
	titles, err := dewar.New(dewar.Config[string, string]{
		Name: "titles", TTL: 30 * time.Second,
		Local: memory.Config[string]{MaxEntries: 100_000},
		Guard: dewar.Guard{Breaker: dewar.Breaker{Use: breaker}},
		Load: func(_ context.Context, id string) (string, error) {
			if id == "id-2" {
				return "", errors.New("connection refused")
			}
			return "title of " + id, nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer titles.Close()

	ctx := context.Background()
	fmt.Println(titles.Get(ctx, "id-1"))
	_, err = titles.Get(ctx, "id-2")
	fmt.Println(err, breaker.failures.Load())

	breaker.on.Store(true)
	fmt.Println(titles.Get(ctx, "id-1")) // a hit needs no load
	_, err = titles.Get(ctx, "id-3")
	fmt.Println(errors.Is(err, dewar.ErrBreakerOpen), errors.Is(err, errMaintenance))
	// Output:
	// title of id-1 <nil>
	// connection refused 1
	// title of id-1 <nil>
	// true true
}
