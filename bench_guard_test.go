package dewar_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// The hit path with everything before the origin that can be configured, beside
// the same without any of it.

// guardedVideos is benchCache's configuration behind a shared origin with
// breaker, bulkhead, rate limit and retries, on a dial.
func guardedVideos(local dewar.LocalOpener[*video]) dewar.Config[string, *video] {
	return dewar.Config[string, *video]{
		Name: "guarded", TTL: time.Hour, Local: local, Load: load, LoadMany: loadMany,
		Stale: dewar.Stale{IfError: time.Hour, SoftTimeout: time.Second},
		Origin: dewar.NewOrigin("catalog", dewar.Guard{
			MaxConcurrent: 64, LoadsPerSecond: 1e6, Breaker: dewar.Breaker{SlowerThan: time.Second},
			Retry: dewar.Retry{Idempotent: true},
		}),
		Defcon: new(dewar.Defcon),
	}
}

func videoEngines(entries int) map[string]dewar.LocalOpener[*video] {
	return map[string]dewar.LocalOpener[*video]{
		"ristretto": memory.Config[*video]{MaxEntries: entries}, "otter": memory.Otter[*video]{MaxEntries: entries},
	}
}

// BenchmarkRatioGuard reports the median of with/without per call, the two by
// turns; see BenchmarkRatio. It should be 1.
//
//	go test -run '^$' -bench RatioGuard -benchtime 100x .
func BenchmarkRatioGuard(b *testing.B) {
	keys := benchKeys(benchEntries)
	drawn := zipf(keys, 1<<20)
	ctx := context.Background()
	for name, local := range videoEngines(2 * benchEntries) {
		without := benchCache(b, local)
		cfg := guardedVideos(local)
		with := openVideos(b, cfg)
		cfg.Name = "beside"
		openVideos(b, cfg) // shares origin and dial
		for _, c := range []*dewar.Cache[string, *video]{without, with} {
			for at := 0; at < len(keys); at += 100 {
				if _, err := c.GetMany(ctx, keys[at:at+100]); err != nil {
					b.Fatal(err)
				}
			}
		}
		get := func(c *dewar.Cache[string, *video]) func(int) {
			return func(i int) { _, _ = c.Get(ctx, drawn[i&(1<<20-1)]) }
		}
		for _, callers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/hit/callers=%d", name, callers), func(b *testing.B) {
				ratio(b, calls(callers, get(with)), calls(callers, get(without)))
			})
		}
		many := func(c *dewar.Cache[string, *video]) func(int) {
			return func(i int) {
				at := i * 100 % (benchEntries - 100)
				if m, err := c.GetMany(ctx, keys[at:at+100]); len(m) != 100 || err != nil {
					panic(fmt.Sprint(len(m), err))
				}
			}
		}
		b.Run(name+"/getmany-100-local", func(b *testing.B) {
			ratio(b, calls(1, many(with)), calls(1, many(without)))
		})
	}
}

func openVideos(tb testing.TB, cfg dewar.Config[string, *video]) *dewar.Cache[string, *video] {
	tb.Helper()
	c, err := dewar.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func TestAHitAllocatesNothingWithADialAndAGuard(t *testing.T) {
	for name, local := range videoEngines(1000) {
		cfg := guardedVideos(local)
		c := openVideos(t, cfg)
		other := cfg
		other.Name = "other"
		openVideos(t, other) // shares both
		ctx := t.Context()
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		for _, level := range []dewar.Level{dewar.Normal, dewar.Elevated, dewar.Degraded, dewar.Protect, dewar.Lockdown} {
			cfg.Defcon.Set(level)
			if n := testing.AllocsPerRun(1000, func() { _, _ = c.Get(ctx, "a") }); n != 0 {
				t.Errorf("%s, %v: %v allocations", name, level, n)
			}
		}
		if s := c.Stats(); s.Loads != 1 || s.LocalHits < 5000 {
			t.Errorf("%+v", s)
		}
	}
}
