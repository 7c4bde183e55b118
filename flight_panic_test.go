package dewar_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// loaders are both kinds of loader that do the same for every key.
func loaders(do func(ctx context.Context) (string, error)) map[string]func(*config) {
	return map[string]func(*config){
		"Load": func(cfg *config) {
			cfg.Load = func(ctx context.Context, _ string) (string, error) { return do(ctx) }
		},
		"LoadMany": func(cfg *config) {
			cfg.Load, cfg.LoadMany = nil, func(ctx context.Context, ks []string) (map[string]string, error) {
				m := make(map[string]string)
				for _, k := range ks {
					v, err := do(ctx)
					if err != nil {
						return m, err
					}
					m[k] = v
				}
				return m, nil
			}
		},
		"LoadMany, lingering": func(cfg *config) {
			cfg.Batch.Linger = time.Millisecond
			cfg.Load, cfg.LoadMany = nil, func(ctx context.Context, ks []string) (map[string]string, error) {
				v, err := do(ctx)
				m := make(map[string]string)
				for _, k := range ks {
					m[k] = v
				}
				return m, err
			}
		},
	}
}

// herdErrors returns what 10 concurrent Gets and 10 GetManys of a key get.
func herdErrors(t *testing.T, c *cache) []error {
	t.Helper()
	errs := make([]error, 20)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { _, errs[i] = c.Get(t.Context(), "a") })
		wg.Go(func() {
			vs, err := c.GetMany(t.Context(), []string{"a"})
			var batch *dewar.BatchError[string]
			if len(vs) != 0 || !errors.As(err, &batch) || len(batch.Errs) != 1 {
				t.Errorf("GetMany: %v, %v", vs, err)
			}
			errs[10+i] = err
		})
	}
	wg.Wait()
	return errs
}

func TestAPanicInTheLoaderReachesEveryWaiterAndLeavesTheKeyFree(t *testing.T) {
	for name, loader := range loaders(func(context.Context) (string, error) {
		time.Sleep(time.Second)
		panic(errOrigin)
	}) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				loader(&cfg)
				c := open(t, cfg)
				for range 2 {
					for _, err := range herdErrors(t, c) {
						var p *dewar.PanicError
						if !errors.As(err, &p) || p.Value != error(errOrigin) || !errors.Is(err, errOrigin) {
							t.Fatal(err)
						}
						if !strings.Contains(string(p.Stack), "flight_panic_test.go") {
							t.Fatalf("the stack does not show the loader:\n%s", p.Stack)
						}
					}
				}
				if s := c.Stats(); s.Loads != 2 || s.LoadErrors != 2 || s.Flights != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAPanicWithNoErrorIsAnErrorToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := localOnly(newOrigin(0))
		cfg.Load = func(context.Context, string) (string, error) { panic("at the disco") }
		_, err := open(t, cfg).Get(t.Context(), "a")
		p, ok := errors.AsType[*dewar.PanicError](err)
		if !ok || p.Value != "at the disco" || !strings.Contains(err.Error(), "at the disco") || errors.Unwrap(p) != nil {
			t.Error(err)
		}
	})
}

func TestGoexitInTheLoaderReachesEveryWaiterAndLeavesTheKeyFree(t *testing.T) {
	for name, loader := range loaders(func(context.Context) (string, error) {
		time.Sleep(time.Second)
		runtime.Goexit()
		return "", nil
	}) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				loader(&cfg)
				c := open(t, cfg)
				for range 2 {
					for _, err := range herdErrors(t, c) {
						if !errors.Is(err, dewar.ErrLoaderExited) {
							t.Fatal(err)
						}
					}
				}
			})
		})
	}
}

func TestGoexitInOneOfManyLoadsFailsItsKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(time.Millisecond)
		cfg := localOnly(o)
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if k == "k050" {
				runtime.Goexit()
			}
			return o.load(ctx, k)
		}
		c := open(t, cfg)
		vs, err := c.GetMany(t.Context(), keys(100))
		var batch *dewar.BatchError[string]
		if len(vs) != 99 || !errors.As(err, &batch) || len(batch.Errs) != 1 || !errors.Is(batch.For("k050"), dewar.ErrLoaderExited) {
			t.Error(len(vs), err)
		}
	})
}

func TestAPanicInTheBucketKeepsTheOldValueAndTheProcess(t *testing.T) {
	for name, loader := range loaders(func(ctx context.Context) (string, error) {
		if ctx.Value(ctxKey{}) == nil { // a background load
			panic("off the path")
		}
		return "v", nil
	}) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				cfg.Warm.Ahead = 0.5
				loader(&cfg)
				c := open(t, cfg)
				ctx := context.WithValue(t.Context(), ctxKey{}, true)
				if _, err := c.Get(ctx, "a"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(40 * time.Second)
				mustGet(t, c, "a", "v")
				time.Sleep(500 * time.Millisecond)
				mustGet(t, c, "a", "v")
				if s := c.Stats(); s.Loads != 2 || s.LoadErrors != 1 || s.Bucket != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAPanicInTTLOfOrNotFoundFailsTheLoadOnly(t *testing.T) {
	for name, alter := range map[string]func(*config){
		"TTLOf": func(cfg *config) { cfg.TTLOf = func(string, string) time.Duration { panic("TTLOf") } },
		"NotFound": func(cfg *config) {
			cfg.NotFound = func(error) bool { panic("NotFound") }
			cfg.Load = func(context.Context, string) (string, error) { return "", errOrigin }
		},
		"NotFound of LoadMany": func(cfg *config) {
			cfg.NotFound = func(error) bool { panic("NotFound") }
			cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) { return nil, errOrigin }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := localOnly(newOrigin(0))
				alter(&cfg)
				c := open(t, cfg)
				for range 2 {
					if _, err := errors.AsType[*dewar.PanicError](herdErrors(t, c)[0]); !err {
						t.Error("no PanicError")
					}
				}
			})
		})
	}
}
