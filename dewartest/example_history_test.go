package dewartest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// Check that nobody reads what was invalidated. Here somebody does: the loader
// asks a replica of the database that lags behind.
func ExampleHistory() {
	h := dewartest.NewHistory[string](func(version int64) int64 { return version })
	replica := int64(1)
	h.Commit("v1", replica)
	cache, err := dewar.New(dewar.Config[string, int64]{
		Name: "videos", TTL: time.Minute,
		Local: memory.Config[int64]{MaxEntries: 100},
		Load:  func(context.Context, string) (int64, error) { return replica, nil },
	})
	if err != nil {
		panic(err)
	}
	defer cache.Close()
	ctx := context.Background()
	read := func() {
		answer := h.Read("a", "v1")
		answer(cache.Get(ctx, "v1"))
	}

	read()
	h.Commit("v1", 2) // in the database, but not yet in the replica
	read()            // allowed: nobody has told the cache
	end := h.Write("a", "v1")
	end(cache.Invalidate(ctx, "v1"))
	read()

	for _, v := range h.Check(time.Second) {
		fmt.Printf("%s read version %d of %s, not %d\n", v.Process, v.Saw, v.Key, v.AtLeast)
	}
	// Output:
	// a read version 1 of v1, not 2
}
