package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
)

// The model of a key, for two caches on one Redis. Its state is the newest
// version that the origin has, and for each cache a floor: the oldest version
// that this cache may still answer. Everything happens at one instant between
// its beginning and its end:
//
//   - a commit moves the newest version to its own;
//   - an Invalidate or Set, which follows the commit of its version, raises the
//     floor of its own cache to it;
//   - the same write being heard raises the floor of the other cache to it. It
//     begins with the write and ends heardWithin after the write has returned.
//     A write that returned ErrInvalidationPending is not heard;
//   - a Get of a cache answers a version from the cache's floor to the newest.
//
// A history is accepted if there is an order of these instants in which every
// Get is right. So a Get that begins after an Invalidate or Set of its cache
// has returned answers no older version, and neither does one that begins on
// the other cache heardWithin later; one that runs at the same time as the
// write may answer either, as long as there is one instant of the write that
// fits all who read. No version may be answered before it was committed. Get
// may go back to an older version, of those that are allowed, since nothing
// says to a cache that it is old.
//
// It is sound for keys that several processes invalidate, and for keys that one
// process alone writes, one write after another: the versions of Sets that run
// at the same time would end in an order that nobody knows.
type state struct {
	newest int64
	floors [2]int64
}

type opKind string

const (
	opCommit opKind = "commit"
	opWrite  opKind = "write"
	opHeard  opKind = "heard"
	opGet    opKind = "get"
)

// step is the input of an operation; the output of a Get is the version.
type step struct {
	kind    opKind
	cache   int
	key     string
	version int64 // unless it is a Get
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := op.Input.(step).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return state{newest: 1} },
	Step: func(was, input, output any) (bool, any) {
		s, in := was.(state), input.(step)
		switch in.kind {
		case opCommit:
			ok := in.version == s.newest+1
			s.newest = in.version
			return ok, s
		case opWrite, opHeard:
			s.floors[in.cache] = max(s.floors[in.cache], in.version)
			return in.version <= s.newest, s
		}
		v := output.(int64)
		return s.floors[in.cache] <= v && v <= s.newest, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " -> ", output) },
}

// linearizable asks porcupine, with a bound on how long it may take.
func linearizable(history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model, history, time.Minute)
}

// recorder takes down what happens, as porcupine wants it.
type recorder struct {
	mu      sync.Mutex // mu guards history
	history []porcupine.Operation
}

