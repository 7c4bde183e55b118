package kit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Reader reads a cache over and over on goroutines of its own, and keeps
// record.
type Reader struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	stopped sync.Once

	mu    sync.Mutex // mu guards these
	floor map[string]int64
	tally Tally
}

// Tally is what a reader has seen.
type Tally struct {
	Tiers  map[string]int // reads by where they were answered from
	Failed int
	Err    error    // of the first that failed
	Wrong  []string // values that must not have been served
	took   []time.Duration
}

// StartReader starts n goroutines that read what keys returns for each turn,
// and pause after it. They are stopped with the test.
func StartReader(tb testing.TB, c *Cache, o *Origin, n int, pause time.Duration, keys func(reader, turn int) []string) *Reader {
	r := &Reader{stop: make(chan struct{}), floor: make(map[string]int64), tally: Tally{Tiers: make(map[string]int)}}
	tb.Cleanup(r.Stop)
	for reader := range n {
		r.wg.Go(func() { // waited for by Stop
			for turn := 0; ; turn++ {
				for _, key := range keys(reader, turn) {
					r.read(c, o, key)
				}
				select {
				case <-r.stop:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	return r
}

func (r *Reader) read(c *Cache, o *Origin, key string) {
	r.mu.Lock()
	floor := r.floor[key]
	r.mu.Unlock()
	began := time.Now()
	got, err := c.GetResult(context.Background(), key)
	took := time.Since(began)
	newest := o.Version(key)

	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.tally
	t.took = append(t.took, took)
	if err != nil {
		if t.Failed++; t.Err == nil {
			t.Err = fmt.Errorf("%s: %w", key, err)
		}
		return
	}
	t.Tiers[got.Tier]++
	if v := got.Value; v.Key != key || v.Version < floor || v.Version > newest {
		t.Wrong = append(t.Wrong, fmt.Sprintf("%s: %+v from %s; from %d to %d may be served", key, v, got.Tier, floor, newest))
	}
}

// Raise makes reads that begin from now on see no version of key older than
// that.
func (r *Reader) Raise(key string, version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.floor[key] = max(version, r.floor[key])
}

// Cut returns what was seen since the last Cut.
func (r *Reader) Cut() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tally
	r.tally = Tally{Tiers: make(map[string]int)}
	return t
}

// Stop ends the reads and waits for it. It may be called again.
func (r *Reader) Stop() {
	r.stopped.Do(func() { close(r.stop) })
	r.wg.Wait()
}

// Reads returns how many reads there were.
func (t *Tally) Reads() int { return len(t.took) }

// Percentile returns what at most p of 100 reads took longer than.
func (t *Tally) Percentile(p int) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(len(t.took)-1, len(t.took)*p/100)]
}

// Check fails the test if a reader saw an error or what it must not see.
func (t *Tally) Check(tb testing.TB, who string) {
	tb.Helper()
	if t.Failed > 0 {
		tb.Errorf("%s: %d of %d reads failed, the first: %v", who, t.Failed, t.Reads(), t.Err)
	}
	for i, wrong := range t.Wrong {
		if i == 5 {
			tb.Errorf("%s: and %d more", who, len(t.Wrong)-i)
			break
		}
		tb.Errorf("%s: %s", who, wrong)
	}
}
