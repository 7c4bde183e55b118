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

// missed takes in that announcements may have been missed: it returns the keys,
// marked, whose writes they may have concerned, and whether there may be more.
func (e *echoes[K, V]) missed(c *Cache[K, V]) (again []string, all bool) {
	e.mu.Lock()
	queue := e.queue
	e.queue, all, e.lost = nil, e.lost, false
	e.mu.Unlock()
	for _, q := range queue {
		if c.table.missedEcho(q.key) {
			again = append(again, q.key)
		}
	}
	c.table.missedRunning()
	return again, all
}

// missedEcho marks a key whose announced write has not been heard of. A write
// that is still running does the same at its end.
func (t *table[K, V]) missedEcho(key string) bool {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.own[key]
	if o == nil || s.closed || o.running > 0 {
		return false
	}
	delete(s.own, key)
	s.marks[key] = mark{s.marks[key].writes + 1, t.writes.Load()}
	return true
}

// missedRunning makes all writes under way delete once more at their end.
func (t *table[K, V]) missedRunning() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, o := range s.own {
			o.again = o.again || o.running > 0
		}
		s.mu.Unlock()
	}
}
