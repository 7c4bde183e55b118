package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// act is one scene of the play.
type act struct {
	name   string
	story  string
	length float64 // in twentieths of -duration
	rate   int     // requests a second, times -rate

	ads   int  // percent of the requests are for the same few ids
	herd  bool // very many readers ask for one id that is new
	known bool // the others ask for ids that were asked for before

	begin func(*stage) // what happens to origin and Redis; nil: nothing
}

// acts are played in this order. In an outage of the origin, readers ask for
// what was asked for before: what no cache has ever seen, no cache can answer.
var acts = []act{
	{
		name: coldStart, length: 1.25, rate: 1,
		story: "nothing is cached yet",
	},
	{
		name: steady, length: 1.5, rate: 1,
		story: "an ordinary evening",
	},
	{
		name: adBreak, length: 1.75, rate: 2, ads: 75, herd: true,
		story: "twice the requests, most for the same 8 ads, which expire together;\nand a herd of 1,000 readers asks at once for an id that is new",
	},
	{
		name: originDown, length: 1.5, rate: 1, ads: 5, known: true,
		story: "the origin refuses nearly all calls, and hangs on one in twenty for half a second",
		begin: func(s *stage) { s.origin.down.Store(true) },
	},
	{
		name: originBack, length: 1, rate: 1, ads: 5,
		story: "as if nothing had been",
		begin: func(s *stage) { s.origin.down.Store(false) },
	},
	{
		name: redisDown, length: 1, rate: 1, ads: 5,
		story: "every connection to Redis is cut, new ones are refused",
		begin: func(s *stage) {
			if s.redis != nil {
				s.redis.link.cut()
			}
		},
	},
	{
		name: redisBack, length: 1.5, rate: 1, ads: 5,
		story: "it answers again; go-redis takes up to a second to try",
		begin: func(s *stage) {
			if s.redis != nil {
				s.redis.link.mend()
			}
		},
	},
}

const (
	coldStart  = "cold start"
	steady     = "steady"
	adBreak    = "ad break"
	originDown = "origin down"
	originBack = "origin back"
	redisDown  = "Redis down"
	redisBack  = "Redis back"
)

// The systems that are compared.
const (
	nameDewar   = "dewar"
	nameNaive   = "get-then-load"
	nameNoCache = "no cache"
)

// theatre plays the acts on each system.
type theatre struct {
	set      settings
	accesses *tape
	show     *progress
}

// playAll plays on dewar alone first, then on the two that it is compared
// with, at the same time: they mostly wait.
func (th *theatre) playAll(ctx context.Context) ([]systemResult, error) {
	dewar, err := th.play(ctx, nameDewar)
	if err != nil {
		return nil, err
	}
	var naive, none systemResult
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { naive, err = th.play(ctx, nameNaive); return err })
	g.Go(func() (err error) { none, err = th.play(ctx, nameNoCache); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return []systemResult{dewar, naive, none}, nil
}

// stage is what one system plays on. Nothing of it is shared with others.
type stage struct {
	name    string
	origin  *origin
	redis   *redisStage // nil: the system uses none
	system  system
	readers *readers
}

func (th *theatre) open(name string) (*stage, error) {
	s := &stage{name: name, origin: newOrigin(), readers: newReaders(th.accesses, th.set.seed)}
	if name == nameNoCache {
		s.system = &noCache{s.origin}
		return s, nil
	}
	var err error
	if s.redis, err = openRedis(th.set.redis); err != nil {
		return nil, err
	}
	// A name of its own for each run: on a Redis that stays, it starts cold too.
	ns := "playback-" + rand.Text()[:8]
	t := newTimes(th.set)
	if name == nameNaive {
		s.system = &getThenLoad{prefix: ns + ":", rdb: s.redis.client, origin: s.origin, times: t}
		return s, nil
	}
	if s.system, err = newCached(ns, s.origin, s.redis.client, t, th.set.rate); err != nil {
		s.redis.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) close() {
	s.system.close()
	if s.redis != nil {
		s.redis.close()
	}
}

// play plays all acts on one system.
func (th *theatre) play(ctx context.Context, name string) (systemResult, error) {
	result := systemResult{Name: name}
	s, err := th.open(name)
	if err != nil {
		return result, fmt.Errorf("%s: %w", name, err)
	}
	defer s.close()
	var all measure
	curtain := time.Now()
	for i := range acts {
		a := &acts[i]
		if a.begin != nil {
			a.begin(s)
		}
		var m measure
		th.show.begins(name, a.name, &m)
		calls, ids := s.origin.calls.Load(), s.origin.ids.Load()
		began := time.Now()
		th.perform(ctx, s, a, &m)
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		r := newActResult(a.name, time.Since(began), &m, s.origin.calls.Load()-calls, s.origin.ids.Load()-ids)
		result.Acts = append(result.Acts, r)
		all.merge(&m)
		th.show.ends(name, r)
	}
	result.Total = newActResult("all acts", time.Since(curtain), &all, s.origin.calls.Load(), s.origin.ids.Load())
	result.HerdLoads = s.origin.premieres.Load()
	return result, nil
}

// perform sends the requests of an act on schedule, whatever becomes of those
// sent before, so that a slow system is measured under the load that it would
// meet. It returns when all are answered.
func (th *theatre) perform(ctx context.Context, s *stage, a *act, m *measure) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if a.herd {
		th.herd(ctx, s, m, &wg)
	}
	length := time.Duration(a.length * float64(th.set.duration) / 20)
	n := int(length.Seconds() * float64(th.set.rate*a.rate))
	began := time.Now()
	for i := range n {
		ids := s.readers.next(a)
		// Within a millisecond is on time: a timer is no better.
		early := time.Until(began.Add(length / time.Duration(n) * time.Duration(i)))
		if early > time.Millisecond && pause(ctx, early) != nil || ctx.Err() != nil {
			return
		}
		sent := time.Now()
		wg.Go(func() { th.request(ctx, s, m, ids, sent) })
	}
}

// herd sends many readers for one id at the same moment.
func (th *theatre) herd(ctx context.Context, s *stage, m *measure, wg *sync.WaitGroup) {
	gate := make(chan struct{})
	var sent time.Time // written before gate is closed
	for range herdSize {
		wg.Go(func() {
			<-gate
			th.request(ctx, s, m, []string{premiereID}, sent)
		})
	}
	sent = time.Now()
	close(gate)
}

func (th *theatre) request(ctx context.Context, s *stage, m *measure, ids []string, sent time.Time) {
	ctx, cancel := context.WithTimeout(ctx, th.set.patience)
	defer cancel()
	var a answers
	var err error
	if len(ids) == 1 {
		a, err = s.system.video(ctx, ids[0])
	} else {
		a, err = s.system.page(ctx, ids)
	}
	m.add(time.Since(sent), len(ids), a, err)
}
