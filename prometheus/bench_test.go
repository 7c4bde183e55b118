package dewarprom_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
	dewarprom "github.com/dewarcache/dewar/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// BenchmarkScrapeOf100Caches scrapes a hundred caches while a goroutine reads
// from all of them, and by turns a registry that has as many series of
// client_golang's own. It reports the median of a scrape, and the ratio.
//
//	cd prometheus && go test -run '^$' -bench Scrape -benchtime 200x -benchmem .
func BenchmarkScrapeOf100Caches(b *testing.B) {
	for name, remote := range map[string]bool{"local": false, "both tiers": true} {
		b.Run(name, func(b *testing.B) {
			caches := openHundred(b, remote)
			ours := prometheus.NewRegistry()
			collector := dewarprom.NewCollector()
			for _, c := range caches {
				if err := collector.Add(c); err != nil {
					b.Fatal(err)
				}
			}
			ours.MustRegister(collector)
			defer readFromAll(caches)()
			time.Sleep(time.Second) // all have something to tell
			theirs := sameSeries(b, ours)
			var took [2][]float64
			for b.Loop() {
				for i, r := range []*prometheus.Registry{ours, theirs} {
					begun := time.Now()
					if _, err := r.Gather(); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], float64(time.Since(begun))/float64(time.Millisecond))
				}
			}
			b.ReportMetric(0, "ns/op") // of both together: means nothing
			b.ReportMetric(median(took[0]), "ms/scrape")
			b.ReportMetric(median(took[0])/median(took[1]), "ratio")
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func openHundred(b *testing.B, remote bool) []*dewar.Cache[int, int] {
	caches := make([]*dewar.Cache[int, int], 100)
	for i := range caches {
		cfg := dewar.Config[int, int]{
			Name: fmt.Sprintf("cache-%d", i), TTL: time.Hour, Local: memory.Config[int]{MaxEntries: 1000},
			Load: func(_ context.Context, k int) (int, error) { return k, nil },
		}
		if remote {
			cfg.Remote = dewartest.NewRemote[int]()
		}
		c, err := dewar.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		caches[i] = c
	}
	return caches
}

// readFromAll reads until stop is called.
func readFromAll(caches []*dewar.Cache[int, int]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		for k := 0; ctx.Err() == nil; k++ {
			_, _ = caches[k%len(caches)].Get(ctx, k/len(caches)%2000)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// sameSeries is a registry of client_golang's own metrics with the series that r
// has now.
func sameSeries(b *testing.B, r *prometheus.Registry) *prometheus.Registry {
	families, err := r.Gather()
	if err != nil {
		b.Fatal(err)
	}
	same := prometheus.NewRegistry()
	for _, f := range families {
		var names []string
		for _, l := range f.Metric[0].Label {
			names = append(names, l.GetName())
		}
		counters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.GetName(), Help: f.GetHelp()}, names)
		gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.GetName(), Help: f.GetHelp()}, names)
		var bounds []float64
		for _, bucket := range f.Metric[0].GetHistogram().GetBucket() {
			bounds = append(bounds, bucket.GetUpperBound())
		}
		histograms := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: f.GetName(), Help: f.GetHelp(), Buckets: bounds, NativeHistogramBucketFactor: 1.19,
		}, names)
		for _, m := range f.Metric {
			var values []string
			for _, l := range m.Label {
				values = append(values, l.GetValue())
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				counters.WithLabelValues(values...).Add(m.Counter.GetValue())
			case dto.MetricType_GAUGE:
				gauges.WithLabelValues(values...).Set(m.Gauge.GetValue())
			default:
				for range min(m.Histogram.GetSampleCount(), 100) {
					histograms.WithLabelValues(values...).Observe(m.Histogram.GetSampleSum() / float64(m.Histogram.GetSampleCount()))
				}
				histograms.WithLabelValues(values...) // also where nothing was seen
			}
		}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			same.MustRegister(counters)
		case dto.MetricType_GAUGE:
			same.MustRegister(gauges)
		default:
			same.MustRegister(histograms)
		}
	}
	return same
}
