package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// A plan is drawn by rapid and carried out in a bubble, so that it can be
// shrunk and repeated. More cases: go test -run Property -rapid.checks=10000.

// planStep is one thing that a plan does. What each number means depends on op.
type planStep struct {
	Op      string
	Keys    []int
	Option  int           // index into planOptions
	Latency time.Duration // of loads from now on, of the remote tier, or time to pass
	Outcome string        // of loads from now on
	Cancel  time.Duration // of the caller; 0: never
}

func (s planStep) String() string {
	return fmt.Sprintf("{%s %v opt=%d lat=%v out=%s cancel=%v}", s.Op, s.Keys, s.Option, s.Latency, s.Outcome, s.Cancel)
}

type plan struct {
	TTL, IfError, While, Soft, Negative, Timeout time.Duration
	Ahead                                        float64
	Local, Remote, Batch                         bool
	Workers                                      [][]planStep
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ttl=%v ifError=%v while=%v soft=%v negative=%v timeout=%v ahead=%v local=%v remote=%v batch=%v",
		p.TTL, p.IfError, p.While, p.Soft, p.Negative, p.Timeout, p.Ahead, p.Local, p.Remote, p.Batch)
	for i, w := range p.Workers {
		fmt.Fprintf(&b, "\nworker %d:", i)
		for _, s := range w {
			fmt.Fprintf(&b, "\n   %v", s)
		}
	}
	return b.String()
}

var planOptions = [][]dewar.ReadOption{
	nil, nil, nil,
	{dewar.CacheOnly()},
	{dewar.Reload()},
	{dewar.MaxAge(300 * time.Millisecond)},
	{dewar.MaxAge(0)},
	{dewar.NoStale()},
	{dewar.NoStale(), dewar.CacheOnly()},
	{dewar.NoStale(), dewar.MaxAge(time.Second)},
}

const (
	optPlanCacheOnly1, optPlanCacheOnly2 = 3, 8
	planKeys                             = 4
)

var planOps = []string{
	"Get", "Get", "Get", "Get", "GetResult", "GetResult", "GetMany", "GetMany", "GetManyResults",
	"Set", "SetMany", "Invalidate", "Invalidate", "Commit", "Expire", "Refresh", "Preload", "KeepWarm", "LetGo",
	"sleep", "sleep", "sleep", "load", "load", "remote", "spawn", "spawn",
}

func durations(ds ...time.Duration) *rapid.Generator[time.Duration] { return rapid.SampledFrom(ds) }

const ms = time.Millisecond

func drawPlan(t *rapid.T, workers int) plan {
	step := rapid.Custom(func(t *rapid.T) planStep {
		return planStep{
			Op:      rapid.SampledFrom(planOps).Draw(t, "op"),
			Keys:    rapid.SliceOfN(rapid.IntRange(0, planKeys-1), 1, 4).Draw(t, "keys"),
			Option:  rapid.IntRange(0, len(planOptions)-1).Draw(t, "option"),
			Latency: durations(0, 0, ms, 7*ms, 50*ms, 200*ms, time.Second, 2*time.Second, 5*time.Second).Draw(t, "latency"),
			Outcome: rapid.SampledFrom([]string{"", "", "", "error", "missing", "panic", "exit", "ignore"}).Draw(t, "outcome"),
			Cancel:  durations(0, 0, 0, ms, 30*ms, time.Second).Draw(t, "cancel"),
		}
	})
	p := plan{
		TTL:      durations(time.Second, 3*time.Second).Draw(t, "ttl"),
		IfError:  durations(0, 2*time.Second, time.Hour).Draw(t, "ifError"),
		While:    durations(0, 0, time.Second).Draw(t, "while"),
		Negative: durations(-1, 0, 500*ms).Draw(t, "negative"),
		Timeout:  durations(2*time.Second, 10*time.Second).Draw(t, "timeout"),
		Ahead:    rapid.SampledFrom([]float64{-1, 0, 0.5}).Draw(t, "ahead"),
		Local:    rapid.IntRange(0, 4).Draw(t, "local") > 0,
		Remote:   rapid.Bool().Draw(t, "remote"),
		Batch:    rapid.Bool().Draw(t, "batch"),
	}
	if p.IfError > 0 {
		p.Soft = durations(0, 20*ms).Draw(t, "soft")
	}
	p.Remote = p.Remote || !p.Local
	for range workers {
		p.Workers = append(p.Workers, rapid.SliceOfN(step, 1, 40).Draw(t, "steps"))
	}
	return p
}

var errPlanned = errors.New("planned failure")

