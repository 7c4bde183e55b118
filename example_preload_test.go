package dewar_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Fill the cache before the process reports that it is ready. Keys that fail
// are told, and do not stop the others.
func ExampleCache_Preload() {
	videos, err := dewar.New(dewar.Config[int, string]{
		Name:  "videos",
		TTL:   time.Minute,
		Local: memory.Config[string]{MaxEntries: 100_000},
		LoadMany: func(_ context.Context, ids []int) (map[int]string, error) {
			fmt.Println("asked for", len(ids))
			m := make(map[int]string)
			for _, id := range ids {
				m[id] = fmt.Sprint("video ", id)
			}
			return m, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer videos.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // ready or not
	defer cancel()
	popular := []int{7, 12, 99}
	if err := videos.Preload(ctx, slices.Values(popular)); err != nil {
		log.Print("the first readers will wait for some: ", err)
	}
	v, err := videos.Get(ctx, 12, dewar.CacheOnly())
	fmt.Println(v, err)
	// Output:
	// asked for 3
	// video 12 <nil>
}