func (r *recorder) add(client int, in step, call, end, out int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

// get notes a Get that ran from call to end.
func (r *recorder) get(client, cache int, key string, call, end, version int64) {
	r.add(client, step{opGet, cache, key, 0}, call, end, version)
}

// write notes a write that ran from call to end, by a cache and, unless it is
// pending, heard by the other.
func (r *recorder) write(client, cache int, key string, call, end, version int64, pending bool) {
	r.add(client, step{opWrite, cache, key, version}, call, end, 0)
	if pending {
		return
	}
	r.add(client, step{opHeard, 1 - cache, key, version}, call, end+int64(heardWithin), 0)
}

func (r *recorder) commit(client int, key string, call, end, version int64) {
	r.add(client, step{opCommit, 0, key, version}, call, end, 0)
}

func TestTheModelTellsGoodHistoriesFromBad(t *testing.T) {
	t.Parallel()
	const ms, later = int64(time.Millisecond), int64(heardWithin)
	// In all of them version 2 is committed from 10 to 11 ms, and cache 0 has
	// written it from 20 to 30 ms.
	for _, c := range []struct {
		name       string
		cache      int
		call, end  int64
		version    int64
		acceptable bool
	}{
		{"old before the write", 0, 12, 19, 1, true},
		{"new before the write", 0, 12, 19, 2, true},
		{"new before the commit", 0, 1, 9, 2, false},
		{"new while it is committed", 0, 1, 10, 2, true},
		{"never committed", 0, 40, 41, 3, false},
		{"old while it is written", 0, 25, 40, 1, true},
		{"old after the write", 0, 31, 40, 1, false},
		{"new after the write", 0, 31, 40, 2, true},
		{"old elsewhere, not heard yet", 1, 31, 40, 1, true},
		{"old elsewhere, heard", 1, 31 + later/ms, 40 + later/ms, 1, false},
		{"new elsewhere, heard", 1, 31 + later/ms, 40 + later/ms, 2, true},
	} {
		var r recorder
		r.commit(0, "k", 10*ms, 11*ms, 2)
		r.write(0, 0, "k", 20*ms, 30*ms, 2, false)
		r.get(1, c.cache, "k", c.call*ms, c.end*ms, c.version)
		r.get(1, c.cache, "another", c.call*ms, c.end*ms, 1) // keys are apart
		want := porcupine.Illegal
		if c.acceptable {
			want = porcupine.Ok
		}
		if got := linearizable(r.history); got != want {
			t.Errorf("%s: %s; want %s", c.name, got, want)
		}
	}

	// Who has read the new version because of a write that is under way knows
	// that it has happened: the floor does not fall again.
	var r recorder
	r.commit(0, "k", 10*ms, 11*ms, 2)
	r.write(0, 0, "k", 20*ms, 30*ms, 2, false)
	r.commit(0, "k", 40*ms, 41*ms, 3)
	r.write(0, 0, "k", 50*ms, 60*ms, 3, false)
	r.get(1, 0, "k", 55*ms, 56*ms, 2)
	r.get(1, 0, "k", 57*ms, 58*ms, 1)
	if got := linearizable(r.history); got != porcupine.Illegal {
		t.Errorf("older than the write before: %s", got)
	}
}

// TestTwoCachesAreLinearizable plays short histories, many at a time, each on
// keys of its own: bursts, in which everything happens at once, and pauses in
// which everything has been heard.
func TestTwoCachesAreLinearizable(t *testing.T) {
	const (
		runs   = 200
		atOnce = 50
	)
	o := options{Redis: kit.StartServer(t).Addr}
	origin := newOrigin()
	origin.slow(0, 3*time.Millisecond)
	caches := []process{startHere(t, o, origin), startHere(t, o, origin)}
	turns := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	var mu sync.Mutex // mu guards these
	ops, pending := 0, 0
	for run := range runs {
		turns <- struct{}{}
		wg.Go(func() { // waited for below
			defer func() { <-turns }()
			p := &linearRun{t: t, origin: origin, caches: caches}
			for _, name := range []string{"shared", "own0", "own1"} {
				p.keys = append(p.keys, fmt.Sprint(name, "-", run))
			}
			p.play()
			if got := linearizable(p.history); got != porcupine.Ok {
				t.Errorf("run %d: %s:\n%s", run, got, p)
			}
			mu.Lock()
			defer mu.Unlock()
			ops += len(p.history)
			pending += int(p.pending.Load())
		})
	}
	wg.Wait()
	t.Logf("%d histories, %d operations", runs, ops)
	if pending > runs/10 {
		t.Errorf("%d writes were not confirmed", pending)
	}
}

// linearRun is one history.
type linearRun struct {
	recorder
	t       *testing.T
	origin  *origin
	caches  []process
	pending atomic.Int64 // writes that were not confirmed
	keys    []string     // invalidated by both, written by the first, by the second
}

func (p *linearRun) play() {
	for range 3 {
		var wg sync.WaitGroup
		for cache := range p.caches {
			wg.Go(func() { p.writer(cache) })
			for reader := range 2 {
				wg.Go(func() { p.reader(cache, 2+2*cache+reader) })
			}
		}
		wg.Wait()
		time.Sleep(heardWithin + heardWithin/10)
	}
	// What is read now has been heard of long ago.
	for cache := range p.caches {
		for range p.keys {
			p.reader(cache, 2+2*cache)
		}
	}
}

func (p *linearRun) reader(cache, client int) {
	for range 3 {
		time.Sleep(rand.N(2 * time.Millisecond))
		k := p.keys[rand.IntN(len(p.keys))]
		call := dewar.Clock()
		v, err := p.caches[cache].get(k)
		end := dewar.Clock()
		if err != nil || v.Key != k {
			p.t.Errorf("%s: %+v, %v", k, v, err)
			continue
		}
		p.get(client, cache, k, call, end, v.Version)
	}
}

func (p *linearRun) writer(cache int) {
	for range 2 {
		time.Sleep(rand.N(2 * time.Millisecond))
		k := p.keys[0]
		if rand.IntN(2) == 0 {
			k = p.keys[1+cache]
		}
		call := dewar.Clock()
		v := p.origin.commit(k)
		p.commit(cache, k, call, dewar.Clock(), v.Version)
		var err error
		call = dewar.Clock()
		if k != p.keys[0] && rand.IntN(2) == 0 {
			err = p.caches[cache].set(map[string]kit.Value{k: v})
		} else {
			err = p.caches[cache].invalidate(k)
		}
		end := dewar.Clock()
		pending := errors.Is(err, dewar.ErrInvalidationPending)
		if pending {
			p.pending.Add(1) // the machine, or Redis, stood still for that long
		} else if err != nil {
			p.t.Errorf("%s: %v", k, err)
			continue
		}
		p.write(cache, cache, k, call, end, v.Version, pending)
	}
}

func (p *linearRun) String() (s string) {
	slices.SortFunc(p.history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range p.history {
		s += fmt.Sprintf("%v to %v: %+v -> %v\n", time.Duration(op.Call-p.history[0].Call), time.Duration(op.Return-p.history[0].Call), op.Input, op.Output)
	}
	return s
}
