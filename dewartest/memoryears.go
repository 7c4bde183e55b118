package dewartest

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// deafAfter is after how much silence a tier counts as deaf.
const deafAfter = 2 * time.Second

// notice is one thing to be heard.
type notice struct {
	announced dewar.Announcement // unless epoch is set
	epoch     uint64             // the name has moved there
	failover  bool               // and this is why
	under     uint64             // the epoch of what was announced

	due   int64 // when it is to be heard, on dewar.Clock
	lost  bool  // it is not heard, but found to be missing
	found int64 // when at the latest
}

// ear hears, for one tier, what is announced under its name.
type ear[V any] struct {
	tier   *memoryTier[V]
	events dewar.RemoteEvents
	line   *line // what Chaos does to it

	mu    sync.Mutex // guards queue; may be taken under Remote.mu
	queue []notice

	wake chan struct{} // of one token: queue or line have changed
	quit chan struct{} // closed by close, once
	once sync.Once
	done chan struct{} // closed when run has ended

	deaf atomic.Bool // what was told last is Deaf, not Hearing

	// Of run alone.
	gap   bool   // something was missed, and this is not found out yet
	found int64  // when it is at the latest
	moved uint64 // the epoch in what was missed
}

func newEar[V any](t *memoryTier[V], events dewar.RemoteEvents) *ear[V] {
	e := &ear[V]{
		tier: t, events: events, line: &line{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if wired, ok := events.(*lineEvents); ok {
		e.line = wired.line
	}
	e.line.join(e.wake)
	return e
}

// push queues n. The caller holds Remote.mu: so all ears hear in one order. What
// a failover finds queued goes missing.
func (e *ear[V]) push(n notice) {
	e.line.meet(&n)
	e.mu.Lock()
	for i := range e.queue {
		if before := &e.queue[i]; n.failover && !before.failover {
			before.lost, before.found = true, before.due
		}
	}
	e.queue = append(e.queue, n)
	e.mu.Unlock()
	wake(e.wake)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close returns when no event is being told any more.
func (e *ear[V]) close() {
	e.once.Do(func() {
		e.line.leave(e.wake)
		close(e.quit)
	})
	<-e.done
}

func (e *ear[V]) closed() bool {
	select {
	case <-e.quit:
		return true
	default:
		return false
	}
}

// run tells events until the ear is closed.
func (e *ear[V]) run() {
	defer close(e.done)
	for {
		var again <-chan time.Time
		if d := e.listen(); d > 0 {
			again = time.After(d)
		}
		select {
		case <-e.quit:
			return
		case <-e.wake:
		case <-again:
		}
	}
}

// listen tells what can be told now, and returns after how long there may be
// more; 0: not until woken.
func (e *ear[V]) listen() time.Duration {
	for !e.closed() {
		now := dewar.Clock()
		if until := e.line.pausedUntil(); until > now {
			return time.Duration(until - now)
		}
		if since, maxAge := e.line.silent(); since != 0 {
			if told := since + int64(deafAfter); told > now {
				return time.Duration(told - now)
			}
			if !e.deaf.Swap(true) {
				e.events.Deaf(maxAge)
			}
			return 0
		}
		next, due := e.peek(now)
		missing := e.line.missing()
		switch {
		case next != nil && (next.failover || !e.gap):
			e.hear(next)
		case e.gap && (next != nil || e.deaf.Load() || now >= e.found && !missing):
			e.findGap(0)
		case e.deaf.Load():
			e.deaf.Store(false)
			e.events.Hearing()
		default:
			if e.gap && !missing {
				due = min(due, e.found)
			}
			if due == math.MaxInt64 {
				return 0
			}
			return time.Duration(due - now)
		}
	}
	return 0
}

// peek returns the first notice, if it is due, else when it will be. What is
// lost before it is noted.
func (e *ear[V]) peek(now int64) (*notice, int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) > 0 {
		n := e.queue[0]
		switch {
		case n.due > now:
			return nil, n.due
		case !n.lost:
			return &n, n.due
		}
		e.queue = e.queue[1:]
		if !e.gap {
			e.gap, e.found = true, n.found
		}
		e.moved = max(e.moved, n.epoch)
	}
	return nil, math.MaxInt64
}

// findGap tells that something was missed. Like a real tier it then compares
// epochs, and cannot know why the name has moved. failedOver is the epoch into
// which a failover has moved it, or 0.
func (e *ear[V]) findGap(failedOver uint64) {
	e.gap = false
	e.tier.gaps.Add(1)
	all := e.moved
	e.moved = 0
	var adopt func()
	if to := max(all, failedOver); to > 0 {
		adopt = func() { e.adopt(to) }
	}
	e.events.Missed(adopt)
	if all > 0 && !e.closed() {
		e.events.AnnouncedAll(func() {})
	}
}

// hear tells the first notice.
func (e *ear[V]) hear(n *notice) {
	e.mu.Lock()
	e.queue = e.queue[1:]
	e.mu.Unlock()
	switch {
	case n.failover:
		e.findGap(n.epoch) // and whatever else was missed
	case n.epoch > 0:
		// Also when the tier has moved further itself meanwhile: it may have
		// kept something between its own step and this one.
		e.events.AnnouncedAll(func() { e.adopt(n.epoch) })
	default:
		n.announced.Elsewhere = n.announced.Elsewhere || n.under != e.used()
		if !n.announced.Own {
			e.tier.heard.Add(uint64(len(n.announced.Keys)))
		}
		e.events.Announced(n.announced)
	}
}

// adopt makes the tier use epoch, unless it uses a later one.
func (e *ear[V]) adopt(epoch uint64) {
	e.tier.srv.mu.Lock()
	defer e.tier.srv.mu.Unlock()
	e.tier.epoch = max(e.tier.epoch, epoch)
}

// used returns the epoch that the tier uses.
func (e *ear[V]) used() uint64 {
	e.tier.srv.mu.Lock()
	defer e.tier.srv.mu.Unlock()
	return e.tier.epoch
}

// silence returns for how long the ear has heard nothing because it is deaf.
func (e *ear[V]) silence() (deaf bool, lasted time.Duration) {
	if since, _ := e.line.silent(); since != 0 {
		lasted = time.Duration(dewar.Clock() - since)
	}
	return e.deaf.Load(), lasted
}
