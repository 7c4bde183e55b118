package dewar

import (
	"context"
	"time"
)

// guard is the bulkhead before the origin: a slot is one call of it. A
// background load needs a background token as well as a slot, and there are
// fewer of those, so that the last slots are always the readers'.
type guard struct {
	slots      chan struct{} // one element per call in progress
	background chan struct{} // one element per background call
	patience   time.Duration
}

func newGuard(g Guard) *guard {
	return &guard{
		slots:      make(chan struct{}, g.MaxConcurrent),
		background: make(chan struct{}, g.MaxBackground),
		patience:   g.QueueTimeout,
	}
}

// slot is the right to call the origin; it is given back once.
type slot struct {
	g          *guard
	background bool
	borrowed   bool // it is the slot of the load that this one is nested in
}

// acquire waits for a slot for a reader's load: ErrOverloaded when none came
// free in time, the context's cause when that ended first. outer is the loads
// that this one is nested in: where one of them holds a slot of the same
// guard, this one goes on under it, since waiting for another slot could be
// waiting for itself.
func (g *guard) acquire(ctx context.Context, outer *chain) (slot, error) {
	if outer.holds(g) {
		return slot{g: g, borrowed: true}, nil
	}
	if ctx.Err() != nil {
		return slot{}, context.Cause(ctx)
	}
	select {
	case g.slots <- struct{}{}:
		return slot{g: g}, nil
	default:
	}
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return slot{g: g}, nil
	case <-timer.C:
		return slot{}, ErrOverloaded
	case <-ctx.Done():
		return slot{}, context.Cause(ctx)
	}
}

// acquireBackground waits for a slot for as long as ctx lives: background work
// has queues of its own to wait in.
func (g *guard) acquireBackground(ctx context.Context) (slot, error) {
	select {
	case g.background <- struct{}{}:
	case <-ctx.Done():
		return slot{}, context.Cause(ctx)
	}
	select {
	case g.slots <- struct{}{}:
		return slot{g: g, background: true}, nil
	case <-ctx.Done():
		<-g.background
		return slot{}, context.Cause(ctx)
	}
}

func (s slot) release() {
	if s.borrowed {
		return
	}
	<-s.g.slots
	if s.background {
		<-s.g.background
	}
}
