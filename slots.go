package dewar

import (
	"container/list"
	"context"
	"math"
	"sync"
	"time"
)

// slots is the bulkhead: how many calls may run at once, and who waits for one.
//
// Who came first is next, as long as nobody has waited for long. Once somebody
// has, there is more to do than can be done, and the reader who came last is
// next: were it the first, every slot would go to who has waited for nearly
// Guard.QueueTimeout, and the origin be busy for readers who have left.
type slots struct {
	max  int
	long int64 // how long the first may have waited, ns

	mu      sync.Mutex // mu guards what follows
	free    int
	waiting list.List // of *slotWaiter, the first in front; empty while any is free
}

type slotWaiter struct {
	came       int64 // on Clock
	background bool
	given      chan struct{} // closed under mu when it has a slot, and is in waiting no more
}

func newSlots(n int, queueTimeout time.Duration) *slots {
	return &slots{max: n, free: n, long: int64(queueTimeout / 10)}
}

// inUse returns how many calls are under way.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max - s.free
}

// take takes a slot if one is free.
func (s *slots) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return false
	}
	s.free--
	return true
}

// wait waits for a slot until that instant, or for as long as ctx lives.
func (s *slots) wait(ctx context.Context, until int64, background bool) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	w := &slotWaiter{came: Clock(), background: background, given: make(chan struct{})}
	place := s.waiting.PushBack(w)
	s.mu.Unlock()

	var late <-chan time.Time
	if until < math.MaxInt64 {
		timer := time.NewTimer(time.Duration(until - w.came))
		defer timer.Stop()
		late = timer.C
	}
	err := ErrOverloaded
	select {
	case <-w.given:
		return nil
	case <-late:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.given: // just now
		return nil
	default:
		s.waiting.Remove(place)
		return err
	}
}

// giveBack gives a slot to whoever is next.
func (s *slots) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.nextLocked()
	if next == nil {
		s.free++
		return
	}
	close(s.waiting.Remove(next).(*slotWaiter).given)
}

func (s *slots) nextLocked() *list.Element {
	first := s.waiting.Front()
	if first == nil {
		return nil
	}
	// Background loads have time, and are few: they keep their place.
	if w := first.Value.(*slotWaiter); w.background || Clock()-w.came < s.long {
		return first
	}
	last := s.waiting.Back()
	for last != first && last.Value.(*slotWaiter).background {
		last = last.Prev()
	}
	return last
}
