package dewartest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// History records what the processes of a fleet read and wrote, and what their
// origin had, and finds reads that a cache must not answer so. Every value has
// a version that grows with each commit of its key:
//
//	h := dewartest.NewHistory[string](func(v Video) int64 { return v.Version })
//
//	h.Commit(k, v)                   // in the origin, before anybody can load it
//
//	end := h.Write("process a", k)   // around Invalidate or Set, after the commit
//	end(a.Invalidate(ctx, k))
//
//	answer := h.Read("process b", k) // around Get
//	answer(b.Get(ctx, k))
//
//	for _, v := range h.Check(time.Second) {
//		t.Error(v)
//	}
//
// Times are those of dewar.Clock, so that it works in a testing/synctest bubble
// as well. All methods are safe for concurrent use.
type History[K comparable, V any] struct {
	version func(V) int64

	mu   sync.Mutex // guards what follows
	step int64      // moments so far
	keys map[K]*keyHistory
	all  []written // InvalidateAlls
}

// NewHistory returns an empty history of values with versions.
func NewHistory[K comparable, V any](version func(V) int64) *History[K, V] {
	return &History[K, V]{version: version, keys: make(map[K]*keyHistory)}
}

// moment is when something happened. Steps tell what came before what, also
// within one instant of a bubble.
type moment struct{ step, at int64 }

type keyHistory struct {
	commits []committed // versions grow
	wrong   []int64     // commits whose versions do not
	writes  []written
	reads   []answered
}

type committed struct {
	version int64
	when    moment
}

type written struct {
	process      string
	began, ended moment
	everywhere   bool // the remote tier has confirmed it
}

type answered struct {
	process      string
	began, ended moment
	version      int64
}

func (h *History[K, V]) nowLocked() moment {
	h.step++
	return moment{h.step, dewar.Clock()}
}

func (h *History[K, V]) keyLocked(k K) *keyHistory {
	if h.keys[k] == nil {
		h.keys[k] = &keyHistory{}
	}
	return h.keys[k]
}

// Commit says that v is what the origin has under k from now on. The value that
// is there at the start is to be committed too.
func (h *History[K, V]) Commit(k K, v V) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, version := h.keyLocked(k), h.version(v)
	if n := len(key.commits); n > 0 && key.commits[n-1].version >= version {
		key.wrong = append(key.wrong, version)
		return
	}
	key.commits = append(key.commits, committed{version, h.nowLocked()})
}

// Write says that process begins to invalidate or set ks, and returns what is
// to be called with what that has returned. After an error that is
// dewar.ErrInvalidationPending nothing is expected of other processes, after
// any other error nothing at all.
func (h *History[K, V]) Write(process string, ks ...K) (end func(error)) {
	return h.write(process, func(w written) {
		for _, k := range ks {
			key := h.keyLocked(k)
			key.writes = append(key.writes, w)
		}
	})
}

// WriteAll is Write for an InvalidateAll.
func (h *History[K, V]) WriteAll(process string) (end func(error)) {
	return h.write(process, func(w written) { h.all = append(h.all, w) })
}

func (h *History[K, V]) write(process string, addLocked func(written)) func(error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := written{process: process, began: h.nowLocked()}
	return func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if w.everywhere = err == nil; w.everywhere || errors.Is(err, dewar.ErrInvalidationPending) {
			w.ended = h.nowLocked()
			addLocked(w)
		}
	}
}

// Read says that process begins to read k, and returns what is to be called
// with the answer. An error is none, also one that says "no such key".
func (h *History[K, V]) Read(process string, k K) (answer func(V, error)) {
	many := h.ReadMany(process)
	return func(v V, err error) {
		if err == nil {
			many(map[K]V{k: v}, nil)
		}
	}
}

