package dewar

import "sync"

// echoes is the writes of ours that were announced and that we have not heard
// of, in the order of their places.
type echoes[K comparable, V any] struct {
	mu    sync.Mutex // guards what follows
	queue []echo
	last  Place // the latest that was heard
	lost  bool  // some were forgotten for want of room
}

// expect notes that a write of ours was announced at place.
func (e *echoes[K, V]) expect(c *Cache[K, V], key string, place Place) {
	e.mu.Lock()
	heard := !e.last.Before(place)
	var forgotten []echo
	if !heard {
		e.queue = append(e.queue, echo{key, place})
		if len(e.queue) > maxEchoes {
			forgotten = e.queue[:1:1]
			e.queue, e.lost = e.queue[1:], true
		}
	}
	e.mu.Unlock()
	if heard {
		c.table.heard(echo{key, place})
	}
	for _, f := range forgotten {
		c.table.heard(f)
	}
}

// heard takes in that everything up to place was heard.
func (e *echoes[K, V]) heard(c *Cache[K, V], place Place) {
	e.mu.Lock()
	if e.last.Before(place) {
		e.last = place
	}
	n := 0
	for n < len(e.queue) && !place.Before(e.queue[n].place) {
		n++
	}
	done := e.queue[:n:n]
	if e.queue = e.queue[n:]; len(e.queue) == 0 {
		e.queue = nil
	}
	e.mu.Unlock()
	for _, d := range done {
		c.table.heard(d)
	}
}

// forget forgets all, and reports whether some had been forgotten before.
func (e *echoes[K, V]) forget() (lost bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	lost = e.lost
	e.queue, e.lost, e.last = nil, false, Place{}
	return lost
}
