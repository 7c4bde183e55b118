package dewarprom

import (
	"math"

	"github.com/dewarcache/dewar"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// dewar's buckets end at powers of the fourth root of two, as those of schema 2
// do. The first, up to about a microsecond, is the zero bucket here.
const (
	schema  = 2
	octave  = 1 << schema // buckets
	offset  = 80          // dewar's bucket 80 ends at 1, which is native bucket 0
	minimum = 1.0 / (1 << (offset / octave))
)

// histogramMetric has classic and native buckets, which no constructor of
// client_golang makes of counts.
type histogramMetric struct {
	family *histogram
	labels []*dto.LabelPair
	seen   *dewar.Histogram
}

// Desc implements prometheus.Metric.
func (m *histogramMetric) Desc() *prometheus.Desc { return m.family.desc }

// Write implements prometheus.Metric.
func (m *histogramMetric) Write(out *dto.Metric) error {
	h := &dto.Histogram{SampleCount: &m.seen.Count, SampleSum: &m.seen.Sum}
	m.classic(h)
	m.native(h)
	out.Label, out.Histogram = m.labels, h
	return nil
}

// boundsOf returns the powers of two from 2^from to 2^to.
func boundsOf(from, to int) (bounds []float64) {
	for e := from; e <= to; e++ {
		bounds = append(bounds, math.Ldexp(1, e))
	}
	return bounds
}

func (m *histogramMetric) classic(h *dto.Histogram) {
	bounds := m.family.bounds
	all, upTo := make([]dto.Bucket, len(bounds)), make([]uint64, len(bounds))
	h.Bucket = make([]*dto.Bucket, len(bounds))
	sum, next := uint64(0), 0
	for i := range bounds {
		for ; next <= offset+octave*(m.family.From+i); next++ {
			sum += m.seen.Buckets[next]
		}
		upTo[i] = sum
		all[i].CumulativeCount, all[i].UpperBound = &upTo[i], &bounds[i]
		h.Bucket[i] = &all[i]
	}
}

// bridged is how many empty buckets in a row are told as 0 rather than by
// beginning another span, which would be longer.
const bridged = 2

// native encodes the buckets that hold something as spans of neighbours, and
// each count as its difference from the one before.
func (m *histogramMetric) native(h *dto.Histogram) {
	resolution, threshold := int32(schema), minimum
	h.Schema, h.ZeroThreshold, h.ZeroCount = &resolution, &threshold, &m.seen.Buckets[0]
	h.PositiveDelta = make([]int64, 0, 2*octave)
	before := int64(0)
	tell := func(n int64) {
		*h.PositiveSpan[len(h.PositiveSpan)-1].Length++
		h.PositiveDelta = append(h.PositiveDelta, n-before)
		before = n
	}
	begin := func(gap int) {
		offset, length := int32(gap), uint32(0)
		h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: &offset, Length: &length})
	}
	next := offset // the bucket after the last that was told; spans count from native bucket 0
	for i := 1; i < dewar.HistogramBuckets; i++ {
		n := int64(m.seen.Buckets[i])
		if n == 0 {
			continue
		}
		switch gap := i - next; {
		case len(h.PositiveSpan) == 0, gap > bridged:
			begin(gap)
		default:
			for range gap {
				tell(0)
			}
		}
		tell(n)
		next = i + 1
	}
	if len(h.PositiveSpan) == 0 {
		begin(0) // an empty one, so that it is known as native all the same
	}
}
