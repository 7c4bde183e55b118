package dewar

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// journalSize bounds the keys whose deletion the journal repeats.
const journalSize = 100_000

// The journal repeats a deletion at first after journalMinWait, then twice as
// long each time up to journalMaxWait, so that the fleet hears of it soon
// after the remote tier is back.
const (
	journalMinWait = 50 * time.Millisecond
	journalMaxWait = time.Second
)

// journal keeps the keys whose remote copy must go but has not been confirmed
// gone, and repeats the deletion until it is. Each of its keys holds one mark
// in the table, so that this process keeps away from the remote copy. It never
// repeats a write of a value: one that arrives late would bring an old value
// back. Its goroutine exists only while it holds something.
type journal[K comparable, V any] struct {
	c *Cache[K, V]

	mu      sync.Mutex        // guards what follows
	pending map[string]uint64 // key -> when it was last added, as a count
	adds    uint64
	running bool
	hurry   chan struct{} // closed by close: try at once
}

func (j *journal[K, V]) open(c *Cache[K, V]) {
	j.c = c
	j.pending = make(map[string]uint64)
	j.hurry = make(chan struct{})
}

// add takes over a key and its mark. It reports false when it is full; the
// caller keeps the mark.
func (j *journal[K, V]) add(key string) bool {
	j.mu.Lock()
	_, known := j.pending[key]
	if !known && len(j.pending) >= journalSize {
		j.mu.Unlock()
		return false
	}
	j.adds++
	j.pending[key] = j.adds
	start := !j.running
	j.running = true
	j.mu.Unlock()
	if known {
		j.c.table.unmark(key) // the key has its mark already
	}
	if start {
		j.c.log.Warn("dewar: an invalidation is not confirmed by the remote tier; it is repeated until it is")
		j.c.goRun(j.run)
	}
	return true
}

// insist hands a marked key to the journal; when that is full the mark is
// taken back, and the remote copy lives until its TTL.
func (c *Cache[K, V]) insist(key string) {
	if !c.journal.add(key) {
		c.table.unmark(key)
	}
}

func (j *journal[K, V]) run() {
	wait := journalMinWait
	hurry := j.hurry
	for {
		timer := time.NewTimer(wait + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-hurry: // closing: at once, then with the shortest pause
			hurry = nil
		case <-j.c.write.Done():
		}
		timer.Stop()
		if wait = min(2*wait, journalMaxWait); hurry == nil {
			wait = journalMinWait
		}
		tried, confirmed := j.try()
		for tried > 0 && tried == confirmed && j.len() > 0 && j.c.write.Err() == nil {
			tried, confirmed = j.try() // it answers: on with the others
		}
		if confirmed > 0 {
			wait = journalMinWait
		}
		j.mu.Lock()
		if len(j.pending) == 0 || j.c.write.Err() != nil {
			j.running = false
			j.mu.Unlock()
			if tried > 0 && confirmed > 0 {
				j.c.log.Info("dewar: all invalidations are confirmed by the remote tier")
			}
			return
		}
		j.mu.Unlock()
	}
}

// try repeats the deletion of what is pending. A key that was added again
// meanwhile stays, since its newer deletion may have been meant for something
// written after this one was carried out.
func (j *journal[K, V]) try() (tried, confirmed int) {
	j.mu.Lock()
	keys := make([]string, 0, min(len(j.pending), j.c.cfg.Batch.MaxSize))
	added := make([]uint64, 0, cap(keys))
	for k, n := range j.pending {
		if len(keys) == cap(keys) {
			break
		}
		keys = append(keys, k)
		added = append(added, n)
	}
	j.mu.Unlock()
	ctx, cancel := context.WithTimeout(j.c.write, j.c.cfg.Flight.Timeout)
	defer cancel()
	errs := make([]error, len(keys))
	j.c.remote.Unlink(ctx, keys, errs)
	for i, k := range keys {
		if errs[i] != nil {
			continue
		}
		j.mu.Lock()
		done := j.pending[k] == added[i]
		if done {
			delete(j.pending, k)
		}
		j.mu.Unlock()
		if done {
			confirmed++
			j.c.table.unmark(k)
		}
	}
	return len(keys), confirmed
}

func (j *journal[K, V]) close() { close(j.hurry) }

func (j *journal[K, V]) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending)
}

// lost tells what the journal still held when the cache was closed.
func (j *journal[K, V]) lost() error {
	if n := j.len(); n > 0 {
		return fmt.Errorf("dewar: closed with %d invalidations not confirmed: their remote copies may be served until they expire: %w",
			n, ErrInvalidationPending)
	}
	return nil
}
