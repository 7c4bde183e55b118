package main

import (
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar/examples/internal/latency"
)

// measure is what is counted while an act runs. All fields are safe for
// concurrent use.
type measure struct {
	latency latency.Histogram

	requests, ids, errors        atomic.Int64
	memory, redis, origin, stale atomic.Int64
	firstErr                     atomic.Pointer[error]
}

func (m *measure) add(took time.Duration, ids int, a answers, err error) {
	m.latency.Add(took)
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
	m.latency.Merge(&other.latency)
	m.requests.Add(other.requests.Load())
	m.ids.Add(other.ids.Load())
	m.errors.Add(other.errors.Load())
	m.memory.Add(other.memory.Load())
	m.redis.Add(other.redis.Load())
	m.origin.Add(other.origin.Load())
	m.stale.Add(other.stale.Load())
	m.firstErr.CompareAndSwap(nil, other.firstErr.Load())
}