// ReadMany is Read for a GetMany. Of an answer with an error what is there
// counts.
func (h *History[K, V]) ReadMany(process string) (answer func(map[K]V, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	began := h.nowLocked()
	return func(vs map[K]V, _ error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		ended := h.nowLocked()
		for k, v := range vs {
			key := h.keyLocked(k)
			key.reads = append(key.reads, answered{process, began, ended, h.version(v)})
		}
	}
}

// Violation is one read that was answered as it must not be, or one commit
// whose version is not above the one before.
type Violation[K comparable] struct {
	Process      string // who read; empty: a commit
	Key          K
	Saw, AtLeast int64         // the version read, the lowest allowed
	Writer       string        // who had told the cache of AtLeast; empty: Saw was not committed
	After        time.Duration // from when that had returned to when the read began

	step int64
}

func (v Violation[K]) String() string {
	switch {
	case v.Process == "":
		return fmt.Sprintf("key %v: version %d was committed after a version that is not lower", v.Key, v.Saw)
	case v.Writer == "":
		return fmt.Sprintf("key %v: %s read version %d, which was not committed", v.Key, v.Process, v.Saw)
	}
	return fmt.Sprintf("key %v: %s read version %d, %v after %s had written at least %d",
		v.Key, v.Process, v.Saw, v.After, v.Writer, v.AtLeast)
}

// Check returns, in order, every violation in the history so far:
//
//   - a process reads a version that is older than what was committed when a
//     Write of its own began that had returned when the read began;
//   - the same with a Write of another process that returned nil more than
//     bound before the read began;
//   - a value is read that was not committed under its key when the read ended.
//
// It changes nothing and takes about n log n for n reads and writes.
func (h *History[K, V]) Check(bound time.Duration) []Violation[K] {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []Violation[K]
	for k, key := range h.keys {
		for _, version := range key.wrong {
			found = append(found, Violation[K]{Key: k, Saw: version})
		}
		floors := key.floors(h.all, bound)
		for _, r := range key.reads {
			v := Violation[K]{Process: r.process, Key: k, Saw: r.version, step: r.began.step}
			if !key.had(r.version, r.ended) {
				found = append(found, v)
				continue
			}
			for writer, f := range floors {
				by := r.began.at
				of := f.others
				if writer == r.process {
					by, of = r.began.step, f.own
				}
				if w := of.before(by); w != nil && w.version > max(r.version, v.AtLeast) {
					v.AtLeast, v.Writer, v.After = w.version, writer, time.Duration(r.began.at-w.ended)
				}
			}
			if v.Writer != "" {
				found = append(found, v)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Violation[K]) int { return cmp.Compare(a.step, b.step) })
	return found
}

// had reports whether version was committed before when.
func (h *keyHistory) had(version int64, when moment) bool {
	i, ok := slices.BinarySearchFunc(h.commits, version, func(c committed, v int64) int { return cmp.Compare(c.version, v) })
	return ok && h.commits[i].when.step < when.step
}

// floor is the lowest version that may be read after an instant.
type floor struct {
	after, version int64 // after is a step or a time
	ended          int64 // when the write ended, on dewar.Clock
}

// floors are sorted by after, their versions not falling.
type floors []floor

// before returns the last floor from before now, or nil.
func (f floors) before(now int64) *floor {
	i := sort.Search(len(f), func(i int) bool { return f[i].after >= now })
	if i == 0 {
		return nil
	}
	return &f[i-1]
}

// floors returns, for each process, what its writes demand of its own reads, by
// step, and of those of others, by time.
func (h *keyHistory) floors(all []written, bound time.Duration) map[string]struct{ own, others floors } {
	byProcess := make(map[string]struct{ own, others floors })
	for _, w := range slices.Concat(h.writes, all) {
		n := sort.Search(len(h.commits), func(i int) bool { return h.commits[i].when.step > w.began.step })
		if n == 0 {
			continue
		}
		f := floor{after: w.ended.step, version: h.commits[n-1].version, ended: w.ended.at}
		p := byProcess[w.process]
		p.own = append(p.own, f)
		if w.everywhere && w.ended.at <= math.MaxInt64-int64(bound) {
			f.after = w.ended.at + int64(bound)
			p.others = append(p.others, f)
		}
		byProcess[w.process] = p
	}
	for _, p := range byProcess {
		p.own.rise()
		p.others.rise()
	}
	return byProcess
}

// rise sorts f and makes no floor lower than one before it.
func (f floors) rise() {
	slices.SortFunc(f, func(a, b floor) int { return cmp.Compare(a.after, b.after) })
	for i := 1; i < len(f); i++ {
		if f[i].version <= f[i-1].version {
			f[i].version, f[i].ended = f[i-1].version, f[i-1].ended
		}
	}
}
