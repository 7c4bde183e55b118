package dewar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// goroutine is the number of the one that calls.
func goroutine() int {
	stack := make([]byte, 64)
	stack = stack[:runtime.Stack(stack, false)]
	n, err := strconv.Atoi(string(bytes.Fields(stack)[1]))
	if err != nil {
		panic(err)
	}
	return n
}

// whoKey is under which a context says whose it is.
type whoKey struct{}

func as(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, whoKey{}, who)
}

func who(ctx context.Context) string {
	if ctx == nil {
		return "nil"
	}
	name, _ := ctx.Value(whoKey{}).(string)
	return name
}

// traced is what hooks were called with.
type traced[T any] struct {
	mu    sync.Mutex // guards calls
	calls []tracedCall[T]
}

type tracedCall[T any] struct {
	with      T
	who       string
	goroutine int
	at        time.Time
}

func (r *traced[T]) note(ctx context.Context, with T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, tracedCall[T]{with, who(ctx), goroutine(), time.Now()})
}

func (r *traced[T]) hook(with T) { r.note(context.Background(), with) }

func (r *traced[T]) all() []tracedCall[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// forget returns what there was so far.
func (r *traced[T]) forget() []tracedCall[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func TestReadDoneTellsOfEachCallThatWasNotAnsweredOnTheHitPathAlone(t *testing.T) {
	type info = dewar.ReadInfo
	get := func(c *cache, ctx context.Context, k string, opts ...dewar.ReadOption) { _, _ = c.Get(ctx, k, opts...) }
	many := func(c *cache, ctx context.Context, ks ...string) { _, _ = c.GetMany(ctx, ks) }
	for name, tt := range map[string]struct {
		do   func(c *cache, ctx context.Context)
		want []info // without Cache
	}{
		"a hit":         {func(c *cache, ctx context.Context) { get(c, ctx, "hit") }, nil},
		"hits together": {func(c *cache, ctx context.Context) { many(c, ctx, "hit", "hit2") }, nil},
		"no keys":       {func(c *cache, ctx context.Context) { many(c, ctx) }, nil},
		"a hit, with its result": {
			func(c *cache, ctx context.Context) { _, _ = c.GetResult(ctx, "hit") },
			[]info{{Keys: 1, Hits: 1, OldestAge: 30 * time.Second}},
		},
		"a hit, with an option": {
			func(c *cache, ctx context.Context) { get(c, ctx, "hit", dewar.CacheOnly()) },
			[]info{{Keys: 1, Hits: 1, OldestAge: 30 * time.Second}},
		},
		"from the remote tier": {
			func(c *cache, ctx context.Context) { get(c, ctx, "remote") },
			[]info{{Keys: 1, Hits: 1, Remote: 1, OldestAge: 30 * time.Second}},
		},
		"loaded": {
			func(c *cache, ctx context.Context) { get(c, ctx, "new") },
			[]info{{Keys: 1, Loaded: 1, OldestAge: time.Second, Took: time.Second}},
		},
		"loaded together, with what was asked for twice": {
			func(c *cache, ctx context.Context) { many(c, ctx, "new", "newer", "new") },
			[]info{{Keys: 3, Loaded: 3, Collapsed: 1, OldestAge: time.Second, Took: time.Second}},
		},
		"stale": {
			func(c *cache, ctx context.Context) {
				time.Sleep(time.Minute)
				get(c, ctx, "hit")
			},
			[]info{{Keys: 1, Stale: 1, OldestAge: 90 * time.Second}},
		},
		"no such key": {
			func(c *cache, ctx context.Context) { get(c, ctx, "gone") },
			[]info{{Keys: 1, Negative: 1, OldestAge: time.Second, Took: time.Second}},
		},
		"remembered as missing": {
			func(c *cache, ctx context.Context) {
				get(c, ctx, "gone")
				time.Sleep(time.Second)
				get(c, ctx, "gone")
			},
			[]info{
				{Keys: 1, Negative: 1, OldestAge: time.Second, Took: time.Second},
				{Keys: 1, Negative: 1, OldestAge: 2 * time.Second},
			},
		},
		"failed": {
			func(c *cache, ctx context.Context) { get(c, ctx, "bad") },
			[]info{{Keys: 1, Failed: 1, Took: time.Second, Err: errOrigin}},
		},
		"not cached": {
			func(c *cache, ctx context.Context) { get(c, ctx, "new", dewar.CacheOnly()) },
			[]info{{Keys: 1, Failed: 1, Err: dewar.ErrNotCached}},
		},
		"a caller who left": {
			func(c *cache, ctx context.Context) {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				get(c, ctx, "new")
			},
			[]info{{Keys: 1, Failed: 1, Took: 100 * time.Millisecond, Err: context.DeadlineExceeded}},
		},
		"a closed cache": {
			func(c *cache, ctx context.Context) {
				_ = c.Close()
				get(c, ctx, "hit")
			},
			[]info{{Keys: 1, Failed: 1, Err: dewar.ErrClosed}},
		},
		"some of each": {
			func(c *cache, ctx context.Context) { many(c, ctx, "hit", "hit2", "new", "remote", "gone", "bad") },
			[]info{{
				Keys: 6, Hits: 3, Remote: 1, Loaded: 1, Negative: 1, Failed: 1, Err: errOrigin,
				OldestAge: 31 * time.Second, Took: time.Second,
			}},
		},
		"some of each, with their results": {
			func(c *cache, ctx context.Context) {
				_, _ = c.GetManyResults(ctx, []string{"hit", "hit2", "new", "remote", "gone", "bad"})
			},
			[]info{{
				Keys: 6, Hits: 3, Remote: 1, Loaded: 1, Negative: 1, Failed: 1, Err: errOrigin,
				OldestAge: 31 * time.Second, Took: time.Second,
			}},
		},
		"no reads": {
			func(c *cache, ctx context.Context) {
				_ = c.Refresh(ctx, "hit")
				_ = c.Preload(ctx, slices.Values([]string{"new"}))
				_ = c.Set(ctx, "set", "value")
				_ = c.Expire(ctx, "set")
				_, _ = c.Inspect(ctx, "hit")
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var reads traced[info]
				srv := newServer()
				o := newOrigin(0)
				cfg := batched(o)
				cfg.Remote = srv
				cfg.Stale.WhileRevalidate = time.Hour
				cfg.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
					m, err := o.loadMany(ctx, keys)
					if err == nil && slices.Contains(keys, "bad") {
						delete(m, "bad")
						err = &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: "bad", Err: errOrigin}}}
					}
					return m, err
				}
				o.remove("gone")
				there := open(t, cfg)
				cfg.Trace = &dewar.Trace{ReadDone: reads.note}
				c := open(t, cfg)
				mustGet(t, there, "remote", "remote#1")
				for _, k := range []string{"hit", "hit2"} {
					mustGet(t, c, k, k+"#1")
				}
				time.Sleep(30 * time.Second)
				o.slow(time.Second)
				reads.forget()
				tt.do(c, as(t.Context(), "caller"))
				got := reads.forget()
				if len(got) != len(tt.want) {
					t.Fatalf("%+v; want %+v", got, tt.want)
				}
				for i, want := range tt.want {
					want.Cache = "test"
					info := got[i].with
					if want.Err != nil && errors.Is(info.Err, want.Err) {
						info.Err = want.Err
					}
					if info != want || got[i].who != "caller" || got[i].goroutine != goroutine() {
						t.Errorf("%+v\nwant %+v", got[i], want)
					}
				}
			})
		})
	}
}

