package main

import (
	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// cache is what a trace is replayed against.
type cache interface {
	get(key string) bool
	set(key string)
	close()
}

type contender struct {
	name string
	open func(capacity int) cache
}

var contenders = []contender{
	{"dewar", func(n int) cache { return openTier(memory.Config[int]{MaxEntries: n}) }},
	{"dewar on otter", func(n int) cache { return openTier(memory.Otter[int]{MaxEntries: n}) }},
	{"otter", openOtter},
	{"ristretto with Wait", openRistretto},
}

// replay returns the share of accesses that were hits. A miss sets the key.
func replay(t *trace, c cache) float64 {
	defer c.close()
	hits := 0
	for _, n := range t.accesses {
		key := t.keys[n]
		if c.get(key) {
			hits++
		} else {
			c.set(key)
		}
	}
	return float64(hits) / float64(len(t.accesses))
}

type tier struct{ dewar.LocalTier[int] }

func openTier(opener dewar.LocalOpener[int]) cache {
	t, err := opener.OpenLocal("hitratio")
	if err != nil {
		panic(err)
	}
	return tier{t}
}

func (t tier) get(key string) bool { return t.Get(key) != nil }
func (t tier) set(key string)      { t.Set(key, dewar.Entry[int]{}) }
func (t tier) close()              { t.Close() }

// exactOtter is otter kept at its exact size: maintenance runs on the caller
// and after every Set.
type exactOtter struct{ *otter.Cache[string, int] }

func openOtter(capacity int) cache {
	return exactOtter{otter.Must(&otter.Options[string, int]{
		MaximumSize: capacity,
		Executor:    func(maintain func()) { maintain() },
	})}
}

func (o exactOtter) get(key string) bool { _, ok := o.GetIfPresent(key); return ok }
func (o exactOtter) set(key string)      { o.Set(key, 0); o.CleanUp() }
func (o exactOtter) close()              { o.StopAllGoroutines() }

// waitingRistretto waits after every Set; without it most sets of a fast
// replay are dropped, and its hit ratio is lower still.
type waitingRistretto struct{ *ristretto.Cache[string, int] }

func openRistretto(capacity int) cache {
	c, err := ristretto.NewCache(&ristretto.Config[string, int]{
		NumCounters:        10 * int64(capacity),
		MaxCost:            int64(capacity),
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return waitingRistretto{c}
}

func (r waitingRistretto) get(key string) bool { _, ok := r.Get(key); return ok }
func (r waitingRistretto) set(key string)      { r.Set(key, 0, 1); r.Wait() }
func (r waitingRistretto) close()              { r.Close() }
