package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/dewarcache/dewar/examples/internal/pace"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/tape"
	"golang.org/x/sync/errgroup"
)

// act is one scene of the play.
type act struct {
	name   string
	story  string
	length float64 // in units of newTimes
	rate   int     // requests a second, times -rate

	ads   int  // percent of the requests are for the same few ids
	known bool // the others ask for ids that were asked for before

	begin func(*stage) // what happens to origin and Redis first; nil: nothing

	// scene is what happens beside the requests, unless it needs a Redis that
	// the system has not got; nil: nothing. The act does not end before it.
	scene func(*theatre, context.Context, *stage, *measure)
	redis bool // the scene needs Redis
}

// acts are played in this order. In an outage of the origin, readers ask for
// what was asked for before: what no cache has ever seen, no cache can answer.
var acts = []act{
	{
		name: coldStart, length: 1, rate: 1,
		story: "nothing is cached yet",
	},
	{
		name: steady, length: 1.25, rate: 1,
		story: "an ordinary evening",
	},
	{
		name: adBreak, length: 1.5, rate: 2, ads: 75,
		story: "twice the requests, most for the same 8 ads, which expire together;\nand a herd of 1,000 readers asks at once for an id that is new",
		scene: (*theatre).herd,
	},
	{
		name: originDown, length: 1.25, rate: 1, ads: 5, known: true,
		story: "the origin refuses nearly all calls, and hangs on one in twenty for half a second",
		begin: func(s *stage) { s.origin.down.Store(true) },
	},
	{
		name: originBack, length: 1, rate: 1, ads: 5,
		story: "as if nothing had been",
		begin: func(s *stage) { s.origin.down.Store(false) },
	},
	{
		name: newTitles, length: 1, rate: 1, ads: 5,
		story: "a publisher changes the 200 titles that are read most, through one process,\nand corrects them twice while they are being loaded again; others read them all the time",
		scene: (*theatre).news, redis: true,
	},
	{
		name: redisDeaf, length: 1, rate: 1, ads: 5,
		story: "the link of one process swallows what it is sent, without an error;\nmeanwhile the titles change, through another process",
		scene: (*theatre).unheard, redis: true,
	},
	{
		name: redisHeard, length: 1, rate: 1, ads: 5,
		story: "the link is back; the process has to find out that it has missed something",
		scene: (*theatre).heard, redis: true,
	},
	{
		name: redisDown, length: 1, rate: 1, ads: 5,
		story: "every connection to Redis is cut, new ones are refused",
		begin: func(s *stage) { s.redis.Cut() },
	},
	{
		name: redisBack, length: 1.25, rate: 1, ads: 5,
		story: "it answers again; a breaker takes up to a second to try",
		begin: func(s *stage) { s.redis.Mend() },
	},
}

const (
	coldStart  = "cold start"
	steady     = "steady"
	adBreak    = "ad break"
	originDown = "origin down"
	originBack = "origin back"
	newTitles  = "new titles"
	redisDeaf  = "Redis deaf"
	redisHeard = "Redis heard"
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
	server   redisd.Server
	accesses *tape.Tape
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
	redis   *redisd.Redis // nil: the system uses none
	systems []system      // one for each process
	readers *readers
	press   *press
}

func (th *theatre) open(name string) (*stage, error) {
	titles := topVideos(th.accesses, titleCount)
	s := &stage{name: name, origin: newOrigin(titles), readers: newReaders(th.accesses, th.set.seed)}
	s.press = newPress(titles, s.origin, th.set.processes)
	if name == nameNoCache {
		for range th.set.processes {
			s.systems = append(s.systems, &noCache{s.origin})
		}
		return s, nil
	}
	var err error
	if s.redis, err = redisd.Open(th.server, th.set.processes); err != nil {
		return nil, err
	}
	// A name of its own for each run: on a Redis that stays, it starts cold too.
	ns := "compare-" + rand.Text()[:8]
	t := newTimes(th.set)
	for _, rdb := range s.redis.Clients {
		if name == nameNaive {
			s.systems = append(s.systems, &getThenLoad{prefix: ns + ":", rdb: rdb, origin: s.origin, times: t})
			continue
		}
		c, err := newCached(ns, s.origin, rdb, t, th.set)
		if err != nil {
			s.close()
			return nil, err
		}
		s.systems = append(s.systems, c)
	}
	return s, nil
}

