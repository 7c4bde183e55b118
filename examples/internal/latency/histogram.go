// Package latency counts durations, for the reports of the example programs.
package latency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histograms count durations in buckets that are logarithmic in the large
// and linear in the small, as HDR histograms do: 32 buckets for each power of
// two of nanoseconds, so that a percentile is exact to 3 %.
const (
	bucketBits  = 5
	bucketCount = (64 - bucketBits) << bucketBits
)

// Histogram counts durations. The zero value is empty; all methods are safe for
// concurrent use.
type Histogram struct {
	counts [bucketCount]atomic.Int64
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

// bucketOf returns the bucket of d: its leading bits and how many follow.
func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	shift := max(0, bits.Len64(n)-bucketBits-1)
	return shift<<bucketBits + int(n>>shift)
}

// bucketEnd returns the largest duration in a bucket.
func bucketEnd(bucket int) time.Duration {
	shift := max(0, bucket>>bucketBits-1)
	lead := uint64(bucket - shift<<bucketBits)
	return time.Duration((lead+1)<<shift - 1)
}

// Percentile returns the duration that the fraction p of all does not exceed.
func (h *Histogram) Percentile(p float64) time.Duration {
	var total int64
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	if total == 0 {
		return 0
	}
	rank := int64(math.Ceil(p * float64(total)))
	for i := range h.counts {
		if rank -= h.counts[i].Load(); rank <= 0 {
			return bucketEnd(i)
		}
	}
	return bucketEnd(bucketCount - 1)
}

// Merge adds what other counted.
func (h *Histogram) Merge(other *Histogram) {
	for i := range h.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
}
