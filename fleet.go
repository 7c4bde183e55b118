package dewar

import (
	"context"
	"time"
)

// This file is what a cache hears of the other processes of its fleet, and how
// writers of one key in two processes are settled.
//
// A write of ours takes its place among the announcements only at its end.
// Another process's write of the key that stands before it may have run at the
// same time:
//
//	A: Set(old) takes the lease
//	B:                           Invalidate: deletes, announces
//	A: finds no lease, deletes, announces       - or, had A come later:
//	A: takes the lease, fills the old value, announces
//
// In the last case B's deletion has been undone. So whoever hears of another's
// write while one of its own has begun and was not heard of yet, deletes once
// more when that has ended. Two deletions undo nothing, so this is done only
// where one of the two is a Set: else two processes that invalidate the same
// key would answer each other for ever.

// ownWrite is the writes of a key by this process that it has not heard of yet.
type ownWrite struct {
	running int   // begun and not ended
	sets    bool  // a Set among them
	again   bool  // to be deleted once more when they have ended
	place   Place // of the last that was announced
}

// beginOwnLocked notes a write that begins.
func (s *shard[K, V]) beginOwnLocked(key string, sets bool) {
	o := s.own[key]
	if o == nil {
		o = new(ownWrite)
		s.own[key] = o
	}
	o.running++
	o.sets = o.sets || sets
}

// beginOwn notes deletions that begin.
func (t *table[K, V]) beginOwn(keys []string) {
	for _, key := range keys {
		s, _ := t.of(key)
		s.mu.Lock()
		s.beginOwnLocked(key, false)
		s.mu.Unlock()
	}
}

// endOwn notes that a write has ended: announced at place or, where that is
// zero, handed to the journal. It reports whether the key is to be deleted once
// more, which the journal does anyway.
func (t *table[K, V]) endOwn(key string, place Place) (again bool) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.own[key]
	o.running--
	if o.place.Before(place) {
		o.place = place
	}
	if o.running == 0 {
		again, o.again = o.again && place != Place{}, false
		if o.place == (Place{}) {
			delete(s.own, key)
		}
	}
	return again
}

// ended takes the mark of a write that was announced, unless the key must be
// deleted once more. The caller is counted in the wait group.
func (c *Cache[K, V]) ended(key string, place Place) {
	again := c.table.endOwn(key, place)
	c.echoes.expect(c, key, place)
	if !again {
		c.table.unmark(key)
		return
	}
	c.goRun(func() {
		ctx, cancel := context.WithTimeout(c.write, c.cfg.Flight.Timeout)
		defer cancel()
		c.delete(ctx, []string{key}, true)
	})
}

// concurrentLocked reports whether a write of ours may have run at the same
// time as the one heard of, so that the key must be deleted once more now. If
// ours is still under way that is left to its end.
func (s *shard[K, V]) concurrentLocked(key string, a *Announcement) (now bool) {
	o := s.own[key]
	if o == nil || a.Kind != AnnounceSet && !o.sets {
		return false
	}
	if o.running > 0 {
		o.again = true
		return false
	}
	return a.Place.Before(o.place)
}

// echo is a write of ours that was announced and that we have not heard of.
type echo struct {
	key   string
	place Place
}

// maxEchoes bounds what a process that hears nothing remembers of its writes.
const maxEchoes = 100_000