func TestNoHookIsOnTheHitPath(t *testing.T) {
	calls := 0
	all := new(dewar.Trace)
	for i, v := 0, reflect.ValueOf(all).Elem(); i < v.NumField(); i++ {
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func(args []reflect.Value) []reflect.Value {
			calls++
			if v.Type().Field(i).Name == "Load" {
				return []reflect.Value{args[0], reflect.ValueOf((func(dewar.LoadInfo))(nil))}
			}
			return nil
		}))
	}
	for name, trace := range map[string]*dewar.Trace{"no Trace": nil, "without hooks": {}, "all hooks": all} {
		t.Run(name, func(t *testing.T) {
			cfg := localOnly(newOrigin(0))
			cfg.Trace = trace
			c := open(t, cfg)
			mustGet(t, c, "a", "a#1")
			calls = 0
			ctx := t.Context()
			allocated := testing.AllocsPerRun(1000, func() { _, _ = c.Get(ctx, "a") })
			if allocated != 0 || calls != 0 {
				t.Errorf("%v allocations, %d hooks called", allocated, calls)
			}
		})
	}
}

func TestJoinTracesCallsEveryHookOfEachInOrder(t *testing.T) {
	var log []string
	// noting is a Trace whose hooks note who was called with what.
	noting := func(name string) *dewar.Trace {
		tr := new(dewar.Trace)
		for i, v := 0, reflect.ValueOf(tr).Elem(); i < v.NumField(); i++ {
			field := v.Type().Field(i).Name
			if field == "Load" {
				continue // below
			}
			v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func(args []reflect.Value) []reflect.Value {
				log = append(log, fmt.Sprint(name, field, len(args)))
				return nil
			}))
		}
		return tr
	}
	joined := dewar.JoinTraces(nil, noting("a"), &dewar.Trace{}, noting("b"), noting("c"), nil)
	for i, v := 0, reflect.ValueOf(joined).Elem(); i < v.NumField(); i++ {
		field, f := v.Type().Field(i).Name, v.Field(i)
		if field == "Load" {
			continue
		}
		if f.IsNil() {
			t.Errorf("%s is not joined", field)
			continue
		}
		log = nil
		args := make([]reflect.Value, f.Type().NumIn())
		for j := range args {
			args[j] = reflect.Zero(f.Type().In(j))
		}
		f.Call(args)
		n := len(args)
		if want := []string{fmt.Sprint("a", field, n), fmt.Sprint("b", field, n), fmt.Sprint("c", field, n)}; !slices.Equal(log, want) {
			t.Errorf("%v; want %v", log, want)
		}
	}
	if none := dewar.JoinTraces(nil, &dewar.Trace{}); !reflect.ValueOf(*none).IsZero() {
		t.Error("hooks where there are none")
	}
}

