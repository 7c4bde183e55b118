package dewar

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// noContext is for log lines that belong to no call.
var noContext = context.Background()

// member is a cache, as what it shares with others knows it.
type member struct {
	trace  *Trace
	log    *slog.Logger
	keys   KeyLogging
	health func() health
	run    func(do func()) bool // on a goroutine that Close waits for; false: closed, not run
}

// health is how the loads of a cache have gone so far.
type health struct {
	loads, failed uint64
	breaker       BreakerState // of its origin
}

// audience is the open caches that share a dial or an origin.
type audience struct {
	mu      sync.Mutex // mu guards members
	members []*member
}

func (a *audience) join(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members = append(slices.Clip(a.members), m)
}

func (a *audience) leave(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members = slices.DeleteFunc(slices.Clone(a.members), func(other *member) bool { return other == m })
}

func (a *audience) all() []*member {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.members
}

// run runs do on a goroutine that the Close of an open cache waits for. Where
// there is none, nobody is left to be told of anything.
func (a *audience) run(do func()) {
	for _, m := range a.all() {
		if m.run(do) {
			return
		}
	}
}

// logger is that of the cache which has been there for longest: what is shared
// is logged once.
func (a *audience) logger() *slog.Logger {
	if all := a.all(); len(all) > 0 {
		return all[0].log
	}
	return slog.New(slog.DiscardHandler)
}

// keyLogging is KeysHashed if any of the caches hashes its keys.
func (a *audience) keyLogging() (l KeyLogging) {
	for _, m := range a.all() {
		l = max(l, m.keys)
	}
	return l
}

// deliveries tells of events in their order, one at a time, and with no lock
// held: who is told may cause the next.
type deliveries[T any] struct {
	mu      sync.Mutex // mu guards these
	waiting []T
	busy    bool // somebody is delivering
}

func (d *deliveries[T]) add(event T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, event)
}

// pending reports whether something waits that nobody is about to tell of.
func (d *deliveries[T]) pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) > 0 && !d.busy
}

// deliver tells of what waits, unless somebody else is at it: then that one
// tells of all. After a panic of whoever is told, the next to deliver goes on.
func (d *deliveries[T]) deliver(tell func(T)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy {
		return
	}
	d.busy = true
	defer func() { d.busy = false }()
	for len(d.waiting) > 0 {
		event := d.waiting[0]
		d.waiting = d.waiting[1:]
		d.tellUnlocked(tell, event)
	}
	d.waiting = nil
}

func (d *deliveries[T]) tellUnlocked(tell func(T), event T) {
	d.mu.Unlock()
	defer d.mu.Lock()
	tell(event)
}
