package dewar

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// journalSize bounds the keys whose deletion the journal repeats. Beyond it the
// whole name moves to its next epoch.
const journalSize = 100_000

// The journal repeats a deletion at first after journalMinWait, then twice as
// long each time up to journalMaxWait, so that the fleet hears of it soon
// after the remote tier is back.
const (
	journalMinWait = 50 * time.Millisecond
	journalMaxWait = time.Second
)

// journal keeps the keys whose remote copy must go but has not been confirmed
// gone, or whose deletion was not confirmed to be announced, and repeats both
// until they are. Each of its keys holds one mark in the table, so that this
// process keeps away from the remote copy. It never repeats a write of a value:
// one that arrives late would bring an old value back. Its goroutine exists
// only while it holds something.
type journal[K comparable, V any] struct {
	c *Cache[K, V]

	mu      sync.Mutex // guards what follows
	pending map[string]pending
	all     bool // everything is to be invalidated; the table is barred until it is
	adds    uint64
	running bool
	filling bool          // this has been logged since the journal was last empty
	hurry   chan struct{} // closed by close: try at once

	toldPending sparing
}

// pending is a deletion to be repeated.
type pending struct {
	added    uint64 // when it was last added, as a count
	announce bool   // tell the fleet
}

func (j *journal[K, V]) open(c *Cache[K, V]) {
	j.c = c
	j.pending = make(map[string]pending)
	j.hurry = make(chan struct{})
}

// add takes over a key and its mark. The caller is counted in the cache's wait
// group.
func (j *journal[K, V]) add(key string, announce bool) {
	j.mu.Lock()
	p, known := j.pending[key]
	if !known && len(j.pending) >= journalSize {
		full := !j.all
		j.mu.Unlock()
		if full {
			j.c.log.Warn("dewar: the journal of unconfirmed invalidations is full; all keys are invalidated once the remote tier answers", "keys", journalSize)
		}
		j.addAll()
		j.c.table.unmark(key)
		return
	}
	j.adds++
	j.pending[key] = pending{j.adds, announce || p.announce}
	j.startLocked()
	filling := len(j.pending) >= journalSize/2 && !j.filling
	j.filling = j.filling || filling
	j.mu.Unlock()
	if filling {
		j.c.log.Warn("dewar: the journal of unconfirmed invalidations is half full; once it is full all keys are invalidated", "keys", journalSize/2)
	}
	if known {
		j.c.table.unmark(key) // the key has its mark already
	}
}

// addAll makes the name move to its next epoch as soon as the remote tier
// answers. Until then this process keeps away from it.
func (j *journal[K, V]) addAll() {
	j.c.table.bar()
	j.mu.Lock()
	known := j.all
	j.all = true
	j.startLocked()
	j.mu.Unlock()
	if known {
		j.c.table.lift()
	}
}

func (j *journal[K, V]) startLocked() {
	if j.running {
		return
	}
	j.running = true
	j.c.goRun(j.run)
}

// insist hands a marked key to the journal whose remote copy is wrong for
// everybody, though nobody has invalidated it.
func (c *Cache[K, V]) insist(key string) { c.journal.add(key, false) }

func (j *journal[K, V]) run() {
	told := j.tellPending()
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
		told = told || j.tellPending() // an outage that begins soon after another is told of as well
		tried, confirmed := j.try()
		for tried > 0 && tried == confirmed && j.len() > 0 && j.c.write.Err() == nil {
			tried, confirmed = j.try() // it answers: on with the others
		}
		if confirmed > 0 {
			wait = journalMinWait
		}
		j.mu.Lock()
		if len(j.pending) == 0 && !j.all || j.c.write.Err() != nil {
			j.running, j.filling = false, false
			j.mu.Unlock()
			if confirmed > 0 && told {
				j.c.log.Info("dewar: all invalidations are confirmed by the remote tier")
			}
			return
		}
		j.mu.Unlock()
	}
}

func (j *journal[K, V]) tellPending() (told bool) {
	unsaid, told := j.toldPending.may()
	if told {
		j.c.log.Warn("dewar: an invalidation is not confirmed by the remote tier; it is repeated until it is", "unsaid", unsaid)
	}
	return told
}

