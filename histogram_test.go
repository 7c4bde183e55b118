package dewar

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestAValueIsCountedInTheFirstBucketThatReachesIt(t *testing.T) {
	values := []float64{0, -1, math.NaN(), 1e-9, math.Inf(1), 1e300}
	for i := range HistogramBuckets - 1 {
		b := HistogramBound(i)
		values = append(values, b*0.9999, b, b*1.0001)
	}
	for range 10_000 {
		values = append(values, math.Exp(rand.Float64()*40-20))
	}
	for _, v := range values {
		i := bucketOf(v)
		if !(v > 0) && i != 0 || v > 1e10 && i != HistogramBuckets-1 {
			t.Errorf("%v is in bucket %d", v, i)
		}
		if v > 0 && v > HistogramBound(i)*(1+1e-12) {
			t.Fatalf("%v is above the bound of its bucket %d: %v", v, i, HistogramBound(i))
		}
		if v > 0 && i > 0 && v <= HistogramBound(i-1)*(1-1e-12) {
			t.Fatalf("%v would have fitted into the bucket before %d, up to %v", v, i, HistogramBound(i-1))
		}
	}
}

func TestAQuantileIsAtMostAFifthTooHigh(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.seeTime(time.Duration(i) * time.Millisecond)
	}
	s := h.snapshot()
	if s.Count != 1000 || math.Abs(s.Sum-500.5) > 0.01 {
		t.Errorf("%d values, together %v s", s.Count, s.Sum)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		if got := s.Quantile(q); got < q || got > q*1.19 {
			t.Errorf("quantile %v is %v", q, got)
		}
	}
	var few histogram
	for _, v := range []float64{1, 4, 16} {
		few.see(v)
	}
	s = few.snapshot()
	for q, want := range map[float64]float64{0: 1, 0.33: 1, 0.34: 4, 0.5: 4, 0.66: 4, 0.67: 16, 1: 16} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v of three is %v, not %v", q, got, want)
		}
	}
	if empty := new(Histogram).Quantile(0.5); empty != 0 {
		t.Error("of nothing:", empty)
	}
}

func TestADifferenceOfSnapshotsIsWhatCameBetween(t *testing.T) {
	var h histogram
	h.see(1)
	before := h.snapshot()
	h.see(100)
	between := h.snapshot().Since(&before)
	if between.Count != 1 || between.Sum != 99+1 || between.Quantile(0.5) < 100 {
		t.Errorf("%d values, together %v, median %v", between.Count, between.Sum, between.Quantile(0.5))
	}
}

func TestASumHoldsTheAgesOfAnyNumberOfReads(t *testing.T) {
	const week, reads = 7 * 24 * 3600.0, 1e8
	var h histogram
	for range 1000 {
		h.see(week * reads / 1000)
	}
	if got := h.snapshot().Sum; math.Abs(got/(week*reads)-1) > 1e-9 {
		t.Errorf("the sum is %v, not %v", got, week*reads)
	}
}

func TestNoValueIsLostWhereManyAreSeenAtOnce(t *testing.T) {
	var h histogram
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50_000 {
				h.see(0.5)
			}
		})
	}
	wg.Wait()
	if s := h.snapshot(); s.Count != 200_000 || s.Sum != 100_000 {
		t.Errorf("%d values, together %v", s.Count, s.Sum)
	}
}

func TestBucketsAreExactAtTheirBounds(t *testing.T) {
	for i := range HistogramBuckets - 1 {
		b := HistogramBound(i)
		if got := bucketOf(b); got != i {
			t.Errorf("bucketOf(bound %d) = %d", i, got)
		}
		if got := bucketOf(math.Nextafter(b, math.Inf(1))); got != i+1 {
			t.Errorf("just above bound %d: %d", i, got)
		}
	}
	for v, want := range map[float64]int{math.Inf(1): HistogramBuckets - 1, math.Inf(-1): 0, -1: 0, 0: 0, 5e-324: 0, math.MaxFloat64: HistogramBuckets - 1} {
		if got := bucketOf(v); got != want {
			t.Errorf("%v: %d", v, got)
		}
	}
	if got := bucketOf(math.NaN()); got != 0 {
		t.Error(got)
	}
}

func TestQuantilesOfOddSharesAreTheFirstOrTheLast(t *testing.T) {
	var h Histogram
	h.Count, h.Buckets[80], h.Buckets[84] = 10, 5, 5
	for q, want := range map[float64]float64{-0.1: 1, 0: 1, 1: 2, 1.5: 2, math.Inf(1): 2, math.Inf(-1): 1} {
		if got := h.Quantile(q); got != want {
			t.Errorf("Quantile(%v) = %v, not %v", q, got, want)
		}
	}
	if got := h.Quantile(math.NaN()); got != 1 {
		t.Errorf("Quantile(NaN) = %v", got)
	}
}
