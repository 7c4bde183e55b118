package dewar_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// reading opens a cache whose loader, for the keys in refs, reads another key
// of the same cache and returns what that gave.
func reading(t *testing.T, refs map[string]string, alter func(*config), read func(c *cache, ctx context.Context, k string) (string, error)) *cache {
	var c *cache
	load := func(ctx context.Context, k string) (string, error) {
		if to, ok := refs[k]; ok {
			v, err := read(c, ctx, to)
			return k + ">" + v, err
		}
		return k, nil
	}
	cfg := localOnly(newOrigin(0))
	cfg.Load = load
	cfg.LoadMany = func(ctx context.Context, ks []string) (map[string]string, error) {
		m := make(map[string]string)
		for _, k := range ks {
			v, err := load(ctx, k)
			if err != nil {
				return m, err
			}
			m[k] = v
		}
		return m, nil
	}
	if alter != nil {
		alter(&cfg)
	}
	c = open(t, cfg)
	return c
}

// reads are the ways in which a loader can ask for a key.
var reads = map[string]func(c *cache, ctx context.Context, k string) (string, error){
	"Get": func(c *cache, ctx context.Context, k string) (string, error) { return c.Get(ctx, k) },
	"GetMany": func(c *cache, ctx context.Context, k string) (string, error) {
		vs, err := c.GetMany(ctx, []string{k})
		if batch, ok := errors.AsType[*dewar.BatchError[string]](err); ok {
			err = batch.For(k)
		}
		return vs[k], err
	},
	"Reload": func(c *cache, ctx context.Context, k string) (string, error) { return c.Get(ctx, k, dewar.Reload()) },
	"Refresh": func(c *cache, ctx context.Context, k string) (string, error) {
		return "", c.Refresh(ctx, k)
	},
	"a derived context": func(c *cache, ctx context.Context, k string) (string, error) {
		ctx, cancel := context.WithTimeout(context.WithValue(ctx, ctxKey{}, 1), time.Minute)
		defer cancel()
		return c.Get(ctx, k)
	},
}

func TestALoaderThatReadsItsOwnKeyGetsAnErrorAtOnce(t *testing.T) {
	chains := map[string]map[string]string{
		"directly":           {"a": "a"},
		"through another":    {"a": "b", "b": "a"},
		"through two others": {"a": "b", "b": "c", "c": "a"},
	}
	for how, refs := range chains {
		for name, read := range reads {
			t.Run(how+" by "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := reading(t, refs, nil, read)
					begun := time.Now()
					mustFail(t, c, "a", dewar.ErrRecursiveLoad)
					if _, err := c.GetMany(t.Context(), []string{"a", "z"}); !errors.Is(err, dewar.ErrRecursiveLoad) {
						t.Error(err)
					}
					if took := time.Since(begun); took != 0 {
						t.Error("took", took)
					}
				})
			})
		}
	}
}

func TestALoaderMayReadOtherKeysAlsoUnderTheLastSlot(t *testing.T) {
	for name, read := range reads {
		if name == "Refresh" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				alter := func(cfg *config) { cfg.Guard.MaxConcurrent = 1 }
				c := reading(t, map[string]string{"a": "b", "b": "c"}, alter, read)
				begun := time.Now()
				mustGet(t, c, "a", "a>b>c")
				if took := time.Since(begun); took != 0 {
					t.Error("took", took)
				}
				mustGet(t, c, "c", "c", dewar.CacheOnly())
			})
		})
	}
}

func TestALingeringBatchWithOthersStillKnowsItsOuterLoads(t *testing.T) {
	for name, refs := range map[string]map[string]string{
		"another key":  {"a": "b"},
		"its own key":  {"a": "b", "b": "a"},
		"its own, far": {"a": "b", "b": "c", "c": "a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				alter := func(cfg *config) {
					cfg.Batch.Linger = 10 * time.Millisecond
					cfg.Guard.MaxConcurrent = 1
				}
				c := reading(t, refs, alter, func(c *cache, ctx context.Context, k string) (string, error) {
					time.Sleep(time.Millisecond)
					return c.Get(ctx, k)
				})
				done := make(chan error, 1)
				begun := time.Now()
				go func() {
					_, err := c.Get(t.Context(), "a")
					done <- err
				}()
				// a's load begins after 10 ms and asks for b a millisecond later.
				// By then an outsider waits in the batch that b falls into.
				time.Sleep(10*time.Millisecond + 1)
				go c.Get(t.Context(), "outsider")
				err := <-done
				if recursive := refs["b"] != ""; errors.Is(err, dewar.ErrRecursiveLoad) != recursive || !recursive && err != nil {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				if took := time.Since(begun); took > 100*time.Millisecond {
					t.Error("took", took)
				}
			})
		})
	}
}

func TestALoaderMayReadItsOwnKeyWhereThatNeedsNoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *cache
		n := 0
		cfg := localOnly(newOrigin(0))
		cfg.Stale.WhileRevalidate = time.Hour
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			if n++; n == 1 {
				return "first", nil
			}
			v, err := c.Get(ctx, k)
			return v + " and next", err
		}
		c = open(t, cfg)
		mustGet(t, c, "a", "first")
		time.Sleep(2 * time.Minute)
		mustGet(t, c, "a", "first")
		time.Sleep(time.Second)
		mustGet(t, c, "a", "first and next")
	})
}

func TestTwoLoadersThatWaitForEachOtherAreBoundedByTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *cache
		cfg := localOnly(newOrigin(0))
		cfg.Load = func(ctx context.Context, k string) (string, error) {
			time.Sleep(time.Second)
			return c.Get(ctx, map[string]string{"a": "b", "b": "a"}[k])
		}
		c = open(t, cfg)
		begun := time.Now()
		go c.Get(t.Context(), "b")
		if _, err := c.Get(t.Context(), "a"); err == nil || time.Since(begun) > 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
