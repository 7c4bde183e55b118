package dewar_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Read one value through the cache: the first Get asks the origin, those that
// follow within the TTL do not.
func ExampleCache_Get() {
	asked := 0
	titles, err := dewar.New(dewar.Config[string, string]{
		Name:  "titles",
		TTL:   30 * time.Second,
		Local: memory.Config[string]{MaxEntries: 100_000},
		Load: func(_ context.Context, id string) (string, error) {
			asked++
			return "Title of " + id, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer titles.Close()

	ctx := context.Background()
	for range 3 {
		title, err := titles.Get(ctx, "v1")
		fmt.Println(title, err)
	}
	fmt.Println("asked", asked, "time")
	// Output:
	// Title of v1 <nil>
	// Title of v1 <nil>
	// Title of v1 <nil>
	// asked 1 time
}
