package dewar_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// The hit path with what must cost it nothing, beside the same without.

// guardedVideos is a cache behind a shared origin with breaker, bulkhead, rate
// limit and retries, on a dial.
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

// BenchmarkRatioHit reports the median of with/without per hit, the two by
// turns; see BenchmarkRatio. It should be 1. "guarded" is behind a shared origin
// with everything before it, on a dial; "watched" has its Stats read ten times
// a second, as a collector of metrics does; "same" differs in nothing, and tells
// how far from 1 mere noise leads. Each side is several caches, so that no one
// cache's place in memory decides, of few entries, since the path is measured
// and not the memory.
//
//	go test -run '^$' -bench RatioHit -benchtime 200x .
func BenchmarkRatioHit(b *testing.B) {
	const entries = 1000
	keys := benchKeys(entries)
	drawn := zipf(keys, 1<<16)
	ctx := context.Background()
	for engine, local := range videoEngines(2 * entries) {
		plain := guardedVideos(local)
		plain.Name, plain.Origin, plain.Defcon, plain.Stale = "plain", nil, nil, dewar.Stale{}
		for name, cfg := range map[string]dewar.Config[string, *video]{"same": plain, "watched": plain, "guarded": guardedVideos(local)} {
			with, without := openSeveral(b, cfg, keys), openSeveral(b, plain, keys)
			for _, callers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/callers=%d", engine, name, callers), func(b *testing.B) {
					if name == "watched" {
						defer watch(with)()
					}
					ratio(b, byTurns(with, callers, ctx, drawn), byTurns(without, callers, ctx, drawn))
				})
			}
		}
	}
}

type videos = dewar.Cache[string, *video]

// openSeveral opens caches of one configuration that hold keys.
func openSeveral(tb testing.TB, cfg dewar.Config[string, *video], keys []string) (caches []*videos) {
	for i := range 6 {
		cfg.Name = fmt.Sprint("several-", i)
		c := openVideos(tb, cfg)
		for at := 0; at < len(keys); at += 100 {
			if _, err := c.GetMany(tb.Context(), keys[at:at+100]); err != nil {
				tb.Fatal(err)
			}
		}
		caches = append(caches, c)
	}
	return caches
}

// byTurns is the work of hitting a cache, each slice the next one.
func byTurns(caches []*videos, callers int, ctx context.Context, drawn []string) work {
	var works []work
	for _, c := range caches {
		works = append(works, calls(callers, func(i int) { _, _ = c.Get(ctx, drawn[i&(len(drawn)-1)]) }))
	}
	next := 0
	return func(n int) int {
		next++
		return works[next%len(works)](n)
	}
}

// watch reads the stats of caches until stop is called.
func watch(caches []*videos) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() { // stop waits for it
		defer close(ended)
		for ticker := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-ticker.C:
				for _, c := range caches {
					_ = c.Stats()
				}
			case <-end:
				ticker.Stop()
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

func openVideos(tb testing.TB, cfg dewar.Config[string, *video]) *videos {
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
