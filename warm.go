package dewar

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// bucket holds the keys that are due, each once, and leaks them towards the
// origin at Warm.KeysPerSecond. Reads fill it; its goroutine exists only while
// it holds something.
type bucket[K comparable, V any] struct {
	c     *Cache[K, V]
	leak  *rate.Limiter // nil: unlimited
	chunk int           // keys per call of the origin

	mu      sync.Mutex          // guards what follows
	held    map[string]struct{} // waiting, or being refreshed
	queue   []dueKey[K]         // waiting, oldest first
	running bool
	closed  bool
}

// dueKey is a key to be refreshed unless it was loaded after the given instant.
type dueKey[K comparable] struct {
	key    K
	str    string
	loaded int64
	why    dueFor
}

// dueFor says why a key is to be refreshed.
type dueFor uint8

const (
	dueAhead  dueFor = iota // it will be stale soon
	dueStale                // it is
	duePinned               // it is kept warm
)

func (b *bucket[K, V]) open(c *Cache[K, V]) {
	b.c = c
	b.held = make(map[string]struct{})
	b.chunk = 1
	if c.cfg.LoadMany != nil {
		b.chunk = c.cfg.Batch.MaxSize
	}
	if r := c.cfg.Warm.KeysPerSecond; r > 0 {
		// In any second at most r + burst keys leak.
		burst := max(1, int(r*0.2))
		b.leak = rate.NewLimiter(rate.Limit(r), burst)
		b.chunk = min(b.chunk, burst)
	}
}

// due puts a key that a read found due into the bucket. The entry's due time
// is moved to its end, so that the reads until then take the hit path.
//
// The bucket's goroutine is started last: a new goroutine is next in line on
// its processor, but waking a reader that waits for a lock would put it behind
// all others, and on a busy machine the entry would be stale by then.
func (c *Cache[K, V]) due(k K, str string, e *Entry[V]) {
	added, start := c.bucket.put(dueKey[K]{k, str, e.Loaded, dueAhead})
	if added {
		quiet := *e
		quiet.Due = e.Fresh
		c.table.replace(str, e, quiet)
	}
	if start {
		go c.bucket.run() // Close waits for it
	}
}

// revalidate puts a stale key into the bucket, unless its last load failed
// less than RetryAfter ago.
func (c *Cache[K, V]) revalidate(k K, str string, e *Entry[V]) {
	if Clock() >= c.table.resting(str) {
		c.bucket.add(dueKey[K]{k, str, e.Loaded, dueStale})
	}
}

// add puts a key into the bucket; it never waits for the origin.
func (b *bucket[K, V]) add(k dueKey[K]) {
	if _, start := b.put(k); start {
		go b.run() // Close waits for it
	}
}

// put reports whether the key is now in the bucket by this call, and whether
// the caller must start the bucket's goroutine.
func (b *bucket[K, V]) put(k dueKey[K]) (added, start bool) {
	if !b.c.dialled.policy().admits(k.why) {
		return false, false
	}
	b.mu.Lock()
	if _, held := b.held[k.str]; held || b.closed {
		b.mu.Unlock()
		return false, false
	}
	if len(b.queue) >= b.c.cfg.Warm.Bucket {
		b.mu.Unlock()
		b.c.count.add(countRefreshDropped, 1)
		if b.c.trace.RefreshDropped != nil {
			b.c.trace.RefreshDropped()
		}
		return false, false
	}
	defer b.mu.Unlock()
	b.held[k.str] = struct{}{}
	b.queue = append(b.queue, k)
	if start = !b.running; start {
		b.running = true
		b.c.wg.Add(1)
	}
	return true, start
}

// run drains the bucket until it is empty.
func (b *bucket[K, V]) run() {
	defer b.c.wg.Done()
	if b.chunk > 1 { // otherwise there is nothing to gather for
		pause(b.c.life, b.c.cfg.Warm.Gather)
	}
	for {
		s, err := b.c.origin.admitBackground(b.c.life)
		if err != nil {
			b.stop()
			return
		}
		n := b.ready()
		if n == 0 {
			s.release()
			if b.stopIfEmpty() {
				return
			}
			continue
		}
		if b.leak != nil {
			r := b.leak.ReserveN(time.Now(), n)
			if wait := r.Delay(); wait > 0 {
				r.Cancel()
				s.release() // no slot is held while waiting
				pause(b.c.life, wait)
				continue
			}
		}
		keys, last := b.take(n)
		if last {
			b.load(keys, s) // saves a goroutine's start, which takes its time on a busy machine
			return
		}
		b.c.goRun(func() { b.load(keys, s) })
	}
}

