package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// The world that a plan is carried out in: an origin, caches, and what each
// reader may see.

// modelKey is what is known of one key.
type modelKey struct {
	committed []int64 // Clock at which each version was committed; version 0 is there from the start
	floor     int     // the least version that a read may see that begins now
	running   map[int]bool
}

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
