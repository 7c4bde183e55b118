package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func TestEachChunkIsOneLoadManyAndParallelBoundsThem(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				cfg := batched(o)
				tiers(&cfg)
				cfg.Batch = dewar.Batch{MaxSize: 10, Parallel: 3}
				c := open(t, cfg)
				vs, err := c.GetMany(t.Context(), keys(95))
				if len(vs) != 95 || err != nil {
					t.Fatal(len(vs), err)
				}
				calls := o.asked()
				if len(calls) != 10 || o.atOnce() != 3 {
					t.Errorf("%d calls, %d at once; want 10 and 3", len(calls), o.atOnce())
				}
				small := 0
				for _, call := range calls {
					if len(call.keys) == 5 {
						small++
					} else if len(call.keys) != 10 {
						t.Errorf("a call of %d keys", len(call.keys))
					}
				}
				if small != 1 {
					t.Errorf("%d calls of 5 keys", small)
				}
			})
		})
	}
}

func TestDuplicateKeysCountOnce(t *testing.T) {
	for name, opts := range map[string][]dewar.ReadOption{
		"plain":   nil,
		"Reload":  {dewar.Reload()},
		"NoStale": {dewar.NoStale()},
		"MaxAge":  {dewar.MaxAge(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(time.Second)
				c := open(t, batched(o))
				ks := []string{"a", "b", "a", "b", "a"}
				vs, err := c.GetMany(t.Context(), ks, opts...)
				if len(vs) != 2 || vs["a"] != "a#1" || err != nil {
					t.Error(vs, err)
				}
				if calls := o.asked(); len(calls) != 1 || len(calls[0].keys) != 2 {
					t.Error(calls)
				}
			})
		})
	}
	t.Run("failing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			o.fail(errOrigin)
			c := open(t, batched(o))
			_, err := c.GetMany(t.Context(), []string{"b", "a", "b"})
			batch, ok := errors.AsType[*dewar.BatchError[string]](err)
			if !ok || len(batch.Errs) != 2 || batch.Errs[0].Key != "b" || batch.Errs[1].Key != "a" {
				t.Error(err)
			}
		})
	})
	t.Run("Refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			c := open(t, batched(o))
			if err := c.Refresh(t.Context(), "a", "a", "a"); err != nil {
				t.Error(err)
			}
			mustCount(t, o, "a", 1)
		})
	})
}

func TestAFailedChunkFailsItsKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := batched(newOrigin(0))
		cfg.Batch.MaxSize = 10
		cfg.LoadMany = func(_ context.Context, ks []string) (map[string]string, error) {
			switch {
			case slices.Contains(ks, "k015"):
				return nil, errOrigin
			case slices.Contains(ks, "k035"):
				panic(errOrigin)
			}
			m := make(map[string]string)
			for _, k := range ks {
				m[k] = k
			}
			return m, nil
		}
		c := open(t, cfg)
		ks := keys(50)
		slices.Reverse(ks)
		vs, err := c.GetMany(t.Context(), ks)
		batch, ok := errors.AsType[*dewar.BatchError[string]](err)
		if len(vs) != 30 || !ok || len(batch.Errs) != 20 {
			t.Fatal(len(vs), err)
		}
		failed := func(k string) bool { _, ok := vs[k]; return !ok }
		if want := slices.DeleteFunc(slices.Clone(ks), func(k string) bool { return !failed(k) }); !slices.EqualFunc(batch.Errs, want,
			func(e dewar.KeyError[string], k string) bool { return e.Key == k }) {
			t.Error("not in request order:", err)
		}
		_, panicked := errors.AsType[*dewar.PanicError](err)
		if !errors.Is(err, errOrigin) || !panicked || batch.For("k015") != errOrigin || batch.For("k001") != nil {
			t.Error(err)
		}
		var ke dewar.KeyError[string]
		if !errors.As(err, &ke) || !failed(ke.Key) || errors.Unwrap(ke) == nil {
			t.Error("no KeyError in the chain")
		}
	})
}

func TestWhatTheOriginDoesNotHaveIsAbsentAndNoError(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				o.remove("gone")
				cfg := batched(o)
				tiers(&cfg)
				c := open(t, cfg)
				for range 3 {
					vs, err := c.GetMany(t.Context(), []string{"a", "gone"})
					if _, there := vs["gone"]; there || len(vs) != 1 || err != nil {
						t.Error(vs, err)
					}
					rs, err := c.GetManyResults(t.Context(), []string{"a", "gone"})
					if len(rs) != 2 || rs["gone"].Status != dewar.StatusNegative || rs["gone"].Value != "" || err != nil {
						t.Error(rs, err)
					}
					time.Sleep(time.Second)
				}
				mustCount(t, o, "gone", 1)
				mustFail(t, c, "gone", dewar.ErrNotFound)
			})
		})
	}
}

