package dewartest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// listening notes what one tier of the suite is told, and that it is told one
// thing at a time, and nothing after Close.
type listening struct {
	t       remoteT
	telling atomic.Bool

	mu     sync.Mutex // guards what follows
	heard  []dewar.Announcement
	epochs int
	ended  bool
	gate   func() // called by each event
}

func (l *listening) tell(note func()) {
	if !l.telling.CompareAndSwap(false, true) {
		l.t.Errorf("two events are told at once")
	}
	defer l.telling.Store(false)
	l.mu.Lock()
	note()
	gate := l.gate
	if l.ended {
		l.t.Errorf("an event is told after Close")
	}
	l.mu.Unlock()
	if gate != nil {
		gate()
	}
}

func (l *listening) Announced(a dewar.Announcement) {
	a.Keys = slices.Clone(a.Keys)
	l.tell(func() { l.heard = append(l.heard, a) })
}

func (l *listening) AnnouncedAll(adopt func()) {
	l.tell(func() {
		adopt()
		l.epochs++
	})
}

func (l *listening) Missed(adopt func()) {
	l.tell(func() {
		if adopt != nil {
			adopt()
		}
	})
}

func (l *listening) Deaf(time.Duration) { l.tell(func() {}) }
func (l *listening) Hearing()           { l.tell(func() {}) }

func (l *listening) announcements() []dewar.Announcement {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// all returns how often AnnouncedAll was told.
func (l *listening) all() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs
}

func (l *listening) hold(gate func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = gate
}

// end says that Close has returned.
func (l *listening) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}
