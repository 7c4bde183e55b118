package dewar_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Store what was just written, so that the next reader need not load it. Where
// several processes may write the same key at once, Invalidate instead.
func ExampleCache_Set() {
	database := map[string]int{"cart-1": 2}
	items, err := dewar.New(dewar.Config[string, int]{
		Name:  "items",
		TTL:   time.Minute,
		Local: memory.Config[int]{MaxEntries: 100_000},
		Load: func(_ context.Context, cart string) (int, error) {
			fmt.Println("asked the database")
			return database[cart], nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer items.Close()

	ctx := context.Background()
	database["cart-1"] = 3
	if err := items.Set(ctx, "cart-1", 3); err != nil {
		log.Print(err) // the value is set in this process all the same
	}
	n, err := items.Get(ctx, "cart-1")
	fmt.Println(n, err)
	// Output:
	// 3 <nil>
}
