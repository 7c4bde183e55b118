package dewartest

import (
	"slices"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// line is what one process hears announcements through.
type line struct {
	mu     sync.Mutex // guards what follows; may be taken under Remote.mu
	lag    time.Duration
	miss   bool
	deaf   int64         // since when, on dewar.Clock; 0: it is not
	maxAge time.Duration // what Deaf tells
	paused int64         // until when
	ears   []chan struct{}
}

// lineEvents tells a Remote which line the tier hears through.
type lineEvents struct {
	dewar.RemoteEvents
	line *line
}

// set changes the line and tells those who listen.
func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	for _, c := range l.ears {
		wake(c)
	}
}

func (l *line) join(c chan struct{}) { l.set(func() { l.ears = append(l.ears, c) }) }

func (l *line) leave(c chan struct{}) {
	l.set(func() {
		l.ears = slices.DeleteFunc(l.ears, func(other chan struct{}) bool { return other == c })
	})
}

// meet decides what happens to n on its way.
func (l *line) meet(n *notice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.due = dewar.Clock() + int64(l.lag)
	n.lost = l.miss && !n.failover
	n.found = n.due
}

// silent returns since when nothing comes through, or 0, and what to say.
func (l *line) silent() (since int64, maxAge time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf, l.maxAge
}

func (l *line) missing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.miss
}

func (l *line) pausedUntil() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}
