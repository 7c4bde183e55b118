package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Two caches ask the same service. When it is sick, what one of them has met
// with spares the other the same: its stale values are served at once, and what
// it does not have fails at once.
func ExampleNewOrigin() {
	down := false
	catalog := dewar.NewOrigin("catalog", dewar.Guard{
		MaxConcurrent: 32,
		Breaker:       dewar.Breaker{MinRequests: 5},
	})
	open := func(name string) *dewar.Cache[string, string] {
		c, err := dewar.New(dewar.Config[string, string]{
			Name: name, TTL: 30 * time.Second,
			Stale:  dewar.Stale{IfError: time.Hour},
			Local:  memory.Config[string]{MaxEntries: 100_000},
			Origin: catalog,
			Load: func(_ context.Context, id string) (string, error) {
				if down {
					return "", errors.New("connection refused")
				}
				return name + " of " + id, nil
			},
		})
		if err != nil {
			panic(err)
		}
		return c
	}
	titles, posters := open("title"), open("poster")
	defer titles.Close()
	defer posters.Close()

	ctx := context.Background()
	fmt.Println(titles.Get(ctx, "id-1"))
	titles.Expire(ctx, "id-1") // or 30 s later
	down = true
	for id := range 5 {
		posters.Get(ctx, fmt.Sprint("id-", id))
	}
	fmt.Println("the breaker is", catalog.Stats().Breaker)

	title, err := titles.GetResult(ctx, "id-1")
	fmt.Println(title.Value, err)
	fmt.Println(title.Status, errors.Is(title.Err, dewar.ErrBreakerOpen))
	_, err = titles.Get(ctx, "id-2")
	fmt.Println(err)
	// Output:
	// title of id-1 <nil>
	// the breaker is open
	// title of id-1 <nil>
	// stale true
	// dewar: not loaded, the origin's breaker is open: origin "catalog"
}
