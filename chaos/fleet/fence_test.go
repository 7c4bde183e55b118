package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/dewarcache/dewar/dewartest"
)

// heardWithin is within what a process has heard of what another one did: the
// 100 ms that are promised, and what a busy machine may add.
const heardWithin = time.Second

// fence is a fleet whose readers read while its writers change the origin.
type fence struct {
	t         *testing.T
	origin    *origin
	processes []process
	shared    []string   // invalidated by every process
	own       [][]string // written by one process each, which sets them as well
	reads     atomic.Int64
	writes    atomic.Int64
	pending   atomic.Int64 // of writes
}

func (f *fence) keys() (keys []string) {
	keys = append(keys, f.shared...)
	for _, own := range f.own {
		keys = append(keys, own...)
	}
	return keys
}

func newFence(t *testing.T, origin *origin, processes []process) *fence {
	f := &fence{t: t, origin: origin, processes: processes}
	for i := range 4 {
		f.shared = append(f.shared, fmt.Sprint("shared", i))
	}
	for i := range processes {
		f.own = append(f.own, []string{fmt.Sprint("own", i, "a"), fmt.Sprint("own", i, "b"), fmt.Sprint("own", i, "c")})
	}
	return f
}

func nameOf(i int) string { return fmt.Sprint("process ", i) }

// reader reads, until the time comes, with pauses.
func (f *fence) reader(i int, until time.Time) {
	p, keys := f.processes[i], f.keys()
	for time.Now().Before(until) {
		time.Sleep(rand.N(time.Millisecond))
		f.reads.Add(1)
		if rand.IntN(8) == 0 {
			answer := f.origin.history.ReadMany(nameOf(i))
			vs, err := p.getMany(keys)
			answer(vs, err)
			f.check(i, vs, err)
			continue
		}
		k := keys[rand.IntN(len(keys))]
		answer := f.origin.history.Read(nameOf(i), k)
		v, err := p.get(k)
		answer(v, err)
		f.check(i, map[string]kit.Value{k: v}, err)
	}
}

// check judges an answer apart from its versions.
func (f *fence) check(i int, vs map[string]kit.Value, err error) {
	if err != nil {
		f.t.Errorf("%s: %v", nameOf(i), err)
		return
	}
	for k, v := range vs {
		if v.Key != k {
			f.t.Errorf("%s: %+v under %s", nameOf(i), v, k)
		}
	}
}

// writer commits, and then invalidates or sets, until the time comes.
func (f *fence) writer(i int, until time.Time) {
	p, own, history := f.processes[i], f.own[i], f.origin.history
	for time.Now().Before(until) {
		time.Sleep(rand.N(10 * time.Millisecond))
		f.writes.Add(1)
		var end func(error)
		var err error
		switch rand.IntN(5) {
		case 0: // one of its own, set
			k := own[rand.IntN(len(own))]
			vs := map[string]kit.Value{k: f.origin.commit(k)}
			end = history.Write(nameOf(i), k)
			err = p.set(vs)
		case 1: // all of its own, set together
			vs := make(map[string]kit.Value)
			for _, k := range own {
				vs[k] = f.origin.commit(k)
			}
			end = history.Write(nameOf(i), own...)
			err = p.set(vs)
		case 2: // one of its own, invalidated
			k := own[rand.IntN(len(own))]
			f.origin.commit(k)
			end = history.Write(nameOf(i), k)
			err = p.invalidate(k)
		case 3:
			for _, k := range f.shared {
				f.origin.commit(k)
			}
			end = history.Write(nameOf(i), f.shared...)
			err = p.invalidate(f.shared...)
		default:
			k := f.shared[rand.IntN(len(f.shared))]
			f.origin.commit(k)
			end = history.Write(nameOf(i), k)
			err = p.invalidate(k)
		}
		end(err)
		if errors.Is(err, dewar.ErrInvalidationPending) {
			f.pending.Add(1) // the machine, or Redis, stood still for that long
		} else if err != nil {
			f.t.Errorf("%s: %v", nameOf(i), err)
		}
	}
}