func TestJoinedLoadHooksNestTheirContexts(t *testing.T) {
	var log []string
	nesting := func(name string) *dewar.Trace {
		return &dewar.Trace{Load: func(ctx context.Context, info dewar.LoadInfo) (context.Context, func(dewar.LoadInfo)) {
			log = append(log, name+" in "+who(ctx))
			return as(ctx, who(ctx)+">"+name), func(done dewar.LoadInfo) { log = append(log, fmt.Sprint(name, " done ", done.Keys)) }
		}}
	}
	empty := &dewar.Trace{Load: func(context.Context, dewar.LoadInfo) (context.Context, func(dewar.LoadInfo)) {
		return nil, nil
	}}
	for name, tt := range map[string]struct {
		traces []*dewar.Trace
		want   []string
	}{
		"two":           {[]*dewar.Trace{nesting("a"), nesting("b")}, []string{"a in caller", "b in caller>a", "loader in caller>a>b", "b done 1", "a done 1"}},
		"one":           {[]*dewar.Trace{nil, nesting("a")}, []string{"a in caller", "loader in caller>a", "a done 1"}},
		"a bad second":  {[]*dewar.Trace{nesting("a"), empty}, []string{"a in caller", "loader in caller>a", "a done 1"}},
		"a bad first":   {[]*dewar.Trace{empty, nesting("a")}, []string{"a in caller", "loader in caller>a", "a done 1"}},
		"two bad ones":  {[]*dewar.Trace{empty, empty}, []string{"loader in caller"}},
		"a bad one":     {[]*dewar.Trace{empty}, []string{"loader in caller"}},
		"none that has": {[]*dewar.Trace{{}}, []string{"loader in caller"}},
	} {
		t.Run(name, func(t *testing.T) {
			log = nil
			cfg := localOnly(newOrigin(0))
			cfg.Trace = dewar.JoinTraces(tt.traces...)
			cfg.Load = func(ctx context.Context, _ string) (string, error) {
				log = append(log, "loader in "+who(ctx))
				return "value", nil
			}
			c := open(t, cfg)
			if v, err := c.Get(as(t.Context(), "caller"), "a"); v != "value" || err != nil {
				t.Error(v, err)
			}
			if !slices.Equal(log, tt.want) {
				t.Errorf("%q; want %q", log, tt.want)
			}
		})
	}
}
