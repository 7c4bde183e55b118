package dewarprom_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// What a histogram of client_golang itself makes of the same values is the
// reference.
func TestHistogramsAreThoseThatClientGolangWouldMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		cache := dewartest.New(t, dewar.Config[int, int]{
			Name: "videos", TTL: time.Hour,
			Flight: dewar.Flight{Timeout: time.Hour},
			Load: func(_ context.Context, k int) (int, error) {
				time.Sleep(took)
				return k, nil
			},
		})
		var bounds []float64
		for b := 1.0 / 1024; b <= 16; b *= 2 {
			bounds = append(bounds, b)
		}
		reference := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dewar_load_seconds", Buckets: bounds,
			NativeHistogramBucketFactor: 1.19, NativeHistogramZeroThreshold: 1.0 / (1 << 20),
		})
		for k := range 400 {
			took = time.Duration(rand.ExpFloat64() * float64(time.Duration(1)<<(10+rand.IntN(24))))
			if k < 3 {
				took = time.Duration([]int64{0, int64(time.Second), int64(30 * time.Second)}[k])
			}
			if _, err := cache.Get(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			reference.Observe(took.Seconds())
		}
		var want dto.Metric
		if err := reference.Write(&want); err != nil {
			t.Fatal(err)
		}
		got := gather(t, cache)["dewar_load_seconds"].GetMetric()[0].GetHistogram()
		w := want.GetHistogram()
		w.CreatedTimestamp = nil
		if diff := got.GetSampleSum() - w.GetSampleSum(); diff < -0.01 || diff > 0.01 {
			t.Errorf("sum %v, want %v", got.GetSampleSum(), w.GetSampleSum())
		}
		w.SampleSum = got.SampleSum
		if !proto.Equal(got, w) {
			t.Errorf("got  %v\nwant %v", got, w)
		}
	})
}

func TestAnEmptyHistogramIsNativeToo(t *testing.T) {
	h := gather(t, remote("videos"))["dewar_load_seconds"].GetMetric()[0].GetHistogram()
	if h.Schema == nil || len(h.GetPositiveSpan()) != 1 || len(h.GetBucket()) == 0 {
		t.Error(h)
	}
}