func (f *fence) run(dur time.Duration, readers int) {
	until := time.Now().Add(dur)
	var wg sync.WaitGroup
	for i := range f.processes {
		wg.Go(func() { f.writer(i, until) })
		for range readers {
			// Longer than the writers, so that something is kept at the end.
			wg.Go(func() { f.reader(i, until.Add(200*time.Millisecond)) })
		}
	}
	wg.Wait()
}

// verify judges the history, and says how late the fleet was.
func (f *fence) verify() {
	f.t.Helper()
	h := f.origin.history
	wrong := h.Check(heardWithin)
	for _, v := range wrong[:min(len(wrong), 5)] {
		f.t.Error(v)
	}
	if len(wrong) > 0 {
		f.t.Fatalf("%d reads of %d", len(wrong), f.reads.Load())
	}
	if n := f.pending.Load(); n > f.writes.Load()/20 {
		f.t.Errorf("%d of %d writes were not confirmed", n, f.writes.Load())
	}
	late := len(h.Check(0))
	f.t.Logf("%d reads, %d writes, %d loads; %d reads older than a write that another process had finished, the last %v after it",
		f.reads.Load(), f.writes.Load(), f.origin.loaded(f.keys()...), late, longest(h))
}

// longest returns the longest time after a write of another process that an
// older read began, in a history without violations.
func longest(h *dewartest.History[string, kit.Value]) time.Duration {
	const step = 100 * time.Microsecond
	return step * time.Duration(sort.Search(int(heardWithin/step), func(n int) bool {
		return len(h.Check(time.Duration(n)*step)) == 0
	}))
}

// nothingOldIsKept looks into every tier: with the origin down, whatever is
// kept is served.
func (f *fence) nothingOldIsKept(looks map[string]process) {
	f.t.Helper()
	time.Sleep(heardWithin)
	f.origin.fail(true)
	for i, p := range f.processes {
		looks[nameOf(i)] = p
	}
	kept := 0
	for _, k := range f.keys() {
		kept += checkHeld(f.t, looks, k, f.origin.version(k))
		for name, p := range looks {
			if v, err := p.get(k); err == nil && v.Version != f.origin.version(k) {
				f.t.Errorf("%s falls back to %+v; want version %d", name, v, f.origin.version(k))
			}
		}
	}
	if kept == 0 {
		f.t.Error("nothing is kept at all")
	}
	f.t.Logf("%d copies kept at the end", kept)
}

func TestNoReadIsOlderThanAFinishedWrite(t *testing.T) {
	const readers = 8
	o := options{TTL: 300 * time.Millisecond, IfError: time.Minute}
	for name, c := range map[string]struct {
		schemas []string
		members bool
	}{
		"four caches":                {schemas: []string{"0", "0", "0", "0"}},
		"four caches of two schemas": {schemas: []string{"0", "1", "0", "1"}},
		"two processes":              {schemas: []string{"0", "0"}, members: true},
		"two processes, two schemas": {schemas: []string{"0", "1"}, members: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Redis = kit.StartServer(t).Addr
			origin := newOrigin()
			origin.history = newHistory()
			origin.slow(0, 20*time.Millisecond)
			url := origin.serve(t)
			var processes []process
			looks := make(map[string]process)
			for _, schema := range c.schemas {
				o.Schema = schema
				if c.members {
					processes = append(processes, startMember(t, o, url))
				} else {
					processes = append(processes, startHere(t, o, origin))
				}
				if look := "Redis, schema " + schema; looks[look] == nil {
					looks[look] = remoteOnly(t, o, origin)
				}
			}
			f := newFence(t, origin, processes)
			f.run(4*time.Second, readers)
			f.verify()
			f.nothingOldIsKept(looks)
		})
	}
}
