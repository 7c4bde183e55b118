package dewarprom

import (
	"math"

	"github.com/dewarcache/dewar"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// histogramFamily is the histograms of one name, one for each cache.
type histogramFamily struct {
	desc     *prometheus.Desc
	from, to int // classic buckets end at 2^from to 2^to
	of       func(*dewar.Stats) *dewar.Histogram
}

func newHistogram(name, help string, from, to int, of func(*dewar.Stats) *dewar.Histogram) histogramFamily {
	return histogramFamily{prometheus.NewDesc("dewar_"+name, help, []string{"cache"}, nil), from, to, of}
}

var histograms = []histogramFamily{
	newHistogram("load_seconds", "Duration of calls of the origin.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.LoadTime }),
	newHistogram("wait_seconds", "How long reads waited that had to wait for a flight.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.WaitTime }),
	newHistogram("serve_age_seconds", "Age of values served off the hit path.", -4, 14, func(s *dewar.Stats) *dewar.Histogram { return &s.ServeAge }),
	newHistogram("stale_age_seconds", "Age of stale values served.", -2, 16, func(s *dewar.Stats) *dewar.Histogram { return &s.StaleAge }),
	newHistogram("load_keys", "Keys of a call of the origin.", 0, 10, func(s *dewar.Stats) *dewar.Histogram { return &s.BatchSize }),
	newHistogram("fill_seconds", "Duration of round trips that write to the remote tier.", -12, 1, func(s *dewar.Stats) *dewar.Histogram { return &s.FillTime }),
	newHistogram("backfill_delay_seconds", "From the end of a load until its value was written to the remote tier.", -12, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.BackfillDelay }),
}

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
	family *histogramFamily
	cache  string
	seen   dewar.Histogram
}

// Desc implements prometheus.Metric.
func (m *histogramMetric) Desc() *prometheus.Desc { return m.family.desc }

// Write implements prometheus.Metric.
func (m *histogramMetric) Write(out *dto.Metric) error {
	label := "cache"
	out.Label = []*dto.LabelPair{{Name: &label, Value: &m.cache}}
	h := &dto.Histogram{SampleCount: &m.seen.Count, SampleSum: &m.seen.Sum}
	m.classic(h)
	m.native(h)
	out.Histogram = h
	return nil
}

func (m *histogramMetric) classic(h *dto.Histogram) {
	sum, next := uint64(0), 0
	for e := m.family.from; e <= m.family.to; e++ {
		for ; next <= offset+octave*e; next++ {
			sum += m.seen.Buckets[next]
		}
		upTo, bound := sum, math.Ldexp(1, e)
		h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: &upTo, UpperBound: &bound})
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
