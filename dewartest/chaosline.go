package dewartest

import (
	"slices"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// idle is how long a tier hears nothing before it looks whether it missed
// something.
const idle = time.Second

// line is what one process hears announcements through.
type line struct {
	mu     sync.Mutex // guards what follows; may be taken under Remote.mu
	lag    time.Duration
	miss   bool
	deaf   int64         // since when, on dewar.Clock; 0: it is not
	maxAge time.Duration // what Deaf tells
	paused int64         // until when
	dice   *dice         // nil: no faults
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
	if l.dice != nil {
		lag, lost := l.dice.hearing(n)
		n.due += int64(lag)
		if n.found = n.due; lost && !n.failover && !n.lost {
			n.lost, n.found = true, n.due+int64(idle)
		}
	}
}

// pause stalls everything for d.
func (l *line) pause(d time.Duration) {
	until := dewar.Clock() + int64(d)
	l.set(func() { l.paused = max(l.paused, until) })
}

func (l *line) seed(seed uint64, f Faults) {
	l.set(func() {
		l.dice = nil
		if f != (Faults{}) {
			l.dice = newDice(seed, f)
		}
	})
}

// fate returns what befalls an operation.
func (l *line) fate(op string, keys []string) (f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dice != nil {
		f = l.dice.operation(op, keys)
	}
	return f
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

// pausedUntil is until when nothing comes through. Operations go on a little
// later, so not at the same instant as hearing does.
func (l *line) pausedUntil() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}
