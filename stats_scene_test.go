package dewar_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// The scenes that tests of Stats set.

// scene is a cache with all that the tests of Stats make happen to it.
type scene struct {
	*cache
	o     *origin
	srv   *dewartest.Remote[string]
	chaos *dewartest.Chaos[string]
	other *cache // another process of the fleet

	intercepts atomic.Pointer[func(op string, keys []string) error]
}

// intercept changes what the operations of the remote tier meet; nil: nothing.
func (w *scene) intercept(f func(op string, keys []string) error) { w.intercepts.Store(&f) }

// setScene opens a cache and another one on the same remote tier.
func setScene(t *testing.T, alter ...func(*config)) *scene {
	w := &scene{o: newOrigin(0), srv: newServer()}
	w.chaos = &dewartest.Chaos[string]{Remote: w.srv, Intercept: func(op string, keys []string) error {
		if f := w.intercepts.Load(); f != nil && *f != nil {
			return (*f)(op, keys)
		}
		return nil
	}}
	cfg := batched(w.o)
	cfg.Remote = w.srv
	for _, a := range alter {
		a(&cfg)
	}
	if cfg.Remote != nil {
		w.other = open(t, cfg)
		cfg.Remote = w.chaos
	}
	w.cache = open(t, cfg)
	return w
}

func noRemote(cfg *config) { cfg.Remote = nil }

func noLocal(cfg *config) { cfg.Local = nil }

func staleIfError(cfg *config) { cfg.Stale.IfError = time.Hour }

func staleAtOnce(cfg *config) { cfg.Stale.WhileRevalidate = time.Hour }

func oneSlot(cfg *config) { cfg.Guard.MaxConcurrent = 1 }

func refreshAhead(cfg *config) { cfg.TTL, cfg.Warm.Ahead = 100*time.Second, 0.8 }

func tightBreaker(cfg *config) {
	cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, OpenFor: time.Minute}
}

func repeatable(cfg *config) { cfg.Guard.Retry = dewar.Retry{Idempotent: true, Budget: 1} }

func smallBucket(cfg *config) { cfg.Warm.Bucket = 1 }

func fewKeysAtOnce(cfg *config) { cfg.Batch.MaxSize = 2 }

func missingUnknown(cfg *config) { cfg.NegativeTTL = -1 }

func missingForLong(cfg *config) { cfg.NegativeTTL = time.Minute }

func (w *scene) read(k string) { _, _ = w.Get(context.Background(), k) }

func (w *scene) only(k string) { _, _ = w.Get(context.Background(), k, dewar.CacheOnly()) }

func (w *scene) many(k ...string) { _, _ = w.GetMany(context.Background(), k) }

// both reads in the other process, then here, so that the value is known.
func (w *scene) both(k string) {
	_, _ = w.other.Get(context.Background(), k)
	_ = w.other.Wait(context.Background())
	w.read(k)
}

// failOp makes an operation of a Chaos fail.
func failOp(op string, err error) func(string, []string) error {
	return func(asked string, _ []string) error {
		if asked == op {
			return err
		}
		return nil
	}
}
