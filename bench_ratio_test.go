package dewar_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/maypok86/otter/v2"
)

// BenchmarkRatio runs each work and its reference by turns, a slice of time
// each, and reports the median of ours/theirs per call: what one of the two
// meets on a busy machine, the other meets as well. Below 1 is faster than the
// reference.
//
//	go test -run '^$' -bench Ratio -benchtime 100x .
func BenchmarkRatio(b *testing.B) {
	b.Run("local-hit", ratioLocalHit)
	b.Run("getmany-100-local", ratioGetManyLocal)
	b.Run("remote", ratioRemote)
}

// slice is how long a work runs before it is the other's turn.
const slice = 10 * time.Millisecond

// work makes about n calls, by as many callers as it has, and returns how many.
type work func(n int) int

// ratio lets ours and theirs take turns, b.N times.
func ratio(b *testing.B, ours, theirs work) {
	perSlice := func(w work) int { // calls that take about a slice
		w(1) // connections are made
		n := 1
		for {
			begun := time.Now()
			made := w(n)
			if took := time.Since(begun); took > slice/4 {
				return max(1, int(float64(made)*float64(slice)/float64(took)))
			}
			n *= 4
		}
	}
	perCall := func(w work, n int) float64 {
		begun := time.Now()
		made := w(n)
		return float64(time.Since(begun)) / float64(made)
	}
	nOurs, nTheirs := perSlice(ours), perSlice(theirs)
	var ratios []float64
	for b.Loop() {
		first := perCall(ours, nOurs)
		ratios = append(ratios, first/perCall(theirs, nTheirs))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(0, "ns/op") // of both together: means nothing
}

// calls is the work of so many callers who share n calls.
func calls(callers int, call func(i int)) work {
	at := 0
	return func(n int) int {
		if callers == 1 {
			for range n {
				at++
				call(at)
			}
			return n
		}
		var wg sync.WaitGroup
		each := (n + callers - 1) / callers
		for range callers {
			from := at
			at += each
			wg.Go(func() {
				for i := range each {
					call(from + i)
				}
			})
		}
		wg.Wait()
		return each * callers
	}
}

func ratioLocalHit(b *testing.B) {
	keys := benchKeys(benchEntries)
	drawn := zipf(keys, 1<<20)
	ctx := context.Background()
	o := otter.Must(&otter.Options[string, *video]{
		MaximumSize:       2 * benchEntries,
		ExpiryCalculator:  otter.ExpiryWriting[string, *video](time.Hour),
		RefreshCalculator: otter.RefreshWriting[string, *video](48 * time.Minute),
	})
	loader := otter.LoaderFunc[string, *video](load)
	theirs := func(i int) { _, _ = o.Get(ctx, drawn[i&(1<<20-1)], loader) }
	for name, local := range map[string]dewar.LocalOpener[*video]{
		"ristretto": memory.Config[*video]{MaxEntries: 2 * benchEntries},
		"otter":     memory.Otter[*video]{MaxEntries: 2 * benchEntries},
	} {
		c := benchCache(b, local)
		for _, k := range keys {
			_, _ = c.Get(ctx, k)
			_, _ = o.Get(ctx, k, loader)
		}
		ours := func(i int) { _, _ = c.Get(ctx, drawn[i&(1<<20-1)]) }
		for _, callers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				ratio(b, calls(callers, ours), calls(callers, theirs))
			})
		}
	}
}

func ratioGetManyLocal(b *testing.B) {
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
	ratio(b,
		calls(1, func(i int) {
			if m, err := c.GetMany(ctx, batch(i)); len(m) != 100 || err != nil {
				panic(fmt.Sprint(len(m), err))
			}
		}),
		calls(1, func(i int) {
			if m := sweep(tier, batch(i)); len(m) != 100 {
				panic(len(m))
			}
		}))
}

func ratioRemote(b *testing.B) {
	rdb := benchRedis(b)
	c, p := remoteOnly(b, rdb), plainRedis{rdb, redistier.CBOR[*video]()}
	keys := benchKeys(benchRemoteKeys)
	fillRemote(b, c, p, keys)
	background := context.Background()
	leaving, cancel := context.WithCancel(background) // as in a request: the caller may leave
	defer cancel()

	get := func(ctx context.Context) func(int) {
		return func(i int) {
			if v, err := c.Get(ctx, keys[i*7919%len(keys)]); err != nil || v == nil {
				panic(fmt.Sprint(v, err))
			}
		}
	}
	for _, callers := range []int{1, 64, 256} {
		for name, ctx := range map[string]context.Context{"background": background, "cancelable": leaving} {
			b.Run("hit/callers="+strconv.Itoa(callers)+"/"+name, func(b *testing.B) {
				ratio(b, calls(callers, get(ctx)), calls(callers, func(i int) { p.get(ctx, rdb, keys[i*7919%len(keys)]) }))
			})
		}
	}

	batch := func(i int) []string { at := i * 100 % len(keys); return keys[at : at+100] }
	for name, ctx := range map[string]context.Context{"background": background, "cancelable": leaving} {
		b.Run("getmany-100/"+name, func(b *testing.B) {
			ratio(b,
				calls(1, func(i int) {
					if m, err := c.GetMany(ctx, batch(i)); len(m) != 100 || err != nil {
						panic(fmt.Sprint(len(m), err))
					}
				}),
				calls(1, func(i int) {
					if m, _ := p.getMany(ctx, batch(i)); len(m) != 100 {
						panic(len(m))
					}
				}))
		})
	}

	half := newHalfMissing(keys)
	for _, callers := range []int{1, 64} {
		b.Run("getmany-100-half-missing/callers="+strconv.Itoa(callers), func(b *testing.B) {
			ratio(b,
				calls(callers, func(i int) {
					if m, err := c.GetMany(background, half.batch(i)); len(m) != 100 || err != nil {
						panic(fmt.Sprint(len(m), err))
					}
				}),
				calls(callers, func(i int) { p.writeFirst(background, half.batch(i)) }))
			_ = c.Wait(background)
			b.ReportMetric(float64(c.Stats().WritesDropped), "dropped")
		})
	}

	// The same fenced writes, awaited before the answer.
	b.Run("getmany-100-half-missing/fenced-write-first", func(b *testing.B) {
		ratio(b,
			calls(1, func(i int) {
				if m, err := c.GetMany(background, half.batch(i)); len(m) != 100 || err != nil {
					panic(fmt.Sprint(len(m), err))
				}
			}),
			calls(1, func(i int) {
				if m, err := c.GetMany(background, half.batch(i)); len(m) != 100 || err != nil {
					panic(fmt.Sprint(len(m), err))
				}
				if err := c.Wait(background); err != nil {
					panic(err)
				}
			}))
	})
}
