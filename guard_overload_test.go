package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Ten times the origin's capacity, for a while. It is virtual time: a second
// has no noise in it.

const (
	capacityCalls = 10                     // calls at once that the origin is good for,
	capacityTook  = 100 * time.Millisecond // each taking this long:
	capacity      = 100                    // calls a second
	overloadFor   = 20 * time.Second
)

// weak is an origin that does worse when more calls than it is good for come
// at once.
type weak struct {
	mu      sync.Mutex // guards what follows
	running int
	most    int
	fails   bool // beyond its capacity, rather than take longer
}

func (w *weak) call(ctx context.Context) error {
	w.mu.Lock()
	w.running++
	w.most = max(w.most, w.running)
	n := w.running
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running--
	}()
	took := capacityTook
	if n > capacityCalls && !w.fails {
		took = took * time.Duration(n*n) / (capacityCalls * capacityCalls)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return ctx.Err()
	}
	if n > capacityCalls && w.fails {
		return errOrigin
	}
	return nil
}

func (w *weak) load(ctx context.Context, k string) (string, error) { return k, w.call(ctx) }

func (w *weak) loadMany(ctx context.Context, ks []string) (map[string]string, error) {
	if err := w.call(ctx); err != nil {
		return nil, err
	}
	m := make(map[string]string)
	for _, k := range ks {
		m[k] = k
	}
	return m, nil
}

// storm is what readers got out of an overload.
type storm struct {
	answered int             // within overloadFor
	took     []time.Duration // of those that were answered, sorted
	refused  int
	left     int // with their own deadline
	refusals []time.Duration
}

// goodput is the part of the origin's capacity that readers had something of.
func (s *storm) goodput() float64 {
	return float64(s.answered) / (capacity * overloadFor.Seconds())
}

func (s *storm) p99() time.Duration { return s.took[len(s.took)*99/100] }

// overload lets read be called for ten times the origin's capacity, with keys
// that nobody has asked for before. patience, if not 0, is every reader's.
func overload(t *testing.T, patience time.Duration, read func(ctx context.Context, key string) error) *storm {
	var s storm
	var mu sync.Mutex
	var wg sync.WaitGroup
	begun := time.Now()
	for i := 0; time.Since(begun) < overloadFor; i++ {
		wg.Go(func() {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if patience > 0 {
				ctx, cancel = context.WithTimeout(ctx, patience)
			}
			defer cancel()
			came := time.Now()
			err := read(ctx, fmt.Sprint("cold", i))
			took := time.Since(came)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				s.took = append(s.took, took)
				if time.Since(begun) <= overloadFor {
					s.answered++
				}
			case errors.Is(err, dewar.ErrOverloaded):
				s.refused++
				s.refusals = append(s.refusals, took)
			case errors.Is(err, context.DeadlineExceeded) && patience > 0:
				s.left++
			default:
				t.Error(err)
			}
		})
		time.Sleep(time.Second / (10 * capacity))
	}
	wg.Wait()
	slices.Sort(s.took)
	slices.Sort(s.refusals)
	return &s
}

// guarded is a configuration before a weak origin.
func guarded(w *weak, g dewar.Guard) config {
	cfg := localOnly(newOrigin(0))
	cfg.Local = memory.Config[string]{MaxEntries: 100_000}
	cfg.Guard, cfg.Load = g, w.load
	return cfg
}

func TestAtTenTimesTheCapacityGoodputHoldsAndLatencyIsBounded(t *testing.T) {
	const queue = 500 * time.Millisecond
	slots := dewar.Guard{MaxConcurrent: capacityCalls, QueueTimeout: queue, Breaker: dewar.Breaker{MinRequests: 5}}
	both := slots
	both.LoadsPerSecond = capacity
	for _, of := range []struct {
		name  string
		guard dewar.Guard
	}{{"slots", slots}, {"slots and rate", both}} {
		for _, fails := range []bool{true, false} {
			for kind, many := range map[string]bool{"Load": false, "LoadMany": true} {
				t.Run(fmt.Sprint(of.name, ", fails ", fails, ", ", kind), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := &weak{fails: fails}
						cfg := guarded(w, of.guard)
						if many {
							cfg.Load, cfg.LoadMany = nil, w.loadMany
						}
						c := open(t, cfg)
						s := overload(t, 0, func(ctx context.Context, k string) error {
							if many {
								_, err := c.GetMany(ctx, []string{k, k + "'"})
								return err
							}
							_, err := c.Get(ctx, k)
							return err
						})
						if s.goodput() < 0.9 {
							t.Errorf("goodput is %.3f of the capacity", s.goodput())
						}
						if p99 := s.p99(); p99 > queue+capacityTook {
							t.Errorf("p99 of what is answered: %v", p99)
						}
						if last := s.refusals[len(s.refusals)-1]; last > queue {
							t.Errorf("a refusal took %v", last)
						}
						if w.most > capacityCalls {
							t.Errorf("%d calls at once", w.most)
						}
						if st := c.Stats(); st.LoadErrors != 0 || st.Origin.Queued != 0 || st.Origin.Calls != 0 || st.Flights != 0 {
							t.Errorf("%+v", st)
						}
					})
				})
			}
		}
	}
}

