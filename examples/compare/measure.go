package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets that are logarithmic in the large
// and linear in the small, as HDR histograms do: 32 buckets for each power of
// two of nanoseconds, so that a percentile is exact to 3 %.
const (
	bucketBits  = 5
	bucketCount = (64 - bucketBits) << bucketBits
)

type histogram struct {
	counts [bucketCount]atomic.Int64
}

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

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

// percentile returns the duration that the fraction p of all does not exceed.
func (h *histogram) percentile(p float64) time.Duration {
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

// measure is what is counted while an act runs. All fields are safe for
// concurrent use.
type measure struct {
	latency histogram

	requests, ids, errors        atomic.Int64
	memory, redis, origin, stale atomic.Int64
	firstErr                     atomic.Pointer[error]
}

func (m *measure) add(took time.Duration, ids int, a answers, err error) {
	m.latency.add(took)
	m.requests.Add(1)
	m.ids.Add(int64(ids))
	m.memory.Add(int64(a.memory))
	m.redis.Add(int64(a.redis))
	m.origin.Add(int64(a.origin))
	m.stale.Add(int64(a.stale))
	if err != nil {
		m.fail(err)
	}
}

func (m *measure) fail(err error) {
	m.errors.Add(1)
	m.firstErr.CompareAndSwap(nil, &err)
}

// merge adds what other counted.
func (m *measure) merge(other *measure) {
	for i := range m.latency.counts {
		m.latency.counts[i].Add(other.latency.counts[i].Load())
	}
	m.requests.Add(other.requests.Load())
	m.ids.Add(other.ids.Load())
	m.errors.Add(other.errors.Load())
	m.memory.Add(other.memory.Load())
	m.redis.Add(other.redis.Load())
	m.origin.Add(other.origin.Load())
	m.stale.Add(other.stale.Load())
	m.firstErr.CompareAndSwap(nil, other.firstErr.Load())
}
