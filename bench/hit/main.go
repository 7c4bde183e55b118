// Command hit times reads of keys that are all cached, from each cache in turn,
// round after round, and prints medians and their ratios to otter's loading Get
// with TTL and refresh. Taking turns makes the ratios comparable on a noisy
// machine; the nanoseconds are not.
//
//	go run ./hit
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

const (
	keyCount = 100_000
	reads    = 200_000 // by each goroutine in one turn
)

type value [4]int64

// cache gets from, and sets in, one cache that has room for all keys.
type cache struct {
	name string
	get  func(key string) *value
	set  func(key string, v *value)
}

func main() {
	rounds := flag.Int("rounds", 31, "turns of each cache")
	flag.Parse()

	keys, order := workload()
	caches := []cache{
		openTier("dewar's tier, and the clock", memory.Config[*value]{MaxEntries: keyCount * 11 / 10}),
		openTier("dewar's tier on otter, and the clock", memory.Otter[*value]{MaxEntries: keyCount * 11 / 10}),
		openRistretto(),
		openOtter(),
	}
	for _, c := range caches {
		for i, key := range keys {
			c.set(key, new(value))
			if i%1000 == 0 {
				time.Sleep(time.Millisecond) // ristretto drops what its queue has no room for
			}
		}
	}
	runtime.GC()

	fmt.Println("| cache | goroutines | ns a read | ratio |")
	fmt.Println("|---|---:|---:|---:|")
	for _, goroutines := range []int{1, runtime.GOMAXPROCS(0)} {
		times := make([][]float64, len(caches))
		for round := range *rounds {
			for i, c := range caches {
				times[i] = append(times[i], turn(c, keys, order, round, goroutines))
			}
		}
		for i := range times {
			slices.Sort(times[i])
		}
		median := func(i int) float64 { return times[i][len(times[i])/2] }
		for i, c := range caches {
			fmt.Printf("| %s | %d | %.0f | %.2f |\n", c.name, goroutines, median(i), median(i)/median(len(caches)-1))
		}
	}
}

// workload returns keys of 24 bytes and an order of reading them: Zipf, 1.01.
func workload() (keys []string, order []int32) {
	sums := make([]float64, keyCount)
	sum := 0.0
	for i := range sums {
		keys = append(keys, fmt.Sprintf("catalog:video:%010d", i))
		sum += math.Pow(float64(i+1), -1.01)
		sums[i] = sum
	}
	random := rand.New(rand.NewPCG(1, 2))
	ranks := random.Perm(keyCount)
	order = make([]int32, 1<<20)
	for i := range order {
		order[i] = int32(ranks[sort.SearchFloat64s(sums, random.Float64()*sum)])
	}
	return keys, order
}

var sink atomic.Pointer[value]

// turn returns how many nanoseconds one read took, goroutines in parallel.
func turn(c cache, keys []string, order []int32, round, goroutines int) float64 {
	var wg sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			var v *value
			for i := range reads {
				v = c.get(keys[order[(i+round*reads+g*555_555)%len(order)]])
			}
			sink.Store(v)
		})
	}
	wg.Wait()
	return float64(time.Since(start)) / float64(reads*goroutines)
}

func openTier(name string, opener dewar.LocalOpener[*value]) cache {
	tier, err := opener.OpenLocal("hit")
	if err != nil {
		panic(err)
	}
	return cache{
		name,
		func(key string) *value {
			if e := tier.Get(key); e != nil && dewar.Clock() < e.Due {
				return e.Value
			}
			return nil
		},
		func(key string, v *value) {
			tier.Set(key, dewar.Entry[*value]{Value: v, Due: math.MaxInt64, Fresh: math.MaxInt64})
		},
	}
}

func openRistretto() cache {
	c, err := ristretto.NewCache(&ristretto.Config[string, *value]{
		NumCounters: keyCount * 11, MaxCost: keyCount * 11 / 10, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return cache{
		"ristretto with TTL",
		func(key string) *value { v, _ := c.Get(key); return v },
		func(key string, v *value) { c.SetWithTTL(key, v, 1, time.Hour) },
	}
}

func openOtter() cache {
	c := otter.Must(&otter.Options[string, *value]{
		MaximumSize:       keyCount * 11 / 10,
		ExpiryCalculator:  otter.ExpiryWriting[string, *value](time.Hour),
		RefreshCalculator: otter.RefreshWriting[string, *value](50 * time.Minute),
	})
	load := otter.LoaderFunc[string, *value](func(context.Context, string) (*value, error) { return new(value), nil })
	ctx := context.Background()
	return cache{
		"otter, loading, TTL and refresh",
		func(key string) *value { v, _ := c.Get(ctx, key, load); return v },
		func(key string, v *value) { c.Set(key, v) },
	}
}
