package dewarotel

import (
	"context"
	"slices"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Histograms returns a Producer of the caches' histograms, for a reader of the
// SDK: sdkmetric.WithProducer. Two caches of one name cannot be told apart.
func Histograms(caches ...Cache) sdkmetric.Producer {
	return &producer{slices.Clone(caches)}
}

type producer struct{ caches []Cache }

// began is when the program began: before anything was counted.
var began = time.Now()

// dewar's buckets end at powers of the fourth root of two, as those of scale 2
// do. Bucket 81 is the one above 1, which is number 0 there; bucket 0, up to
// about a microsecond, is the zero bucket.
const (
	scale     = 2
	first     = 81
	zeroBelow = 1.0 / (1 << 20)
)

// Produce implements sdkmetric.Producer.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	points := make([][]metricdata.ExponentialHistogramDataPoint[float64], len(metrics.Histograms))
	now := time.Now()
	for _, cache := range p.caches {
		s := cache.Stats()
		of := attribute.NewSet(attribute.String("dewar.cache.name", cache.Name()))
		for i := range metrics.Histograms {
			points[i] = append(points[i], pointOf(metrics.Histograms[i].Of(&s), of, now))
		}
	}
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}}
	for i := range metrics.Histograms {
		h := &metrics.Histograms[i]
		out.Metrics = append(out.Metrics, metricdata.Metrics{
			Name: nameOf(h.Name) + ofSuffix(h.Name), Description: h.Help, Unit: unitOf(h.Name),
			Data: metricdata.ExponentialHistogram[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points[i]},
		})
	}
	return []metricdata.ScopeMetrics{out}, nil
}

// ofSuffix tells durations apart from what is counted under the same name.
func ofSuffix(name string) string {
	if unitOf(name) == "s" {
		return ".duration"
	}
	return ""
}

func pointOf(h *dewar.Histogram, of attribute.Set, now time.Time) metricdata.ExponentialHistogramDataPoint[float64] {
	point := metricdata.ExponentialHistogramDataPoint[float64]{
		Attributes: of, StartTime: began, Time: now,
		Count: h.Count, Sum: h.Sum, Scale: scale, ZeroCount: h.Buckets[0], ZeroThreshold: zeroBelow,
	}
	low := slices.IndexFunc(h.Buckets[1:], func(n uint64) bool { return n > 0 }) + 1
	if low == 0 {
		return point
	}
	high := len(h.Buckets)
	for h.Buckets[high-1] == 0 {
		high--
	}
	point.PositiveBucket = metricdata.ExponentialBucket{Offset: int32(low - first), Counts: slices.Clone(h.Buckets[low:high])}
	return point
}
