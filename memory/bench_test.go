package memory

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sort"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
)

// The benchmarks compare within one run; only their ratios mean anything:
//
//	go test ./memory -bench 'Hit|Set' -benchtime 300ms -count 5

const benchKeys = 100_000

type payload struct{ ID [4]int64 }

// workload is keys of 24 bytes, and an order of reading them: Zipf, s = 1.01.
type workload struct {
	keys   []string
	values []*payload
	order  []int32 // a power of two of them
}

func newWorkload() *workload {
	w := &workload{order: make([]int32, 1<<20)}
	sums := make([]float64, benchKeys)
	sum := 0.0
	for i := range benchKeys {
		w.keys = append(w.keys, fmt.Sprintf("catalog:video:%010d", i))
		w.values = append(w.values, &payload{})
		sum += math.Pow(float64(i+1), -1.01)
		sums[i] = sum
	}
	random := rand.New(rand.NewPCG(1, 2))
	ranks := random.Perm(benchKeys) // so that neighbours in rank are none in memory
	for i := range w.order {
		w.order[i] = int32(ranks[sort.SearchFloat64s(sums, random.Float64()*sum)])
	}
	return w
}

func (w *workload) key(i uint) string { return w.keys[w.order[i%uint(len(w.order))]] }

// contender reads and writes one cache that holds all keys.
type contender struct {
	name string
	get  func(key string) *payload
	set  func(key string, v *payload)
	stop func()
}

func benchTier(name string, opener dewar.LocalOpener[*payload]) contender {
	t, err := opener.OpenLocal("bench")
	if err != nil {
		panic(err)
	}
	start := time.Now()
	get := func(key string) *payload {
		// What dewar.Cache.Get does besides: the clock, once, and one comparison.
		if e := t.Get(key); e != nil && int64(time.Since(start)) < e.Due {
			return e.Value
		}
		return nil
	}
	set := func(key string, v *payload) {
		t.Set(key, dewar.Entry[*payload]{Value: v, Due: math.MaxInt64, Fresh: math.MaxInt64})
	}
	return contender{name, get, set, t.Close}
}

func contenders(entries int) []contender {
	loading := otter.Must(&otter.Options[string, *payload]{
		MaximumSize:       entries,
		ExpiryCalculator:  otter.ExpiryWriting[string, *payload](time.Hour),
		RefreshCalculator: otter.RefreshWriting[string, *payload](50 * time.Minute),
	})
	loader := otter.LoaderFunc[string, *payload](func(context.Context, string) (*payload, error) {
		return &payload{}, nil
	})
	ctx := context.Background()
	plain, err := ristretto.NewCache(&ristretto.Config[string, *payload]{
		NumCounters: 10 * int64(entries), MaxCost: int64(entries), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return []contender{
		benchTier("engine=ristretto", Config[*payload]{MaxEntries: entries}),
		benchTier("engine=otter", Otter[*payload]{MaxEntries: entries}),
		{
			"peer=otter-loading",
			func(key string) *payload { v, _ := loading.Get(ctx, key, loader); return v },
			func(key string, v *payload) { loading.Set(key, v) },
			func() { loading.StopAllGoroutines() },
		},
		{
			"peer=ristretto",
			func(key string) *payload { v, _ := plain.Get(key); return v },
			func(key string, v *payload) { plain.SetWithTTL(key, v, 1, time.Hour) },
			plain.Close,
		},
	}
}

func (c contender) fill(w *workload) {
	for i, key := range w.keys {
		c.set(key, w.values[i])
		if i%1000 == 0 { // ristretto drops what its queue has no room for
			runtime.Gosched()
			time.Sleep(time.Millisecond)
		}
	}
}

var sink atomic.Pointer[payload]

// BenchmarkHit reads keys that are all there.
func BenchmarkHit(b *testing.B) {
	w := newWorkload()
	for _, c := range contenders(2 * benchKeys) {
		c.fill(w)
		b.Run("serial/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			var v *payload
			for i := uint(0); b.Loop(); i++ {
				v = c.get(w.key(i))
			}
			sink.Store(v)
		})
		b.Run("parallel/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var v *payload
				for i := uint(rand.Uint32()); pb.Next(); i++ {
					v = c.get(w.key(i))
				}
				sink.Store(v)
			})
		})
		c.stop()
	}
}

// BenchmarkGet reads from the tier alone: what is left of a hit when the clock
// and the comparison are taken away.
func BenchmarkGet(b *testing.B) {
	w := newWorkload()
	t, err := Config[*payload]{MaxEntries: 2 * benchKeys}.OpenLocal("bench")
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	for i, key := range w.keys {
		t.Set(key, dewar.Entry[*payload]{Value: w.values[i]})
	}
	var e *dewar.Entry[*payload]
	for i := uint(0); b.Loop(); i++ {
		e = t.Get(w.key(i))
	}
	sink.Store(e.Value)
}

// BenchmarkSet overwrites keys that are there, and adds new ones to a full cache.
func BenchmarkSet(b *testing.B) {
	w := newWorkload()
	for _, c := range contenders(benchKeys / 2) {
		c.fill(w)
		b.Run("overwrite/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.set(w.keys[benchKeys-1-i%1000], w.values[0])
			}
		})
		b.Run("new/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.set(strconv.Itoa(i), w.values[0])
			}
		})
		c.stop()
	}
}
