// Command heap fills caches with entries of shared keys and values and prints
// what each entry takes of the heap beyond those, once full and once after
// many evictions.
//
//	go run ./heap
//	go run ./heap -entries 100000
package main

import (
	"flag"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func main() {
	entries := flag.Int("entries", 1_000_000, "how many entries each cache holds")
	flag.Parse()
	fmt.Println("| cache | entries | bytes an entry, filled | after evictions | peer | ratio |")
	fmt.Println("|---|---:|---:|---:|---|---:|")
	measured := map[string]result{}
	for _, c := range contenders {
		r := measure(c, *entries)
		measured[c.name] = r
		peer, ratio := "", ""
		if c.peer != "" {
			peer, ratio = c.peer, fmt.Sprintf("%.2f", r.churned/measured[c.peer].churned)
		}
		fmt.Printf("| %s | %d | %.0f | %.0f | %s | %s |\n", c.name, r.held, r.filled, r.churned, peer, ratio)
	}
}

// cache is what is measured.
type cache interface {
	set(key string, v *value)
	get(key string)
	held() int // entries; whatever is queued is done
	close()
}

type value [4]int64

type contender struct {
	name string
	peer string // measured before it, that it is compared with
	open func(entries int) cache
}

var contenders = []contender{
	{"ristretto with TTL", "", openRistretto},
	{"otter with TTL and refresh", "", openOtter},
	{"dewar", "ristretto with TTL", func(n int) cache { return openTier(memory.Config[*value]{MaxEntries: n}) }},
	{"dewar on otter", "otter with TTL and refresh", func(n int) cache { return openTier(memory.Otter[*value]{MaxEntries: n}) }},
}

type result struct {
	held            int
	filled, churned float64 // bytes an entry
}

// measure fills a cache, then reads all of it and sets as many new keys, each
// of which is read too, so that every structure it has is in full use.
func measure(c contender, entries int) result {
	keys := make([]string, 2*entries)
	values := make([]*value, len(keys))
	for i := range keys {
		keys[i] = fmt.Sprintf("catalog:video:%010d", i)
		values[i] = new(value)
	}
	before := heap()
	cache := c.open(entries)
	for i, key := range keys[:entries] {
		cache.set(key, values[i])
		if i%10_000 == 0 {
			cache.held() // so that no queue overflows
		}
	}
	held := cache.held()
	r := result{filled: float64(heap()-before) / float64(held)}
	for i, key := range keys {
		if i >= entries {
			cache.set(key, values[i])
		}
		cache.get(key)
		if i%10_000 == 0 {
			cache.held()
		}
	}
	r.held = cache.held()
	r.churned = float64(heap()-before) / float64(r.held)
	cache.close()
	runtime.KeepAlive(keys)
	runtime.KeepAlive(values)
	return r
}

func heap() uint64 {
	for range 3 {
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

type tier struct{ dewar.LocalTier[*value] }

func openTier(opener dewar.LocalOpener[*value]) cache {
	t, err := opener.OpenLocal("heap")
	if err != nil {
		panic(err)
	}
	return tier{t}
}

func (t tier) set(key string, v *value) {
	t.Set(key, dewar.Entry[*value]{Value: v, Due: math.MaxInt64, Fresh: math.MaxInt64})
}
func (t tier) get(key string) { t.Get(key) }
func (t tier) held() int      { return int(t.Stats().Entries) }
func (t tier) close()         { t.Close() }

type plainOtter struct{ *otter.Cache[string, *value] }

func openOtter(entries int) cache {
	return plainOtter{otter.Must(&otter.Options[string, *value]{
		MaximumSize:       entries,
		ExpiryCalculator:  otter.ExpiryWriting[string, *value](time.Hour),
		RefreshCalculator: otter.RefreshWriting[string, *value](50 * time.Minute),
	})}
}

func (o plainOtter) set(key string, v *value) { o.Set(key, v) }
func (o plainOtter) get(key string)           { o.GetIfPresent(key) }
func (o plainOtter) held() int                { o.CleanUp(); return o.EstimatedSize() }
func (o plainOtter) close()                   { o.StopAllGoroutines() }

type plainRistretto struct {
	*ristretto.Cache[string, *value]
	entries int64
}

func openRistretto(entries int) cache {
	c, err := ristretto.NewCache(&ristretto.Config[string, *value]{
		NumCounters:        10 * int64(entries),
		MaxCost:            int64(entries),
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return plainRistretto{c, int64(entries)}
}

func (r plainRistretto) set(key string, v *value) { r.SetWithTTL(key, v, 1, time.Hour) }
func (r plainRistretto) get(key string)           { r.Get(key) }
func (r plainRistretto) held() int                { r.Wait(); return int(r.entries - r.RemainingCost()) }
func (r plainRistretto) close()                   { r.Close() }