// heard forgets the writes of ours that stand before or at place.
func (t *table[K, V]) heard(e echo) {
	s, _ := t.of(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.own[e.key]; o != nil && o.running == 0 && !e.place.Before(o.place) {
		delete(s.own, e.key)
	}
}

// fleet implements RemoteEvents.
type fleet[K comparable, V any] struct {
	c      *Cache[K, V]
	opened chan struct{} // closed when OpenRemote has returned
}

// Announced takes in what some process, perhaps this one, has done to keys.
func (h *fleet[K, V]) Announced(a Announcement) {
	c := h.c
	c.echoes.heard(c, a.Place)
	if a.Own {
		return
	}
	var again, drop []string
	for _, key := range a.Keys {
		concurrent, ok := c.table.hear(key, &a, func() {
			if a.Kind == AnnounceExpire && !a.Elsewhere && c.rules.keep > 0 {
				c.makeStale(key)
			} else {
				c.local.Delete(key)
			}
		})
		switch {
		case !ok:
			return // closed
		case concurrent:
			again = append(again, key)
		case a.Elsewhere:
			drop = append(drop, key)
		}
		c.pins.poke(key)
	}
	h.repeat(again, true)
	h.repeat(drop, false)
}

// hear is the local part of another process's write. If it was concurrent with
// one of ours, or has not removed this schema's remote copy, the key is marked
// for that to be done.
func (t *table[K, V]) hear(key string, a *Announcement, edit func()) (concurrent, ok bool) {
	s, stripe := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false
	}
	concurrent = s.concurrentLocked(key, a)
	if concurrent || a.Elsewhere {
		s.marks[key] = mark{s.marks[key].writes + 1, 0}
	}
	t.moveLocked(s, stripe, key, edit)
	return concurrent, true
}

// repeat deletes the remote copies of marked keys, on a goroutine of its own:
// whoever tells of the fleet does not wait.
func (h *fleet[K, V]) repeat(keys []string, announce bool) {
	c := h.c
	if len(keys) == 0 {
		return
	}
	if !c.table.enter() {
		return
	}
	go func() { // counted since enter
		defer c.wg.Done()
		<-h.opened
		if c.remote == nil {
			return // it did not open
		}
		ctx, cancel := context.WithTimeout(c.write, c.cfg.Flight.Timeout)
		defer cancel()
		c.delete(ctx, keys, announce)
	}()
}

// AnnouncedAll takes in that everything was invalidated.
func (h *fleet[K, V]) AnnouncedAll(adopt func()) {
	c := h.c
	var again []string
	err := c.table.overwriteAll(false, func() {
		if adopt != nil {
			adopt()
		}
		again = c.table.againLocked()
	})
	if err == nil {
		c.pins.pokeAll()
		h.repeat(again, true)
	}
}

// Missed doubts all that is kept locally, and deletes once more what may have
// been written by others at the same time as by us.
func (h *fleet[K, V]) Missed(adopt func()) {
	c := h.c
	if c.echoes.forget() && c.table.enter() { // first: what it bars must not be read
		c.journal.addAll()
		c.wg.Done()
	}
	var again []string
	since := c.table.doubtAll(func() {
		if adopt != nil {
			adopt()
		}
		again = c.table.againLocked()
	})
	c.doubts.change(func(d *doubt) { d.since = since })
	c.doubts.paused.Store(0)
	h.repeat(again, true)
	c.log.Warn("dewar: announcements of the fleet may have been missed; what is kept locally is compared with the remote tier as it is read")
}

// againLocked marks the keys of all writes of ours that have ended and were not
// heard of, to be deleted once more, and makes those under way do the same at
// their end: other processes may have written the keys at the same time,
// unheard, or under an epoch that we did not use yet:
//
//	A:                          B: InvalidateAll: the next epoch
//	                            C: hears of it, loads k
//	commits k, Invalidate(k)
//	deletes k under the old epoch
//	hears of the next epoch, and would find what C has loaded
//
// All shards are locked.
func (t *table[K, V]) againLocked() (keys []string) {
	for i := range t.shards {
		s := &t.shards[i]
		if s.closed {
			return keys
		}
		for key, o := range s.own {
			if o.running > 0 {
				o.again = true
				continue
			}
			delete(s.own, key)
			s.marks[key] = mark{s.marks[key].writes + 1, t.writes.Load()}
			keys = append(keys, key)
		}
	}
	return keys
}

// Deaf takes in that announcements have stopped coming.
func (h *fleet[K, V]) Deaf(maxAge time.Duration) {
	h.c.doubts.change(func(d *doubt) { d.maxAge = int64(maxAge) })
}

// Hearing takes in that they come again.
func (h *fleet[K, V]) Hearing() {
	h.c.doubts.change(func(d *doubt) { d.maxAge = 0 })
	h.c.doubts.paused.Store(0)
}
