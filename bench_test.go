package dewar_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"
)

// Every benchmark here has its reference beside it, to be run in the same
// process: on a busy machine only the ratio of the two means something.

const benchEntries = 100_000

// video is what the benchmarks cache, by pointer.
type video struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Duration int      `json:"duration"`
	Tags     []string `json:"tags"`
	Live     bool     `json:"live"`
}

// benchKeys are 24 bytes each.
func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("video:%018d", i)
	}
	return keys
}

func newVideo(key string) *video {
	return &video{ID: key, Title: "The final, " + key, Duration: 5400, Tags: []string{"sport", "live", "uhd"}, Live: true}
}

// zipf draws n keys, Zipf 1.01.
func zipf(keys []string, n int) []string {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, uint64(len(keys)-1))
	drawn := make([]string, n)
	for i := range drawn {
		drawn[i] = keys[z.Uint64()]
	}
	return drawn
}

func load(_ context.Context, key string) (*video, error) { return newVideo(key), nil }

func loadMany(_ context.Context, keys []string) (map[string]*video, error) {
	m := make(map[string]*video, len(keys))
	for _, k := range keys {
		m[k] = newVideo(k)
	}
	return m, nil
}

func benchCache(b *testing.B, local dewar.LocalOpener[*video]) *dewar.Cache[string, *video] {
	c, err := dewar.New(dewar.Config[string, *video]{
		Name: "bench", TTL: time.Hour, Local: local, Load: load, LoadMany: loadMany,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkLocalHit is a fresh hit with TTL and refresh-ahead on, beside
// otter's loading Get with both, and ristretto without either.
func BenchmarkLocalHit(b *testing.B) {
	keys := benchKeys(benchEntries)
	drawn := zipf(keys, 1<<20)
	ctx := context.Background()

	get := func(name string, get func(string)) {
		for _, k := range keys {
			get(k)
		}
		time.Sleep(100 * time.Millisecond) // what is queued inside the engines
		b.Run(name+"/serial", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				get(drawn[i&(1<<20-1)])
				i++
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(1 << 20)
				for pb.Next() {
					get(drawn[i&(1<<20-1)])
					i++
				}
			})
		})
	}

	ours := benchCache(b, memory.Config[*video]{MaxEntries: 2 * benchEntries})
	get("dewar-ristretto", func(k string) { _, _ = ours.Get(ctx, k) })

	small := benchCache(b, memory.Otter[*video]{MaxEntries: 2 * benchEntries})
	get("dewar-otter", func(k string) { _, _ = small.Get(ctx, k) })

	o := otter.Must(&otter.Options[string, *video]{
		MaximumSize:       2 * benchEntries,
		ExpiryCalculator:  otter.ExpiryWriting[string, *video](time.Hour),
		RefreshCalculator: otter.RefreshWriting[string, *video](48 * time.Minute),
	})
	loader := otter.LoaderFunc[string, *video](load)
	get("otter", func(k string) { _, _ = o.Get(ctx, k, loader) })

	r, err := ristretto.NewCache(&ristretto.Config[string, *video]{
		NumCounters: 10 * 2 * benchEntries, MaxCost: 2 * benchEntries, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	get("ristretto-no-ttl", func(k string) {
		if _, ok := r.Get(k); !ok {
			r.Set(k, newVideo(k), 1)
			r.Wait()
		}
	})
}

// BenchmarkGetMany100Local is a sweep of 100 fresh hits, beside a loop over the
// tier itself that fills a map.
func BenchmarkGetMany100Local(b *testing.B) {
	keys := benchKeys(benchEntries)
	ctx := context.Background()
	tier, err := memory.Config[*video]{MaxEntries: 2 * benchEntries}.OpenLocal("bench")
	if err != nil {
		b.Fatal(err)
	}
	c := benchCache(b, opened{tier})
	for _, k := range keys {
		_, _ = c.Get(ctx, k)
	}
	batch := func(i int) []string { at := i * 100 % (benchEntries - 100); return keys[at : at+100] }
	b.Run("dewar", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			m, err := c.GetMany(ctx, batch(i))
			if len(m) != 100 || err != nil {
				b.Fatal(len(m), err)
			}
			i++
		}
	})
	b.Run("tier-loop", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if m := sweep(tier, batch(i)); len(m) != 100 {
				b.Fatal(len(m))
			}
			i++
		}
	})
}

// opened is a tier that is open already, so that cache and loop sweep the same.
type opened struct{ dewar.LocalTier[*video] }

func (opened) Validate() error                                     { return nil }
func (o opened) OpenLocal(string) (dewar.LocalTier[*video], error) { return o.LocalTier, nil }

// sweep is the loop that a user of the tier alone would write.
//
//go:noinline
func sweep(tier dewar.LocalTier[*video], keys []string) map[string]*video {
	m := make(map[string]*video, len(keys))
	now := dewar.Clock()
	for _, k := range keys {
		if e := tier.Get(k); e != nil && now < e.Due {
			m[k] = e.Value
		}
	}
	return m
}

// BenchmarkHerd is 1000 callers of one cold key before an origin that takes
// 20 ms. It reports the loads of one herd and the p99 of the callers as a
// multiple of the origin's time.
func BenchmarkHerd(b *testing.B) {
	const callers, origin = 1000, 20 * time.Millisecond
	for _, spread := range []time.Duration{0, 40 * time.Millisecond} {
		b.Run("spread="+spread.String(), func(b *testing.B) {
			var loads atomic.Int64
			c, err := dewar.New(dewar.Config[string, *video]{
				Name: "herd", TTL: time.Hour, Local: memory.Config[*video]{},
				Load: func(_ context.Context, k string) (*video, error) {
					loads.Add(1)
					time.Sleep(origin)
					return newVideo(k), nil
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			var took []time.Duration
			herds := 0
			for b.Loop() {
				key := "cold:" + strconv.Itoa(herds)
				herds++
				took = append(took, herd(c, key, callers, spread)...)
			}
			slices.Sort(took)
			b.ReportMetric(float64(loads.Load())/float64(herds), "loads/herd")
			b.ReportMetric(float64(took[len(took)*99/100])/float64(origin), "p99/origin")
		})
	}
}

// herd sends n callers after one key, within spread, and returns how long each
// took.
func herd(c *dewar.Cache[string, *video], key string, n int, spread time.Duration) []time.Duration {
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if spread > 0 {
				time.Sleep(spread * time.Duration(i) / time.Duration(n))
			}
			begun := time.Now()
			_, _ = c.Get(context.Background(), key)
			took[i] = time.Since(begun)
		})
	}
	close(start)
	wg.Wait()
	return took
}

// BenchmarkHotKey is 64 readers of one key whose TTL is 300 ms before an
// origin that takes 20 ms. waits/op counts the reads, after the first, that
// took as long as half a load: there should be none.
func BenchmarkHotKey(b *testing.B) {
	const origin = 20 * time.Millisecond
	c, err := dewar.New(dewar.Config[string, *video]{
		Name: "hot", TTL: 300 * time.Millisecond, Local: memory.Config[*video]{},
		Load: func(_ context.Context, k string) (*video, error) {
			time.Sleep(origin)
			return newVideo(k), nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Get(ctx, "hot"); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32) // of GOMAXPROCS each
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = c.Get(ctx, "hot")
		}
	})
	s := c.Stats()
	// A read that waits for the origin is one that a load answered.
	b.ReportMetric(float64(s.Loaded-1), "waits")
	b.ReportMetric(float64(s.Loads), "loads")
}
