package dewar_test

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Keep the front page in the cache for ever, refreshed before it goes stale,
// whether anybody reads it or not: no reader ever waits for it.
func ExampleCache_KeepWarm() {
	var version atomic.Int64
	loaded := make(chan struct{}, 10)
	pages, err := dewar.New(dewar.Config[string, string]{
		Name:  "pages",
		TTL:   50 * time.Millisecond,
		Warm:  dewar.Warm{Ahead: 0.8, KeysPerSecond: 200},
		Local: memory.Config[string]{MaxEntries: 1000},
		Load: func(_ context.Context, path string) (string, error) {
			defer func() { loaded <- struct{}{} }()
			return fmt.Sprint(path, " version ", version.Add(1)), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer pages.Close()

	pages.KeepWarm("/")
	for range 3 {
		<-loaded // at first because it is cold, then because it is due
	}
	pages.LetGo("/")
	fmt.Println("loaded three times, read by nobody")
	// Output:
	// loaded three times, read by nobody
}