func (w *world) do(s planStep) {
	ctx, cancel := context.WithCancel(context.Background())
	if s.Cancel > 0 {
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), s.Cancel)
		if s.Cancel == 30*ms { // a cancellation rather than a deadline
			cancel()
			ctx, cancel = context.WithCancel(context.Background())
			time.AfterFunc(s.Cancel, cancel)
		}
	}
	defer cancel()
	opts := planOptions[s.Option]
	k := s.Keys[0]
	keys := make([]string, len(s.Keys))
	for i, k := range s.Keys {
		keys[i] = planKey(k)
	}
	floors := w.floors(s.Keys)
	c := w.cache
	pending := func(err error) {
		for _, e := range flatten(err) {
			if !errors.Is(e, dewar.ErrInvalidationPending) {
				w.violated("%s: %v", s.Op, e)
			}
		}
	}
	switch s.Op {
	case "Get":
		v, err := c.Get(ctx, keys[0], opts...)
		if w.failed(ctx, "Get", err, s.Option); err == nil {
			w.seen("Get", k, floors[0], v, 0, s.Option)
		}
	case "GetResult":
		r, err := c.GetResult(ctx, keys[0], opts...)
		if w.failed(ctx, "GetResult", err, s.Option); err == nil {
			w.seen("GetResult", k, floors[0], r.Value, r.Status, s.Option)
			w.result("GetResult", k, r)
		}
	case "GetMany":
		m, err := c.GetMany(ctx, keys, opts...)
		var batch *dewar.BatchError[string]
		if err != nil && !errors.As(err, &batch) {
			w.violated("GetMany: %T %v", err, err)
			return
		}
		for i, k := range s.Keys {
			if v, ok := m[keys[i]]; ok {
				w.seen("GetMany", k, floors[i], v, 0, s.Option)
			}
			if batch != nil {
				w.failed(ctx, "GetMany", batch.For(keys[i]), s.Option)
			}
		}
	case "GetManyResults":
		m, err := c.GetManyResults(ctx, keys, opts...)
		var batch *dewar.BatchError[string]
		if err != nil && !errors.As(err, &batch) {
			w.violated("GetManyResults: %T %v", err, err)
			return
		}
		for i, k := range s.Keys {
			if r, ok := m[keys[i]]; ok && r.Status != dewar.StatusNegative {
				w.seen("GetManyResults", k, floors[i], r.Value, r.Status, s.Option)
				w.result("GetManyResults", k, r)
			}
			if batch != nil {
				w.failed(ctx, "GetManyResults", batch.For(keys[i]), s.Option)
			}
		}
	case "Set":
		// Writers of one key in the plan do not race: see lock in run.
		version := w.commit(k)
		pending(c.Set(ctx, keys[0], planValue(k, version)))
		w.raise(k, version)
	case "SetMany":
		vs, versions := make(map[string]string), make(map[int]int)
		for _, k := range s.Keys {
			if _, twice := versions[k]; !twice {
				versions[k] = w.commit(k)
				vs[planKey(k)] = planValue(k, versions[k])
			}
		}
		pending(c.SetMany(ctx, vs))
		for k, version := range versions {
			w.raise(k, version)
		}
	case "Invalidate":
		versions := make([]int, len(s.Keys))
		for i, k := range s.Keys {
			versions[i] = w.commit(k)
		}
		pending(c.Invalidate(ctx, keys...))
		for i, k := range s.Keys {
			w.raise(k, versions[i])
		}
	case "Commit": // a change that nobody tells the cache of
		w.commit(k)
	case "Expire":
		pending(c.Expire(ctx, keys...))
	case "Refresh":
		for _, e := range flatten(c.Refresh(ctx, keys...)) {
			w.failed(ctx, "Refresh", e, 0)
		}
	case "Preload":
		for _, e := range flatten(c.Preload(ctx, slices.Values(keys))) {
			w.failed(ctx, "Preload", e, 0)
		}
	case "KeepWarm":
		c.KeepWarm(keys...)
	case "LetGo":
		c.LetGo(keys...)
	case "sleep":
		time.Sleep(s.Latency)
	case "load":
		w.mu.Lock()
		w.latency, w.outcome = s.Latency, s.Outcome
		w.mu.Unlock()
	case "remote":
		if w.chaos != nil {
			w.chaos.Down(s.Outcome != "")
			w.chaos.Delay(min(s.Latency, 200*ms))
		}
	}
}