func TestLoadManyMayReturnAMapAndAnError(t *testing.T) {
	named := func(ks ...string) error {
		var batch dewar.BatchError[string]
		for _, k := range ks {
			batch.Errs = append(batch.Errs, dewar.KeyError[string]{Key: k, Err: fmt.Errorf("%s: %w", k, errOrigin)})
		}
		return &batch
	}
	tests := map[string]struct {
		err    error
		failed []string // of a, b, c, of which the map holds a
	}{
		"any error fails the others":            {errOrigin, []string{"b", "c"}},
		"ErrNotFound: the others do not exist":  {dewar.ErrNotFound, nil},
		"a BatchError fails those it names":     {named("b"), []string{"b"}},
		"also when wrapped":                     {fmt.Errorf("catalog: %w", named("c")), []string{"c"}},
		"what is in the map is obtained anyway": {named("a", "c"), []string{"c"}},
		"named as not found: absent":            {&dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: "b", Err: dewar.ErrNotFound}}}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := batched(newOrigin(0))
				cfg.LoadMany = func(context.Context, []string) (map[string]string, error) {
					return map[string]string{"a": "v"}, tt.err
				}
				c := open(t, cfg)
				vs, err := c.GetMany(t.Context(), []string{"a", "b", "c"})
				if len(vs) != 1 || vs["a"] != "v" {
					t.Error(vs)
				}
				batch, _ := errors.AsType[*dewar.BatchError[string]](err)
				if (err == nil) != (tt.failed == nil) {
					t.Fatal(err)
				}
				for _, k := range []string{"a", "b", "c"} {
					if want := slices.Contains(tt.failed, k); batch != nil && (batch.For(k) != nil) != want {
						t.Errorf("%s: %v", k, batch.For(k))
					}
				}
				mustGet(t, c, "a", "v", dewar.CacheOnly())
			})
		})
	}
}

// A cache whose origin is another cache of the same kind of key would tell
// that keys are gone when that one failed for other keys.
func TestABatchErrorThatNamesNoneOfTheKeysFailsThemAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := batched(newOrigin(0))
		cfg.LoadMany = func(context.Context, []string) (map[string]string, error) {
			return nil, &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: "parent of a", Err: errOrigin}}}
		}
		mustFail(t, open(t, cfg), "a", errOrigin)
	})
}

func TestAStaleValueStandsInForAFailedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := batched(o)
		cfg.Stale.IfError = time.Hour
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(2 * time.Minute)
		o.fail(errOrigin)
		vs, err := c.GetMany(t.Context(), []string{"b", "a"})
		batch, ok := errors.AsType[*dewar.BatchError[string]](err)
		if len(vs) != 1 || vs["a"] != "a#1" || !ok || len(batch.Errs) != 1 || batch.For("b") != errOrigin {
			t.Error(vs, err)
		}
		rs, err := c.GetManyResults(t.Context(), []string{"a"})
		if err != nil || rs["a"].Status != dewar.StatusStale || rs["a"].Err != errOrigin {
			t.Error(rs, err)
		}
	})
}

func TestWithoutLoadManyLoadRuns32AtOnceEachTakingASlot(t *testing.T) {
	for slots, want := range map[int]int{128: 32, 5: 5} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(10 * time.Millisecond)
			cfg := localOnly(o)
			cfg.Guard.MaxConcurrent = slots
			c := open(t, cfg)
			vs, err := c.GetMany(t.Context(), keys(100))
			if len(vs) != 100 || err != nil {
				t.Error(len(vs), err)
			}
			if n := o.atOnce(); n != want || len(o.asked()) != 100 {
				t.Errorf("%d calls, %d at once with %d slots; want %d", len(o.asked()), n, slots, want)
			}
		})
	}
}

func TestWithBothLoadersGetUsesLoadAndGetManyLoadMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, many := newOrigin(0), newOrigin(0)
		cfg := localOnly(one)
		cfg.LoadMany = many.loadMany
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		if _, err := c.GetMany(t.Context(), []string{"b"}); err != nil {
			t.Error(err)
		}
		mustCount(t, one, "a", 1)
		mustCount(t, one, "b", 0)
		mustCount(t, many, "a", 0)
		mustCount(t, many, "b", 1)
	})
}

func TestWithoutLoadGetAsksLoadManyForOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		o.remove("gone")
		c := open(t, batched(o))
		mustGet(t, c, "a", "a#1")
		mustFail(t, c, "gone", dewar.ErrNotFound)
		if calls := o.asked(); len(calls) != 2 || len(calls[0].keys) != 1 {
			t.Error(calls)
		}
		o.fail(errOrigin)
		if _, err := c.Get(t.Context(), "b"); err != errOrigin {
			t.Error("not the loader's own error:", err)
		}
	})
}

var escaped map[string]string

func TestGetManyOfFreshLocalKeysAllocatesNoMoreThanItsMap(t *testing.T) {
	ks := keys(100)
	m := testing.AllocsPerRun(100, func() {
		m := make(map[string]string, 100)
		for _, k := range ks {
			m[k] = k
		}
		escaped = m
	})
	for name, tiers := range map[string]dewar.LocalOpener[string]{
		"ristretto": memory.Config[string]{MaxEntries: 1000}, "otter": memory.Otter[string]{MaxEntries: 1000},
	} {
		cfg := batched(newOrigin(0))
		cfg.TTL, cfg.Local = time.Hour, tiers
		c := open(t, cfg)
		if vs, err := c.GetMany(t.Context(), ks); len(vs) != 100 || err != nil {
			t.Fatal(len(vs), err)
		}
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { c.GetMany(ctx, ks) }); n > m {
			t.Errorf("%s: %v allocations; the map alone takes %v", name, n, m)
		}
	}
}

func TestErrorTextsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 1000)
	batch := &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: long, Err: errOrigin}, {Key: "b", Err: errOrigin}}}
	if s := batch.Error(); len(s) > 250 || !strings.Contains(s, "2 keys") || !strings.Contains(s, errOrigin.Error()) {
		t.Error(s)
	}
	if s := (&dewar.BatchError[string]{}).Error(); s == "" {
		t.Error("an empty BatchError says nothing")
	}
}
