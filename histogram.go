package dewar

import (
	"math"
	"sync/atomic"
	"time"
)

// HistogramBuckets is how many buckets a [Histogram] has.
const HistogramBuckets = histogramHigh - histogramLow + 2

// Bucket i of a histogram ends at 2^(i/4 + histogramLow/4): schema 2 of
// Prometheus's native histograms, from about a microsecond to twelve days.
const (
	histogramLow  = -80
	histogramHigh = 80
)

// Histogram is a snapshot of how often values of each size were seen. Each
// bucket's bound is the one before times the fourth root of two, so whatever is
// read from it is at most 19 % too high. Times are in seconds.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets [HistogramBuckets]uint64 // not cumulative; see HistogramBound
}

// HistogramBound is the upper bound, inclusive, of bucket i; that of the last
// is infinite.
func HistogramBound(i int) float64 {
	if i >= HistogramBuckets-1 {
		return math.Inf(1)
	}
	return math.Ldexp(2*octave[i%4], i/4+histogramLow/4)
}

// Quantile returns a bound that a share of q, from 0 to 1, of the values does
// not exceed; 0 when there are none. Of values above the last finite bound,
// which is 2^20, that is what it returns.
func (h *Histogram) Quantile(q float64) float64 {
	if h.Count == 0 {
		return 0
	}
	if q = min(q, 1); !(q > 0) { // NaN too
		q = 0
	}
	rank, seen := max(1, uint64(math.Ceil(q*float64(h.Count)))), uint64(0)
	for i, n := range h.Buckets {
		if seen += n; seen >= rank {
			return HistogramBound(min(i, HistogramBuckets-2))
		}
	}
	return HistogramBound(HistogramBuckets - 2)
}

// Since returns what was seen after an earlier snapshot of the same histogram
// was taken.
func (h Histogram) Since(before *Histogram) Histogram {
	h.Count -= before.Count
	h.Sum -= before.Sum
	for i := range h.Buckets {
		h.Buckets[i] -= before.Buckets[i]
	}
	return h
}

// histogram counts values. It is off the hit path.
type histogram struct {
	sum     atomic.Uint64 // of the values, as the bits of a float64: ages of days would soon fill an integer
	buckets [HistogramBuckets]atomic.Uint64
}

func (h *histogram) seeTime(d time.Duration) { h.see(max(0, d).Seconds()) }

func (h *histogram) see(v float64) {
	h.buckets[bucketOf(v)].Add(1)
	for added := false; !added; {
		sum := h.sum.Load()
		added = h.sum.CompareAndSwap(sum, math.Float64bits(math.Float64frombits(sum)+v))
	}
}

// octave is the fourth roots of two by which bucketOf tells the four buckets of an octave
// apart; math.Frexp's fractions lie from 0.5 up to 1.
var octave = [...]float64{0.5, 0.5 * math.Sqrt2 / 1.189207115002721, 0.5 * math.Sqrt2, 0.5 * math.Sqrt2 * 1.189207115002721}

// bucketOf returns the first bucket whose bound is not below v.
func bucketOf(v float64) int {
	switch {
	case !(v > 0):
		return 0
	case v > HistogramBound(HistogramBuckets-2):
		return HistogramBuckets - 1
	}
	fraction, exponent := math.Frexp(v)
	at := (exponent - 1) * 4
	for _, bound := range octave {
		if fraction > bound {
			at++
		}
	}
	return min(max(at-histogramLow, 0), HistogramBuckets-1)
}

// snapshot counts what was seen. What is being counted meanwhile may be missing
// in the sum.
func (h *histogram) snapshot() (s Histogram) {
	s.Sum = math.Float64frombits(h.sum.Load())
	for i := range h.buckets {
		n := h.buckets[i].Load()
		s.Buckets[i] = n
		s.Count += n
	}
	return s
}