// run carries out the plan and returns what is wrong.
func (w *world) run() {
	w.started = dewar.Clock()
	for i := range w.keys {
		w.keys[i].committed = []int64{w.started}
	}
	cfg := dewar.Config[string, string]{
		Name: "property", TTL: w.plan.TTL, NegativeTTL: w.plan.Negative, Jitter: 0,
		Stale:  dewar.Stale{IfError: w.plan.IfError, WhileRevalidate: w.plan.While, SoftTimeout: w.plan.Soft},
		Warm:   dewar.Warm{Ahead: w.plan.Ahead},
		Flight: dewar.Flight{Timeout: w.plan.Timeout},
		Load: func(ctx context.Context, key string) (string, error) {
			defer w.loading(key)()
			return w.load(ctx, key)
		},
	}
	if w.plan.Batch {
		cfg.LoadMany = w.loadMany
	}
	if w.plan.Local {
		cfg.Local = smallLocal
	}
	if w.plan.Remote {
		w.chaos = &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
		cfg.Remote = w.chaos
	}
	var err error
	if w.cache, err = dewar.New(cfg); err != nil {
		w.violated("New: %v", err)
		return
	}
	var writers [planKeys]chan struct{} // of one token each: the right to write a key
	for i := range writers {
		writers[i] = make(chan struct{}, 1)
	}
	perform := func(s planStep) {
		switch s.Op {
		case "Set", "SetMany", "Invalidate":
			// The model's floors need to know which of two writes was later.
			ks := slices.Compact(slices.Sorted(slices.Values(s.Keys)))
			for _, k := range ks {
				writers[k] <- struct{}{}
			}
			defer func() {
				for _, k := range ks {
					<-writers[k]
				}
			}()
		}
		w.do(s)
	}
	for _, steps := range w.plan.Workers {
		w.flying.Go(func() {
			for i := 0; i < len(steps); i++ {
				if steps[i].Op == "spawn" && i+1 < len(steps) {
					i++
					s := steps[i]
					w.flying.Go(func() { perform(s) })
					time.Sleep(0)
					continue
				}
				perform(steps[i])
			}
		})
	}
	w.flying.Wait()

	// Everything comes to rest.
	if w.chaos != nil {
		w.chaos.Down(false)
		w.chaos.Delay(0)
	}
	for k := range planKeys {
		w.cache.LetGo(planKey(k))
	}
	w.mu.Lock()
	w.latency, w.outcome = 0, ""
	w.mu.Unlock()
	time.Sleep(time.Minute)
	s := w.cache.Stats()
	if s.Flights+s.OverdueLoads+s.Bucket+s.Pinned+s.BackfillQueue+s.PendingInvalidations != 0 {
		w.violated("gauges at rest: flights %d, overdue %d, bucket %d, pinned %d, backfill %d, pending %d",
			s.Flights, s.OverdueLoads, s.Bucket, s.Pinned, s.BackfillQueue, s.PendingInvalidations)
	}
	for k := range planKeys {
		floor := w.floors([]int{k})[0]
		v, err := w.cache.Get(context.Background(), planKey(k))
		if err != nil {
			w.violated("a healthy world: %v", err)
		} else {
			w.seen("the last Get", k, floor, v, 0, 0)
		}
		v, err = w.cache.Get(context.Background(), planKey(k), dewar.Reload())
		w.mu.Lock()
		latest := len(w.keys[k].committed) - 1
		w.mu.Unlock()
		if err != nil || v != planValue(k, latest) {
			w.violated("the last Reload of key%d: %q, %v; want version %d", k, v, err, latest)
		}
	}
	w.cache.Wait(context.Background()) // may tell of writes that failed meanwhile
	if err := w.cache.Wait(context.Background()); err != nil {
		w.violated("Wait at rest: %v", err)
	}
	if err := w.cache.Close(); err != nil {
		w.violated("Close: %v", err)
	}
}

func checkPlan(rt *rapid.T, t *testing.T, p plan) {
	w := &world{plan: p}
	ok := t.Run("case", func(t *testing.T) {
		synctest.Test(t, func(*testing.T) { w.run() })
	})
	if !ok || len(w.broken) > 0 {
		rt.Fatalf("%s\n\n%v", strings.Join(w.broken, "\n"), p)
	}
}

func TestPropertyOneCallerAtATime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { checkPlan(rt, t, drawPlan(rt, 1)) })
}

func TestPropertyCallersAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { checkPlan(rt, t, drawPlan(rt, rapid.IntRange(2, 5).Draw(rt, "workers"))) })
}

// Readers with random latencies around one writer: after every write that has
// returned, no reader sees what was there before.
func TestPropertyReadersNeverGoBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := func(n int, ops ...string) []planStep {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			s := make([]planStep, 60)
			for i := range s {
				s[i] = planStep{Op: ops[r.IntN(len(ops))], Keys: []int{0, r.IntN(2)}, Latency: time.Duration(r.IntN(30)) * ms}
			}
			return s
		}
		p := plan{
			TTL: time.Second, Timeout: 10 * time.Second, Ahead: 0.5, Local: seed%4 != 0, Remote: seed%2 == 0 || seed%4 == 0,
			IfError: time.Duration(seed%3) * time.Second,
			Workers: [][]planStep{
				steps(0, "Set", "Invalidate", "SetMany", "Expire", "sleep", "sleep"),
				steps(1, "load", "sleep", "remote", "sleep"),
			},
		}
		for i := range 4 {
			p.Workers = append(p.Workers, steps(2+i, "Get", "GetMany", "GetResult", "sleep"))
		}
		checkPlan(rt, t, p)
	})
}
