package dewar_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Refusals in batches: each key has its own error, or its own stale value.

// chunked is batched with three chunks to thirty keys, one after the other, and
// a breaker that the first failure opens.
func chunked(o *origin) config {
	cfg := batched(o)
	cfg.Batch = dewar.Batch{MaxSize: 10, Parallel: 1}
	cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, FailureRatio: 0.01, OpenFor: time.Minute}
	return cfg
}

// secondFails is a LoadMany of o whose second call fails.
func secondFails(o *origin) func(context.Context, []string) (map[string]string, error) {
	calls := 0
	return func(ctx context.Context, ks []string) (map[string]string, error) {
		if calls++; calls == 2 {
			return nil, errOrigin
		}
		return o.loadMany(ctx, ks)
	}
}

func TestABreakerThatOpensHalfwayThroughAGetManyFailsKeysWithTheirOwnErrors(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := chunked(o)
				cfg.LoadMany = secondFails(o)
				tiers(&cfg)
				c := open(t, cfg)
				ks := keys(30)
				vs, err := c.GetMany(t.Context(), ks)
				batch, _ := errors.AsType[*dewar.BatchError[string]](err)
				if len(vs) != 10 || batch == nil || len(batch.Errs) != 20 {
					t.Fatalf("%d values, %v", len(vs), err)
				}
				failed, refused := 0, 0
				last := -1
				for _, e := range batch.Errs {
					switch {
					case errors.Is(e.Err, dewar.ErrBreakerOpen):
						refused++
					case errors.Is(e.Err, errOrigin):
						failed++
					}
					if at := slices.Index(ks, e.Key); at <= last {
						t.Errorf("%s is not in request order", e.Key)
					} else {
						last = at
					}
					if _, has := vs[e.Key]; has {
						t.Errorf("%s has a value and an error", e.Key)
					}
				}
				if failed != 10 || refused != 10 {
					t.Errorf("%d failed, %d refused", failed, refused)
				}
				if s := c.Stats(); s.Loads != 2 || s.LoadErrors != 1 || s.BreakerRefused != 1 || s.Loaded != 10 || s.Failed != 20 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestABreakerThatOpensHalfwayThroughAGetManyLeavesStaleValuesToThoseThatHaveThem(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := chunked(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				fails := secondFails(o)
				failing := false
				cfg.LoadMany = func(ctx context.Context, ks []string) (map[string]string, error) {
					if failing {
						return fails(ctx, ks)
					}
					return o.loadMany(ctx, ks)
				}
				c := open(t, cfg)
				ks := keys(30)
				var had []string
				for i := 0; i < 30; i += 2 {
					had = append(had, ks[i])
				}
				if vs, err := c.GetMany(t.Context(), had); len(vs) != 15 || err != nil {
					t.Fatal(vs, err)
				}
				if err := c.Wait(t.Context()); cfg.Remote != nil && err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Minute)
				failing = true
				rs, err := c.GetManyResults(t.Context(), ks)
				batch, _ := errors.AsType[*dewar.BatchError[string]](err)
				if batch == nil {
					t.Fatal(err)
				}
				loaded, failed, refused := 0, 0, 0
				for i, k := range ks {
					r, has := rs[k]
					why := r.Err
					if !has {
						why = batch.For(k)
					}
					switch {
					case r.Status == dewar.StatusLoaded:
						loaded++
						continue
					case errors.Is(why, dewar.ErrBreakerOpen):
						refused++
					case errors.Is(why, errOrigin):
						failed++
					default:
						t.Errorf("%s: %+v, %v", k, r, why)
					}
					if had := i%2 == 0; had != has || has && (r.Status != dewar.StatusStale || r.Value != k+"#1") {
						t.Errorf("%s: %+v, %v", k, r, why)
					}
				}
				if loaded != 10 || failed != 10 || refused != 10 {
					t.Errorf("%d loaded, %d failed, %d refused", loaded, failed, refused)
				}
			})
		})
	}
}

func TestABatchOfSingleLoadsStopsWhenTheBreakerOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(100 * time.Millisecond)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent = 4
		cfg.Guard.Breaker = dewar.Breaker{MinRequests: 8}
		c := open(t, cfg)
		o.fail(errOrigin)
		begun := time.Now()
		vs, err := c.GetMany(t.Context(), keys(200))
		batch, _ := errors.AsType[*dewar.BatchError[string]](err)
		if len(vs) != 0 || batch == nil || len(batch.Errs) != 200 {
			t.Fatal(len(vs), err)
		}
		n := len(o.asked())
		if n < 8 || n > 12 { // in two rounds of four, and who had a slot already
			t.Errorf("%d calls", n)
		}
		for i, e := range batch.Errs {
			if !errors.Is(e.Err, errOrigin) && !errors.Is(e.Err, dewar.ErrBreakerOpen) {
				t.Errorf("%d: %v", i, e.Err)
			}
		}
		if took := time.Since(begun); took > 300*time.Millisecond {
			t.Error("took", took)
		}
	})
}

// One chunk waits for a slot too long: the others have theirs.
func TestAChunkThatIsRefusedFailsItsKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Second)
		cfg := batched(o)
		cfg.Batch = dewar.Batch{MaxSize: 10, Parallel: 3}
		cfg.Guard.MaxConcurrent, cfg.Guard.QueueTimeout = 2, 500*time.Millisecond
		c := open(t, cfg)
		vs, err := c.GetMany(t.Context(), keys(30))
		batch, _ := errors.AsType[*dewar.BatchError[string]](err)
		if len(vs) != 20 || batch == nil || len(batch.Errs) != 10 || !errors.Is(err, dewar.ErrOverloaded) {
			t.Error(len(vs), err)
		}
		if s := c.Stats(); s.Overloaded != 1 || s.Loads != 2 {
			t.Errorf("%+v", s)
		}
	})
}
