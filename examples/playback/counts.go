package main

import (
	"sync/atomic"

	"github.com/dewarcache/dewar/examples/internal/latency"
)

// counts is what is counted while an act is played. All fields are safe for
// concurrent use.
type counts struct {
	latency latency.Histogram // of the requests

	viewers, pages, plays atomic.Int64
	requests, retries     atomic.Int64
	errors                atomic.Int64 // plays that failed
	firstErr              atomic.Pointer[error]
}

func (c *counts) fail(err error) {
	c.errors.Add(1)
	c.firstErr.CompareAndSwap(nil, &err)
}

// merge adds what other counted.
func (c *counts) merge(other *counts) {
	c.latency.Merge(&other.latency)
	c.viewers.Add(other.viewers.Load())
	c.pages.Add(other.pages.Load())
	c.plays.Add(other.plays.Load())
	c.requests.Add(other.requests.Load())
	c.retries.Add(other.retries.Load())
	c.errors.Add(other.errors.Load())
	c.firstErr.CompareAndSwap(nil, other.firstErr.Load())
}
