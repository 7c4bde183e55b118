package dewarprom_test

import (
	"context"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	dewarprom "github.com/dewarcache/dewar/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A registry scrapes caches through one Collector.
func Example() {
	titles, err := dewar.New(dewar.Config[string, string]{
		Name: "titles", TTL: time.Minute, Local: memory.Config[string]{},
		Load: func(_ context.Context, id string) (string, error) { return "The title of " + id, nil },
	})
	if err != nil {
		panic(err)
	}
	defer titles.Close()

	registry := prometheus.NewRegistry() // served by promhttp.HandlerFor
	registry.MustRegister(dewarprom.NewCollector(titles))

	ctx := context.Background()
	for range 3 {
		_, _ = titles.Get(ctx, "id-1")
	}
	n, err := testutil.GatherAndCount(registry, "dewar_gets_total")
	fmt.Println(n, "series of reads,", err)
	// Output: 9 series of reads, <nil>
}
