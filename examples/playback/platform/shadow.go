package platform

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// shadow asks the path that a player was not sent to as well, behind its back,
// and compares. It never holds up an answer: what it has no time for is dropped.
type shadow struct {
	p     *Platform
	share atomic.Uint64 // of 1<<32: how many answers are compared

	jobs chan shadowJob
	life context.Context // ends with close
	end  context.CancelFunc
	wg   sync.WaitGroup // the workers

	mu     sync.Mutex // mu guards what follows
	counts ShadowStats
}

// shadowJob is an answer to be compared: the one of the path that gave it.
type shadowJob struct {
	req           request
	before, after *wire.Answer // old path's, new path's; one is nil
}

// ShadowStats is what came of the comparisons.
type ShadowStats struct {
	Compared int64            `json:"compared"` // answers
	Same     int64            `json:"same"`     // without any difference
	Known    map[string]int64 `json:"known"`    // harmless differences, by kind
	Real     int64            `json:"real"`
	Dropped  int64            `json:"dropped"` // there was no time to compare them
	Failed   int64            `json:"failed"`  // the other path did not answer

	// Samples are the first difference of each kind, in the order in which
	// they turned up.
	Samples []Difference `json:"samples"`
}

const (
	shadowWorkers = 4
	shadowQueue   = 256
	shadowFor     = 5 * time.Second // a comparison
)

func newShadow(p *Platform) *shadow {
	s := &shadow{p: p, jobs: make(chan shadowJob, shadowQueue)}
	s.counts.Known = make(map[string]int64)
	s.life, s.end = context.WithCancel(context.Background())
	for range shadowWorkers {
		s.wg.Go(s.work) // close waits for it
	}
	return s
}

// setShare sets how many answers are compared, 0 to 1.
func (s *shadow) setShare(share float64) { s.share.Store(uint64(share * (1 << 32))) }

// wanted reports whether the next answer is to be compared.
func (s *shadow) wanted() bool { return uint64(rand.Uint32()) < s.share.Load() }

func (s *shadow) offer(job shadowJob) {
	select {
	case s.jobs <- job:
	default:
		s.mu.Lock()
		s.counts.Dropped++
		s.mu.Unlock()
	}
}

func (s *shadow) work() {
	for {
		select {
		case job := <-s.jobs:
			s.compare(job)
		case <-s.life.Done():
			return
		}
	}
}

func (s *shadow) compare(job shadowJob) {
	ctx, cancel := context.WithTimeout(s.life, shadowFor)
	defer cancel()
	var err error
	switch {
	case job.before == nil:
		job.before, err = s.p.legacy.playback(ctx, job.req)
	default:
		a := s.p.answer(ctx, job.req)
		job.after = &a.Answer
		err = ctx.Err()
	}
	var found []Difference
	if err == nil {
		found = compare(job.before, job.after)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.counts.Failed++
		return
	}
	s.countLocked(found)
}

func (s *shadow) countLocked(found []Difference) {
	s.counts.Compared++
	if len(found) == 0 {
		s.counts.Same++
	}
	for _, d := range found {
		n := s.counts.Known[d.Kind]
		if d.Kind == Real {
			n = s.counts.Real
			s.counts.Real++
		} else {
			s.counts.Known[d.Kind]++
		}
		if n == 0 {
			s.counts.Samples = append(s.counts.Samples, d)
		}
	}
}

func (s *shadow) stats() ShadowStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Known = make(map[string]int64)
	for kind, n := range s.counts.Known {
		c.Known[kind] = n
	}
	c.Samples = append([]Difference(nil), c.Samples...)
	return c
}

func (s *shadow) close() {
	s.end()
	s.wg.Wait()
}
