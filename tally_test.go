package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestNoHitIsLostWhereManyCountAtOnce(t *testing.T) {
	const readers, batch = 4, 100
	for name, tt := range map[string]struct {
		each int // hits of a reader
		read func(c *cache, ctx context.Context, ks []string) (hits int)
	}{
		"Get": {2_500_000, func(c *cache, ctx context.Context, ks []string) int {
			for _, k := range ks {
				if _, err := c.Get(ctx, k); err != nil {
					t.Error(err)
				}
			}
			return len(ks)
		}},
		"GetMany": {500_000, func(c *cache, ctx context.Context, ks []string) int {
			m, err := c.GetMany(ctx, ks)
			if err != nil {
				t.Error(err)
			}
			return len(m)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, batched(newOrigin(0)))
			ks := keys(batch)
			if _, err := c.GetMany(t.Context(), ks); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					for n := 0; n < tt.each && !t.Failed(); {
						n += tt.read(c, t.Context(), ks)
					}
				})
			}
			wg.Wait()
			hits := uint64(readers * tt.each)
			if s := c.Stats(); s.LocalHits != hits || s.Loaded != batch || s.Gets() != hits+batch {
				t.Errorf("%d hits, %d loaded, %d gets", s.LocalHits, s.Loaded, s.Gets())
			}
		})
	}
}

// ending is how a read ended, as its Result says.
type ending struct {
	status dewar.Status // 0: an error
	tier   string
}

// endings counts how reads ended, where that can be seen, and all of them.
type endings struct {
	mu        sync.Mutex // guards these
	seen      map[ending]uint64
	collapsed uint64
	all       uint64
}

func (e *endings) add(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all += uint64(n)
}

func (e *endings) note(r dewar.Result[string]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen[ending{r.Status, r.Tier}]++
	if r.Collapsed {
		e.collapsed++
	}
}

// troubled configures a cache with everything that can become of a read: due
// and stale values, missing keys, failures, refusals, timeouts.
func troubled(o *origin) config {
	cfg := batched(o)
	cfg.TTL, cfg.NegativeTTL = time.Second, 500*time.Millisecond
	cfg.Warm.Ahead = 0.5
	cfg.Stale = dewar.Stale{IfError: 2 * time.Second, WhileRevalidate: 300 * time.Millisecond, SoftTimeout: 30 * time.Millisecond, RetryAfter: 50 * time.Millisecond}
	cfg.Flight.Timeout = 200 * time.Millisecond
	cfg.Guard = dewar.Guard{MaxConcurrent: 3, QueueTimeout: 20 * time.Millisecond, Breaker: dewar.Breaker{OpenFor: 100 * time.Millisecond, Window: time.Second}}
	cfg.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
		m, err := o.loadMany(ctx, keys)
		switch rand.IntN(20) {
		case 0:
			panic("boom")
		case 1:
			return nil, errOrigin
		case 2:
			delete(m, keys[0])
			return m, &dewar.BatchError[string]{Errs: []dewar.KeyError[string]{{Key: keys[0], Err: errOrigin}}}
		case 3:
			o.slow(time.Duration(rand.IntN(300)) * time.Millisecond)
		case 4:
			o.slow(0)
		}
		return m, err
	}
	for _, k := range keys(40)[:8] {
		o.remove(k)
	}
	return cfg
}

// readAtRandom makes a read of a random kind, with random options, which may
// leave early. With results it is one that tells how it ended.
func readAtRandom(ctx context.Context, c *cache, results bool, e *endings) {
	var opts []dewar.ReadOption
	for _, o := range []dewar.ReadOption{dewar.CacheOnly(), dewar.Reload(), dewar.NoStale(), dewar.MaxAge(time.Duration(rand.IntN(1000)) * time.Millisecond)} {
		if rand.IntN(6) == 0 {
			opts = append(opts, o)
		}
	}
	if rand.IntN(3) == 0 {
		left, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(50))*time.Millisecond)
		defer cancel()
		ctx = left
	}
	ks := keys(40)
	rand.Shuffle(len(ks), func(i, j int) { ks[i], ks[j] = ks[j], ks[i] })
	ks = ks[:1+rand.IntN(12)]
	kind := rand.IntN(4)
	if results {
		kind = 2 + kind%2
	}
	switch kind {
	case 0:
		e.add(1)
		_, _ = c.Get(ctx, ks[0], opts...)
	case 1:
		e.add(len(ks))
		_, _ = c.GetMany(ctx, ks, opts...)
	case 2:
		e.add(1)
		r, _ := c.GetResult(ctx, ks[0], opts...)
		e.note(r)
	case 3:
		e.add(len(ks))
		rs, err := c.GetManyResults(ctx, ks, opts...)
		for _, r := range rs {
			e.note(r)
		}
		var batch *dewar.BatchError[string]
		if errors.As(err, &batch) {
			for range batch.Errs {
				e.note(dewar.Result[string]{})
			}
		}
	}
}

