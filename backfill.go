package dewar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// backfillSize is how many writes may wait for the remote tier. What does not
// fit is dropped and counted: the next reader's process loads it again.
const backfillSize = 16 * 1024

// remoteWrite is a fill, or the release of a fence.
type remoteWrite[V any] struct {
	fill    Fill[V]
	release bool
	marked  bool   // with release: the key is marked until it is done
	refresh Fence  // the refresh lease to be given back afterwards, if any
	lapse   int64  // when what fill.Fence names expires by itself, on Clock; 0: it is a lease
	done    func() // called when it has ended; may be nil
	queued  int64  // when, on Clock
}

// backfill writes to the remote tier behind the readers' backs, everything
// that waits in one round trip. Its goroutine exists only while there is
// something to write.
type backfill[K comparable, V any] struct {
	c *Cache[K, V]

	mu      sync.Mutex // guards what follows
	queue   []remoteWrite[V]
	keys    map[string]int // how many writes of a key have not ended
	added   uint64         // writes ever queued
	ended   uint64         // writes that have ended
	running bool
	corks   int // batches that are being added: the goroutine waits for them
	waiters []writeWaiter
	failed  int   // since the last wait
	lastErr error // of the failed ones
}

// writeWaiter waits until so many writes have ended.
type writeWaiter struct {
	until uint64
	ch    chan struct{}
}

func (b *backfill[K, V]) open(c *Cache[K, V]) {
	b.c = c
	b.keys = make(map[string]int)
}

// add queues a write; it never blocks. It reports false when there is no room.
// The caller is counted in the cache's wait group.
func (b *backfill[K, V]) add(w remoteWrite[V]) bool {
	b.mu.Lock()
	if len(b.queue) >= backfillSize {
		b.failLocked(1, errors.New("dewar: the queue of background writes is full"))
		err := b.lastErr
		b.mu.Unlock()
		b.c.count.add(countWritesDropped, 1)
		b.c.tellFailed(err)
		return false
	}
	w.queued = Clock()
	b.queue = append(b.queue, w)
	b.keys[w.fill.Key]++
	b.added++
	b.startLocked()
	b.mu.Unlock()
	return true
}

// cork holds the goroutine back while a batch is added, so that the writes of
// one batch travel together. The caller is counted in the cache's wait group,
// and calls uncork without waiting for anything.
func (b *backfill[K, V]) cork() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corks++
}

func (b *backfill[K, V]) uncork() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corks--
	b.startLocked()
}

func (b *backfill[K, V]) startLocked() {
	if !b.running && b.corks == 0 && len(b.queue) > 0 {
		b.running = true
		b.c.goRun(b.run)
	}
}