// load makes one call of the origin for keys from the bucket, except those that
// another process refreshes: what that has loaded is adopted.
func (b *bucket[K, V]) load(keys []dueKey[K], s permit) {
	defer s.release()
	defer b.done(keys)
	c := b.c
	keys = b.admitted(keys)
	fs := c.claimAll(keys, false)
	if c.hopeless() != nil { // another process may have reloaded them all the same
		fs = c.allowed(c.consult(fs))
	}
	c.loadAhead(c.leaseRefresh(fs), &s)
}

// loadAhead makes the load of a refresh or a Preload, and counts what came of it.
func (c *Cache[K, V]) loadAhead(fs []*flight[K, V], s *permit) {
	c.load(fs, s)
	loaded := 0
	for _, f := range fs {
		if f.over.Load() && f.out.kind == outcomeLoaded {
			loaded++
		}
	}
	c.count.add(countRefreshed, loaded)
}

// admitted returns the keys that the dial still lets refresh: it may have been
// turned since they fell in.
func (b *bucket[K, V]) admitted(keys []dueKey[K]) (still []dueKey[K]) {
	policy := b.c.dialled.policy()
	for _, k := range keys {
		switch {
		case policy.admits(k.why):
			still = append(still, k)
		case k.why == dueAhead:
			b.c.dueAgain(k.str, k.loaded)
		}
	}
	return still
}

// dueAgain takes back what due has done to an entry.
func (c *Cache[K, V]) dueAgain(str string, loaded int64) {
	if e := c.local.Get(str); e != nil && e.Loaded == loaded && e.Due == e.Fresh && c.rules.localTTL == 0 {
		again := *e
		again.Due = min(Clock(), e.Fresh)
		c.table.replace(str, e, again)
	}
}

// ready is how many keys can go into the next call.
func (b *bucket[K, V]) ready() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(len(b.queue), b.chunk)
}

// take takes n keys out. If they were the last, the goroutine counts as ended:
// the next key to fall in starts another.
func (b *bucket[K, V]) take(n int) (keys []dueKey[K], last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys, b.queue = b.queue[:n:n], b.queue[n:]
	if last = len(b.queue) == 0; last {
		b.queue, b.running = nil, false
	}
	return keys, last
}

func (b *bucket[K, V]) done(keys []dueKey[K]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		delete(b.held, k.str)
	}
}

func (b *bucket[K, V]) stopIfEmpty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = len(b.queue) > 0
	return !b.running
}

func (b *bucket[K, V]) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.queue {
		delete(b.held, k.str)
	}
	b.running, b.queue = false, nil
}

// close refuses further keys; the goroutine ends with the cache's life.
func (b *bucket[K, V]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *bucket[K, V]) has(str string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, held := b.held[str]
	return held
}

func (b *bucket[K, V]) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.held)
}

// claimAll claims flights for background loads. Keys with a flight under way,
// and keys that were loaded since they became due, are left out.
func (c *Cache[K, V]) claimAll(keys []dueKey[K], preload bool) []*flight[K, V] {
	fs := make([]*flight[K, V], 0, len(keys))
	flights := slab[K, V]{want: len(keys)}
	for _, k := range keys {
		n := need{background: true, preload: preload, newerThan: k.loaded}
		if cl := c.table.claim(k.key, k.str, nil, nil, Clock(), &n, &flights); cl.own {
			fs = append(fs, cl.flight)
		}
	}
	return fs
}

// Refresh loads keys now, whatever the tiers hold, and waits for it. Loads of
// a key collapse: a Refresh joins one that is under way. A key that the origin
// does not have is no error. The error of one key is its own, the error of
// several a *BatchError[K]; the old values are kept where a load fails.
func (c *Cache[K, V]) Refresh(ctx context.Context, keys ...K) error {
	rs := make([]read[K, V], len(keys))
	now := Clock()
	for i, k := range keys {
		str := c.keys.str(k)
		rs[i] = read[K, V]{key: k, str: str, seen: c.local.Get(str), now: now}
	}
	n := c.needs([]ReadOption{NoStale()})
	n.origin = true
	c.answerAll(ctx, rs, n)
	for i := range rs {
		if rs[i].result.Status == StatusLoaded && !rs[i].result.Collapsed {
			c.count.add(countRefreshed, 1)
		}
	}
	if len(rs) == 1 && rs[0].result.Status != StatusNegative {
		return rs[0].err
	}
	return c.batchError(rs)
}
