package dewarprom_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	dewarprom "github.com/dewarcache/dewar/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkScrapeOf100Caches is one scrape while a goroutine reads from all of
// them.
func BenchmarkScrapeOf100Caches(b *testing.B) {
	caches := make([]*dewar.Cache[int, int], 100)
	collector := dewarprom.NewCollector()
	for i := range caches {
		c, err := dewar.New(dewar.Config[int, int]{
			Name: fmt.Sprintf("cache-%d", i), TTL: time.Hour, Local: memory.Config[int]{MaxEntries: 100},
			Load: func(_ context.Context, k int) (int, error) { return k, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		caches[i] = c
		if err := collector.Add(c); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := 0; ctx.Err() == nil; k++ {
			_, _ = caches[k%100].Get(ctx, k%1000)
		}
	}()
	r := prometheus.NewRegistry()
	r.MustRegister(collector)
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
}
