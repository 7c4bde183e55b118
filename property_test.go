package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// modelKey is what is known of one key.
type modelKey struct {
	committed []int64 // Clock at which each version was committed; version 0 is there from the start
	floor     int     // the least version that a read may see that begins now
	running   map[int]bool
}

var errPlanned = errors.New("planned failure")

// world carries out a plan and collects what is wrong.
type world struct {
	cache   *dewar.Cache[string, string]
	plan    plan
	chaos   *dewartest.Chaos[string]
	started int64

	mu      sync.Mutex // guards what follows
	keys    [planKeys]modelKey
	latency time.Duration
	outcome string
	faulty  int // loads that ended otherwise than with a value, so far
	broken  []string
	flying  sync.WaitGroup // callers
	loads   int
}

func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.broken) < 10 {
		w.broken = append(w.broken, fmt.Sprintf("at %v: ", time.Duration(dewar.Clock()-w.started))+fmt.Sprintf(format, args...))
	}
}

func planKey(k int) string { return "key" + strconv.Itoa(k) }

// planValue tells key and version, so that any mix-up shows.
func planValue(k, version int) string { return fmt.Sprintf("%s@%d", planKey(k), version) }

func parsePlanValue(v string) (key string, version int) {
	key, n, _ := strings.Cut(v, "@")
	version, err := strconv.Atoi(n)
	if err != nil {
		version = -1
	}
	return key, version
}

func planIndex(key string) int { i, _ := strconv.Atoi(strings.TrimPrefix(key, "key")); return i }

// load is the origin.
func (w *world) load(ctx context.Context, key string) (string, error) {
	w.mu.Lock()
	k := planIndex(key)
	version := len(w.keys[k].committed) - 1
	latency, outcome := w.latency, w.outcome
	if outcome != "" {
		w.faulty++
	}
	w.mu.Unlock()
	if outcome == "ignore" {
		time.Sleep(latency)
		return planValue(k, version), nil
	}
	if latency > 0 {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch outcome {
	case "error":
		return "", errPlanned
	case "missing":
		return "", dewar.ErrNotFound
	case "panic":
		panic(errPlanned)
	case "exit":
		exitGoroutine()
	}
	return planValue(k, version), nil
}

func (w *world) loadMany(ctx context.Context, keys []string) (map[string]string, error) {
	m := make(map[string]string)
	batch := &dewar.BatchError[string]{}
	for i, key := range keys {
		if i > 0 && len(keys) > 1 {
			// All of one batch take the time of the first.
			w.mu.Lock()
			m[key] = planValue(planIndex(key), len(w.keys[planIndex(key)].committed)-1)
			w.mu.Unlock()
			continue
		}
	}
	// The versions above were read when the call began, as that of the first is.
	v, err := w.load(ctx, keys[0])
	switch {
	case err == nil:
		m[keys[0]] = v
	case !errors.Is(err, dewar.ErrNotFound):
		batch.Errs = append(batch.Errs, dewar.KeyError[string]{Key: keys[0], Err: err})
		return m, batch
	}
	return m, nil
}

// floors notes, before a read, the least version it may see of each key.
func (w *world) floors(keys []int) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	fs := make([]int, len(keys))
	for i, k := range keys {
		fs[i] = w.keys[k].floor
	}
	return fs
}

// commit makes a new version.
func (w *world) commit(k int) (version int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[k].committed = append(w.keys[k].committed, dewar.Clock())
	return len(w.keys[k].committed) - 1
}

// raise says that reads of k that begin from now on see version or newer.
func (w *world) raise(k, version int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[k].floor = max(w.keys[k].floor, version)
}

// seen checks a value that a read of k returned.
func (w *world) seen(what string, k, floor int, value string, status dewar.Status, option int) {
	key, version := parsePlanValue(value)
	if key != planKey(k) {
		w.violated("%s of %s returned %q, of another key", what, planKey(k), value)
		return
	}
	if version < floor {
		w.violated("%s of %s returned version %d; %d was invalidated or set before it began", what, key, version, floor)
	}
	w.mu.Lock()
	committed := w.keys[k].committed
	w.mu.Unlock()
	if version >= len(committed) {
		w.violated("%s of %s returned version %d that is not there yet", what, key, version)
		return
	}
	// A value is served no longer than its hard expiry after the load that
	// produced it ended; that load began before the next version was there.
	if version+1 < len(committed) {
		slowest := w.plan.Timeout
		keep := max(w.plan.IfError, w.plan.While)
		if status == dewar.StatusHit {
			keep = 0
		}
		limit := w.plan.TTL + slowest + keep + w.plan.Timeout // the last for the reader's own wait
		if age := time.Duration(dewar.Clock() - committed[version+1]); age > limit {
			w.violated("%s of %s returned version %d, %v after the next one; at most %v", what, key, version, age, limit)
		}
	}
}