// try repeats the deletion of what is pending.
func (j *journal[K, V]) try() (tried, confirmed int) {
	ctx, cancel := context.WithTimeout(j.c.write, j.c.cfg.Flight.Timeout)
	defer cancel()
	if all, upTo := j.wantsAll(); all {
		if j.c.remote.NextEpoch(ctx) != nil {
			return 1, 0
		}
		j.doneAll(ctx, upTo)
		return 1, 1
	}
	for _, announce := range []bool{true, false} {
		keys, added := j.some(announce)
		for i, ok := range j.c.deleted(ctx, keys, announce) {
			if ok && j.done(keys[i], added[i]) {
				confirmed++
				j.c.table.unmark(keys[i])
			}
		}
		tried += len(keys)
	}
	return tried, confirmed
}

func (j *journal[K, V]) wantsAll() (all bool, upTo uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all, j.adds
}

// doneAll takes in that the name has moved to another epoch: what was pending
// before is gone with the one it left.
func (j *journal[K, V]) doneAll(ctx context.Context, upTo uint64) {
	var gone []string
	j.mu.Lock()
	j.all = false
	for key, p := range j.pending {
		if p.added <= upTo {
			delete(j.pending, key)
			gone = append(gone, key)
		}
	}
	j.mu.Unlock()
	for _, key := range gone {
		j.c.table.unmark(key)
	}
	j.c.delete(ctx, j.c.table.unbar(), true)
}

// some returns pending keys, at most a batch.
func (j *journal[K, V]) some(announce bool) (keys []string, added []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for k, p := range j.pending {
		if p.announce != announce {
			continue
		}
		keys, added = append(keys, k), append(added, p.added)
		if len(keys) == journalBatch {
			break
		}
	}
	return keys, added
}

// journalBatch is how many keys are deleted at once.
const journalBatch = 1000

// done forgets a key. One that was added again meanwhile stays, since its newer
// deletion may have been meant for something written after this one was carried
// out.
func (j *journal[K, V]) done(key string, added uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pending[key].added != added {
		return false
	}
	delete(j.pending, key)
	return true
}

// delete deletes the remote copies of marked keys and tells the fleet, and
// leaves to the journal what is not confirmed.
func (c *Cache[K, V]) delete(ctx context.Context, keys []string, announce bool) {
	for i, ok := range c.deleted(ctx, keys, announce) {
		if ok {
			c.table.unmark(keys[i])
		} else {
			c.journal.add(keys[i], announce)
		}
	}
}

// deleted deletes the remote copies of marked keys and then, if announce, tells
// the fleet. It reports which are confirmed, and need not be repeated because
// of what another process wrote meanwhile.
func (c *Cache[K, V]) deleted(ctx context.Context, keys []string, announce bool) (ok []bool) {
	if len(keys) == 0 {
		return nil
	}
	ok = make([]bool, len(keys))
	errs := make([]error, len(keys))
	if !announce {
		c.remote.Unlink(ctx, keys, errs)
		for i, err := range errs {
			ok[i] = err == nil
		}
		return ok
	}
	c.table.beginOwn(keys)
	c.remote.Unlink(ctx, keys, errs)
	var told []string
	var at []int // of told, in keys
	for i, err := range errs {
		if err == nil {
			told, at = append(told, keys[i]), append(at, i)
		} else {
			c.table.endOwn(keys[i], Place{})
		}
	}
	if len(told) == 0 {
		return ok
	}
	places, errs := make([]Place, len(told)), make([]error, len(told))
	c.remote.Announce(ctx, AnnounceInvalidate, told, places, errs)
	for k, i := range at {
		if errs[k] != nil {
			c.table.endOwn(keys[i], Place{})
			continue
		}
		ok[i] = !c.table.endOwn(keys[i], places[k])
		c.echoes.expect(c, keys[i], places[k])
	}
	return ok
}

func (j *journal[K, V]) close() { close(j.hurry) }

// len returns how many invalidations are pending.
func (j *journal[K, V]) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := len(j.pending)
	if j.all {
		n++
	}
	return n
}

// lost tells what the journal still held when the cache was closed.
func (j *journal[K, V]) lost() error {
	if n := j.len(); n > 0 {
		return fmt.Errorf("dewar: closed with %d invalidations not confirmed: their remote copies may be served until they expire: %w",
			n, ErrInvalidationPending)
	}
	return nil
}