// Many caches that share the guard are no more to the origin than one.
func TestAtTenTimesTheCapacityGoodputHoldsForCachesThatShareAnOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weak{fails: true}
		cfg := guarded(w, dewar.Guard{})
		cfg.Origin = dewar.NewOrigin("weak", dewar.Guard{MaxConcurrent: capacityCalls, QueueTimeout: 500 * time.Millisecond})
		var caches []*cache
		for range 10 {
			caches = append(caches, open(t, cfg))
		}
		var next atomic.Int64
		s := overload(t, 0, func(ctx context.Context, k string) error {
			_, err := caches[next.Add(1)%10].Get(ctx, k)
			return err
		})
		if s.goodput() < 0.9 || s.p99() > 600*time.Millisecond || w.most > capacityCalls {
			t.Errorf("goodput %.3f, p99 %v, %d at once", s.goodput(), s.p99(), w.most)
		}
	})
}

func TestAColdHerdOfDistinctKeysNeverExceedsTheBulkhead(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, c *cache, k string) error{
		"Get": func(ctx context.Context, c *cache, k string) error { _, err := c.Get(ctx, k); return err },
		"GetMany": func(ctx context.Context, c *cache, k string) error {
			_, err := c.GetMany(ctx, []string{k, k + "'", k + "''"})
			return err
		},
		"Reload": func(ctx context.Context, c *cache, k string) error {
			_, err := c.Get(ctx, k, dewar.Reload())
			return err
		},
		"Refresh": func(ctx context.Context, c *cache, k string) error { return c.Refresh(ctx, k) },
		"Preload": func(_ context.Context, c *cache, k string) error { return preload(c, []string{k}) },
	} {
		for tier, tiers := range tierings() {
			t.Run(name+", "+tier, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &weak{fails: true}
					cfg := guarded(w, dewar.Guard{MaxConcurrent: capacityCalls, QueueTimeout: time.Minute})
					cfg.Flight.Timeout = time.Minute
					tiers(&cfg)
					c := open(t, cfg)
					var wg sync.WaitGroup
					for _, k := range keys(500) {
						wg.Go(func() {
							if err := read(t.Context(), c, k); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					if w.most > capacityCalls {
						t.Errorf("%d calls at once", w.most)
					}
				})
			})
		}
	}
}

// Readers whose own deadline is earlier than the end of the queue: a slot must
// not go to those who have left by the time they are answered.
func TestGoodputHoldsForReadersLessPatientThanTheQueue(t *testing.T) {
	const queue = time.Second
	for _, patience := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, queue + capacityTook/2} {
		t.Run(patience.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &weak{fails: true}
				c := open(t, guarded(w, dewar.Guard{MaxConcurrent: capacityCalls, QueueTimeout: queue}))
				s := overload(t, patience, func(ctx context.Context, k string) error { _, err := c.Get(ctx, k); return err })
				if s.goodput() < 0.9 || s.p99() > patience {
					t.Errorf("goodput %.3f, p99 %v; %d left, %d refused", s.goodput(), s.p99(), s.left, s.refused)
				}
			})
		})
	}
}

// A burst that there is time for is served in the order in which it came.
func TestWhoCameFirstIsNextAsLongAsNobodyHasWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(5 * time.Millisecond)
		cfg := localOnly(o)
		cfg.Guard.MaxConcurrent = 1
		c := open(t, cfg)
		var wg sync.WaitGroup
		ks := keys(20) // 100 ms
		for _, k := range ks {
			wg.Go(func() { mustGet(t, c, k, k+"#1") })
			synctest.Wait()
		}
		wg.Wait()
		for i, call := range o.asked() {
			if call.keys[0] != ks[i] {
				t.Errorf("call %d is for %s", i, call.keys[0])
			}
		}
	})
}

// Under a standing overload by readers, refreshes keep their share.
func TestAnOverloadOfReadersDoesNotStopBackgroundLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &weak{fails: true}
		c := open(t, guarded(w, dewar.Guard{MaxConcurrent: capacityCalls, MaxBackground: 2, QueueTimeout: 500 * time.Millisecond}))
		done := make(chan error, 1)
		go func() { done <- preload(c, keys(40)) }() // 2 s, were there no readers
		s := overload(t, 200*time.Millisecond, func(ctx context.Context, k string) error { _, err := c.Get(ctx, k); return err })
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%d of 40 keys after %v", c.Stats().Refreshed, overloadFor)
			<-done
		}
		if s.goodput() < 0.75 {
			t.Errorf("goodput %.3f", s.goodput())
		}
	})
}