// result checks what a Result says of itself.
func (w *world) result(what string, k int, r dewar.Result[string]) {
	var waited time.Duration // for the other keys of a batch, after this one was found
	if what == "GetManyResults" {
		waited = w.plan.Timeout
	}
	switch r.Status {
	case dewar.StatusHit:
		// Fresh: never older than the TTL, or a quarter of it after a slow load.
		if limit := max(w.plan.TTL, w.plan.Timeout+w.plan.TTL/4) + waited; r.Age > limit {
			w.violated("%s of %s: a fresh value of age %v", what, planKey(k), r.Age)
		}
	case dewar.StatusStale:
		if w.plan.IfError == 0 && w.plan.While == 0 {
			w.violated("%s of %s: a stale value without a stale window", what, planKey(k))
		}
		if limit := max(w.plan.TTL, w.plan.Timeout+w.plan.TTL/4) + max(w.plan.IfError, w.plan.While) + waited; r.Age > limit {
			w.violated("%s of %s: a stale value of age %v, past hard expiry", what, planKey(k), r.Age)
		}
	}
	if r.Age < 0 {
		w.violated("%s of %s: age %v", what, planKey(k), r.Age)
	}
}

// failed checks the error of a read: something must have failed for it.
func (w *world) failed(ctx context.Context, what string, err error, option int) {
	w.mu.Lock()
	faulty := w.faulty
	w.mu.Unlock()
	var panicked *dewar.PanicError
	switch {
	case err == nil:
	case errors.Is(err, dewar.ErrNotCached):
		if option != optPlanCacheOnly1 && option != optPlanCacheOnly2 {
			w.violated("%s: %v without CacheOnly", what, err)
		}
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
	case errors.Is(err, dewar.ErrTimeout): // a slow origin, or a slow remote tier
	case errors.Is(err, dewar.ErrBreakerOpen): // a quarter of the loads, and more, may fail
		if w.plan.IfError == 0 && w.plan.While == 0 {
			w.violated("%s: %v, though there is no breaker", what, err)
		}
	case errors.Is(err, dewar.ErrNotFound), errors.Is(err, errPlanned), errors.Is(err, dewar.ErrLoaderExited), errors.As(err, &panicked):
		if faulty == 0 {
			w.violated("%s: %v, though no load has failed", what, err)
		}
	default:
		w.violated("%s: unexpected error %v", what, err)
	}
}

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

// flatten returns what errors.Join and BatchError have joined.
func flatten(err error) (errs []error) {
	if err == nil {
		return nil
	}
	if batch, ok := errors.AsType[*dewar.BatchError[string]](err); ok {
		for _, e := range batch.Errs {
			errs = append(errs, e.Err)
		}
		return errs
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && !errors.Is(err, dewar.ErrInvalidationPending) && !errors.Is(err, dewar.ErrNotFound) {
		for _, e := range joined.Unwrap() {
			errs = append(errs, flatten(e)...)
		}
		return errs
	}
	return []error{err}
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

// loading notes that a load of key runs, until what it returns is called.
func (w *world) loading(key string) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := planIndex(key)
	w.loads++
	id := w.loads
	if w.keys[k].running == nil {
		w.keys[k].running = make(map[int]bool)
	}
	w.keys[k].running[id] = true
	if n := len(w.keys[k].running); n > 1 && !w.superseding() {
		w.broken = append(w.broken, fmt.Sprintf("%d loads of %s at once", n, key))
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.keys[k].running, id)
	}
}

// superseding reports whether the plan holds anything that may detach or
// supersede a load, or leave one running past its time.
func (w *world) superseding() bool {
	for _, steps := range w.plan.Workers {
		for _, s := range steps {
			switch s.Op {
			case "Set", "SetMany", "Invalidate", "Expire":
				return true
			case "Get", "GetResult", "GetMany", "GetManyResults":
				if s.Option >= 4 {
					return true
				}
			case "Refresh": // supersedes what a revalidation answered from the remote tier
				return true
			case "load":
				if s.Outcome == "ignore" || s.Latency >= w.plan.Timeout {
					return true
				}
			}
		}
	}
	return false
}

func exitGoroutine() { runtime.Goexit() }

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