func (b *backfill[K, V]) run() {
	for {
		b.mu.Lock()
		n := min(len(b.queue), b.c.cfg.Batch.MaxSize)
		if n == 0 || b.corks > 0 {
			if b.running = false; n == 0 {
				b.queue = nil
			}
			b.mu.Unlock()
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.mu.Unlock()

		failed, err := b.write(batch)

		b.mu.Lock()
		b.ended += uint64(n)
		for _, w := range batch {
			if b.keys[w.fill.Key]--; b.keys[w.fill.Key] == 0 {
				delete(b.keys, w.fill.Key)
			}
		}
		if failed > 0 {
			b.failLocked(failed, err)
		}
		kept := b.waiters[:0]
		for _, w := range b.waiters {
			if w.until <= b.ended {
				close(w.ch)
			} else {
				kept = append(kept, w)
			}
		}
		b.waiters = kept
		b.mu.Unlock()
		if failed > 0 {
			b.c.tellFailed(err)
		}
	}
}

// write carries out a batch and returns how many of it failed.
func (b *backfill[K, V]) write(batch []remoteWrite[V]) (failed int, last error) {
	c := b.c
	ctx, cancel := context.WithTimeout(c.write, c.cfg.Flight.Timeout)
	defer cancel()
	fills := make([]Fill[V], 0, len(batch))
	queued := make([]*remoteWrite[V], 0, len(batch)) // of fills
	var releases []Fill[V]
	var marked []int // of releases
	for i := range batch {
		w := &batch[i]
		if w.refresh != (Fence{}) {
			releases = append(releases, Fill[V]{Key: w.fill.Key, Fence: w.refresh, Refresh: true})
		}
		if !w.release {
			fills, queued = append(fills, w.fill), append(queued, w)
			continue
		}
		if w.marked {
			marked = append(marked, len(releases))
		}
		releases = append(releases, w.fill)
	}
	if len(fills) > 0 {
		c.fillRemote(ctx, fills)
	}
	refused, now := 0, Clock()
	for i, f := range fills {
		switch {
		case f.Err == nil:
			c.seen.backfillDelay.seeTime(time.Duration(now - queued[i].queued))
		case errors.Is(f.Err, ErrFenced):
			refused++
			// Not where the old value has merely reached its end meanwhile.
			if lapse := queued[i].lapse; lapse == 0 || now < lapse {
				c.table.forget(f.Key, f.Entry.Loaded)
				c.pins.poke(f.Key)
			}
		default:
			failed, last = failed+1, f.Err
		}
		if errors.Is(f.Err, ErrUnencodable) {
			releases = append(releases, f) // or its lease would stand in others' way
		}
	}
	if len(releases) > 0 {
		c.remote.Release(ctx, releases)
	}
	for _, i := range marked {
		if r := &releases[i]; r.Err == nil || errors.Is(r.Err, ErrFenced) {
			c.table.unmark(r.Key)
		} else {
			c.insist(r.Key)
		}
	}
	c.count.add(countFilled, len(fills)-refused-failed)
	c.count.add(countFillsRefused, refused)
	c.count.add(countWritesFailed, failed)
	for _, w := range batch {
		if w.done != nil {
			w.done()
		}
	}
	return failed, last
}

// fillRemote makes one round trip that writes.
func (c *Cache[K, V]) fillRemote(ctx context.Context, fills []Fill[V]) {
	begun := Clock()
	c.remote.Fill(ctx, fills)
	c.seen.fillTime.seeTime(time.Duration(Clock() - begun))
}

func (b *backfill[K, V]) failLocked(n int, err error) {
	b.failed += n
	b.lastErr = err
}

func (b *backfill[K, V]) wait(ctx context.Context) error {
	b.mu.Lock()
	var ch chan struct{}
	if b.ended < b.added {
		ch = make(chan struct{})
		b.waiters = append(b.waiters, writeWaiter{b.added, ch})
	}
	b.mu.Unlock()
	if ch != nil {
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.lost()
}

// written returns a channel that is closed once the writes that are on their
// way now to keys of the flights that want it have ended; nil when there is
// none.
func (b *backfill[K, V]) written(fs []*flight[K, V], want func(*need) bool) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) == 0 {
		return nil
	}
	for _, f := range fs {
		if want(f.need) && b.keys[f.str] > 0 {
			ch := make(chan struct{})
			b.waiters = append(b.waiters, writeWaiter{b.added, ch})
			return ch
		}
	}
	return nil
}

// lost tells how many writes failed since it was last asked.
func (b *backfill[K, V]) lost() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.failed, b.lastErr
	b.failed, b.lastErr = 0, nil
	if n == 0 {
		return nil
	}
	return fmt.Errorf("dewar: %d background writes to the remote tier failed, the last: %w", n, err)
}

func (b *backfill[K, V]) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.added - b.ended)
}

// room waits while the queue is more than half full: those who can wait leave
// the rest of it to those who cannot.
func (b *backfill[K, V]) room(ctx context.Context) {
	b.mu.Lock()
	var ch chan struct{}
	if b.added-b.ended > backfillSize/2 {
		ch = make(chan struct{})
		b.waiters = append(b.waiters, writeWaiter{b.added - backfillSize/2, ch})
	}
	b.mu.Unlock()
	if ch != nil {
		select {
		case <-ch:
		case <-ctx.Done():
		}
	}
}

// tellFailed tells trace and log of failed background writes.
func (c *Cache[K, V]) tellFailed(err error) {
	if c.trace.WriteFailed != nil {
		c.trace.WriteFailed(err)
	}
	if unsaid, yes := c.toldFailed.may(); yes {
		c.log.Warn("dewar: background writes to the remote tier fail", "error", err, "unsaid", unsaid)
	}
}