func (s *stage) close() {
	for _, sys := range s.systems {
		sys.close()
	}
	s.redis.Close()
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
		calls, ids, ads := s.origin.calls.Load(), s.origin.ids.Load(), s.origin.ads.Load()
		failed := s.redisErrors()
		began := time.Now()
		th.perform(ctx, s, a, &m)
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		took := time.Since(began)
		r := newActResult(a.name, took, &m, s.origin.calls.Load()-calls, s.origin.ids.Load()-ids)
		r.RedisErrors = s.redisErrors() - failed
		if a.name == adBreak {
			result.AdLoads = perTTL(s.origin.ads.Load()-ads, took, newTimes(th.set).adTTL) / adIDs
		}
		result.Acts = append(result.Acts, r)
		all.merge(&m)
		th.show.ends(name, r)
	}
	took := time.Since(curtain)
	result.Total = newActResult("all acts", took, &all, s.origin.calls.Load(), s.origin.ids.Load())
	result.HerdLoads = s.origin.premieres.Load()
	result.Loads = perTTL(s.origin.ids.Load(), took, newTimes(th.set).ttl)
	result.Press = s.press.result()
	return result, nil
}

// redisErrors returns how many commands of the processes failed or timed out,
// where they count that.
func (s *stage) redisErrors() (n int64) {
	for _, sys := range s.systems {
		if c, ok := sys.(*cached); ok {
			n += int64(c.videos.Stats().Remote.Errors)
		}
	}
	return n
}

// perTTL returns how many loads there were for each TTL that passed.
func perTTL(loads int64, took, ttl time.Duration) float64 {
	return float64(loads) * float64(ttl) / float64(took)
}

// perform sends the requests of an act, and returns when all are answered.
func (th *theatre) perform(ctx context.Context, s *stage, a *act, m *measure) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if a.scene != nil && (s.redis != nil || !a.redis) {
		wg.Go(func() { a.scene(th, ctx, s, m) })
	}
	length := time.Duration(a.length * float64(newTimes(th.set).unit))
	n := int(length.Seconds() * float64(th.set.rate*a.rate))
	pace.Steadily(ctx, length, n, func(i int) func(time.Time) {
		ids := s.readers.next(a)
		return func(sent time.Time) { th.request(ctx, s, m, i, ids, sent) }
	})
}

// herd is the scene in which many readers, spread over all processes, ask for
// one id at the same moment.
func (th *theatre) herd(ctx context.Context, s *stage, m *measure) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	var sent time.Time // written before gate is closed
	for i := range herdSize {
		wg.Go(func() {
			<-gate
			th.request(ctx, s, m, i, []string{premiereID}, sent)
		})
	}
	sent = time.Now()
	close(gate)
	wg.Wait()
}

// request is the i-th of an act: the processes take turns.
func (th *theatre) request(ctx context.Context, s *stage, m *measure, i int, ids []string, sent time.Time) {
	a, err := th.ask(ctx, s, i%len(s.systems), ids)
	m.add(time.Since(sent), len(ids), a, err)
}

// ask is what readers of a process do.
func (th *theatre) ask(ctx context.Context, s *stage, process int, ids []string) (a answers, err error) {
	ctx, cancel := context.WithTimeout(ctx, th.set.patience)
	defer cancel()
	asked := time.Now()
	if len(ids) == 1 {
		a, err = s.systems[process].video(ctx, ids[0])
	} else {
		a, err = s.systems[process].page(ctx, ids)
	}
	s.press.proofread(process, asked, a.editions)
	return a, err
}