func TestOnceIdleEveryReadHasBeenCountedAsWhatItWas(t *testing.T) {
	for name, tiers := range tierings() {
		for _, results := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", results: ", results), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := troubled(o)
					tiers(&cfg)
					e := &endings{seen: make(map[ending]uint64)}
					var told atomic.Uint64
					cfg.Trace = &dewar.Trace{ReadDone: func(_ context.Context, i dewar.ReadInfo) {
						if i.Keys != i.Hits+i.Loaded+i.Stale+i.Negative+i.Failed {
							t.Errorf("%+v", i)
						}
						told.Add(uint64(i.Keys))
					}}
					c := open(t, cfg)
					var wg sync.WaitGroup
					for range 8 {
						wg.Go(func() {
							for range 150 {
								readAtRandom(t.Context(), c, results, e)
								time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
								switch k := keys(40)[rand.IntN(40)]; rand.IntN(30) {
								case 0:
									_ = c.Invalidate(t.Context(), k)
								case 1:
									_ = c.Set(t.Context(), k, "set")
								case 2:
									_ = c.Expire(t.Context(), k)
								case 3:
									c.Dial().Set(dewar.Level(1 + rand.IntN(5)))
								case 4, 5, 6:
									c.Dial().Set(dewar.Normal)
								}
							}
						})
					}
					wg.Wait()
					time.Sleep(time.Second)
					s := c.Stats()
					if s.Gets() != e.all || told.Load() > e.all || results && told.Load() != e.all {
						t.Errorf("%d gets counted, %d told; there were %d", s.Gets(), told.Load(), e.all)
					}
					if !results {
						return
					}
					got := map[ending]uint64{
						{dewar.StatusHit, dewar.TierLocal}:       s.LocalHits,
						{dewar.StatusHit, dewar.TierRemote}:      s.RemoteHits,
						{dewar.StatusLoaded, dewar.TierOrigin}:   s.Loaded,
						{dewar.StatusStale, dewar.TierLocal}:     s.Stale - s.StaleRemote,
						{dewar.StatusStale, dewar.TierRemote}:    s.StaleRemote,
						{dewar.StatusNegative, dewar.TierLocal}:  s.Negative - s.NegativeRemote - s.NegativeOrigin,
						{dewar.StatusNegative, dewar.TierRemote}: s.NegativeRemote,
						{dewar.StatusNegative, dewar.TierOrigin}: s.NegativeOrigin,
						{0, ""}:                                  s.Failed,
					}
					for end, n := range e.seen {
						if got[end] != n {
							t.Errorf("%v, %q: %d counted, there were %d", end.status, end.tier, got[end], n)
						}
						delete(got, end)
					}
					for end, n := range got {
						if n != 0 {
							t.Errorf("%v, %q: %d counted, there was none", end.status, end.tier, n)
						}
					}
				})
			})
		}
	}
}

func TestStatsMayBeReadWhileOthersReadWriteAndClose(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(0)
			cfg := batched(o)
			tiers(&cfg)
			cfg.Track = 10
			cfg.Stale.IfError = time.Hour
			c, err := dewar.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ks := keys(50)
			var wg sync.WaitGroup
			var closed atomic.Bool
			var done atomic.Int64
			for w := range 8 {
				wg.Go(func() {
					for i := 0; !closed.Load(); i++ {
						done.Add(1)
						k := ks[(i*7+w)%len(ks)]
						switch i % 7 {
						case 0:
							_ = c.Set(t.Context(), k, "set")
						case 1:
							_ = c.Invalidate(t.Context(), k)
						case 2:
							_ = c.Refresh(t.Context(), k)
						case 3:
							_, _ = c.GetMany(t.Context(), ks[:10])
						case 4:
							c.KeepWarm(k)
							c.LetGo(k)
						case 5:
							_, _ = c.Inspect(t.Context(), k)
						default:
							_, _ = c.Get(t.Context(), k)
						}
					}
				})
			}
			var before dewar.Stats
			for snapshots := 0; snapshots < 200 || done.Load() < 2000; snapshots++ {
				s := c.Stats()
				for name, n := range counts(before) {
					if counts(s)[name] < n {
						t.Fatalf("%s went from %d to %d", name, n, counts(s)[name])
					}
				}
				before = s
				_, _ = c.HotKeys(), c.StaleKeys()
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			after := c.Stats()
			closed.Store(true)
			wg.Wait()
			if after.Flights != 0 || after.BackfillQueue != 0 || after.Pinned > len(ks) {
				t.Errorf("after Close: %+v", after)
			}
			if s := c.Stats(); s.Gets() < before.Gets() || !slices.Equal([]int{s.Flights, s.OverdueLoads}, []int{0, 0}) {
				t.Errorf("at the end: %+v", s)
			}
		})
	}
}

func TestALocalStaleValueAfterSoftTimeoutIsNotCollapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Stale = dewar.Stale{IfError: time.Hour, SoftTimeout: 100 * time.Millisecond}
		c := open(t, cfg)
		mustGet(t, c, "a", "a#1")
		time.Sleep(2 * time.Minute)
		o.slow(5 * time.Second)
		before := c.Stats()
		for range 10 {
			go c.Get(context.Background(), "a")
		}
		time.Sleep(50 * time.Millisecond)
		r, err := c.GetResult(t.Context(), "a")
		if err != nil || r.Tier != dewar.TierLocal || r.Status != dewar.StatusStale {
			t.Fatal(r, err)
		}
		s := c.Stats()
		t.Logf("stale %d, collapsed %d", s.Stale-before.Stale, s.Collapsed-before.Collapsed)
		if r.Collapsed {
			t.Error("a value from the local tier, after SoftTimeout, is told as what another's flight brought; it has brought nothing yet")
		}
		time.Sleep(time.Minute)
	})
}
