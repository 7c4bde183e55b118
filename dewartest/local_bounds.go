package dewartest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"

	"github.com/dewarcache/dewar"
)

// slack is by how many entries a tier may exceed its capacity: those whose
// Set has not returned, and a few.
const slack = 16

func boundHolds(t checker, open opened) {
	t.Helper()
	const capacity, writers = 1000, 4
	tier := open(capacity)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range 6_000 {
				key := fmt.Sprint("key", w, i)
				tier.Set(key, localEntry("value"))
				if i%2 == 0 {
					tier.Get(key)
				}
				if n := fewestEntries(tier, capacity+slack); n > capacity+slack {
					t.Errorf("%d entries, the capacity is %d", n, capacity)
					return
				}
			}
		})
	}
	wg.Wait()
	held := 0
	for w := range writers {
		for i := range 6_000 {
			if tier.Get(fmt.Sprint("key", w, i)) != nil {
				held++
			}
		}
	}
	if held > capacity || held < capacity/2 {
		t.Errorf("%d entries can be read, the capacity is %d", held, capacity)
	}
	if tier.Stats().Evicted == 0 {
		t.Errorf("nothing was counted as evicted")
	}
}

// fewestEntries looks again where a tier tells of more entries than enough: one
// that adds up counters, and is interrupted meanwhile, may have taken in what was
// added since but not what was removed.
func fewestEntries(tier dewar.LocalTier[string], enough int64) int64 {
	least := tier.Stats().Entries
	for range 5 {
		if least <= enough {
			break
		}
		least = min(least, tier.Stats().Entries)
	}
	return least
}

func smallCapacitiesWork(t checker, open opened) {
	t.Helper()
	for capacity := 1; capacity <= 40; capacity++ {
		tier := open(capacity)
		for i := range 50 * capacity {
			key := fmt.Sprint("key", i%(3*capacity))
			tier.Set(key, localEntry(key))
			if e := tier.Get(key); e != nil && e.Value != key {
				t.Errorf("capacity %d: Get(%q) = %v", capacity, key, e)
			}
		}
		if n := tier.Stats().Entries; n < 1 || n > int64(capacity) {
			t.Errorf("capacity %d: %d entries", capacity, n)
		}
		tier.Close()
	}
}

func statsCount(t checker, open opened) {
	t.Helper()
	tier := open(1000)
	fillLocal(tier, 100)
	fillLocal(tier, 100)
	if s := tier.Stats(); s.Entries != 100 || s.Cost != 100 || s.Evicted != 0 {
		t.Errorf("Stats after 100 keys were set twice = %+v", s)
	}
	for i := range 40 {
		tier.Delete(fmt.Sprint("key", i))
	}
	if s := tier.Stats(); s.Entries != 60 || s.Cost != 60 || s.Evicted != 0 {
		t.Errorf("Stats after 40 were deleted = %+v", s)
	}
}

// Anybody can evict. A scan of keys that are read once should not push out
// what is read all the time.
func hotEntriesStay(t checker, open opened) {
	t.Helper()
	tier := open(1000)
	hits, reads := 0, 0
	for i := range 20_000 {
		hot := fmt.Sprint("hot", rand.IntN(200))
		if tier.Get(hot) == nil {
			tier.Set(hot, localEntry(hot))
		} else if i > 10_000 {
			hits++
		}
		if i > 10_000 {
			reads++
		}
		tier.Set(fmt.Sprint("scan", i), localEntry("once"))
	}
	if ratio := float64(hits) / float64(reads); ratio < 0.8 {
		t.Errorf("a hit ratio of %.2f on 200 hot keys in a tier of 1000, under a scan", ratio)
	}
}

func closeEmpties(t checker, open opened) {
	t.Helper()
	tier := open(100)
	fillLocal(tier, 100)
	tier.Close()
	tier.Set("late", localEntry("value"))
	tier.Delete("key1")
	tier.Clear()
	tier.Set("later", localEntry("value"))
	for _, key := range []string{"key0", "key99", "late", "later"} {
		if e := tier.Get(key); e != nil {
			t.Errorf("Get(%q) after Close = %v", key, e)
		}
	}
	if s := tier.Stats(); s.Entries != 0 || s.Cost != 0 {
		t.Errorf("Stats after Close = %+v", s)
	}
}

func closeIsIdempotent(t checker, open opened) {
	t.Helper()
	tier := open(100)
	fillLocal(tier, 1000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(tier.Close)
	}
	wg.Wait()
	tier.Close()
}

func closeRacesEverything(t checker, open opened) {
	t.Helper()
	for range 20 {
		tier := open(200)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				<-start
				for i := range 2000 {
					key := fmt.Sprint("key", rand.IntN(1000))
					tier.Get(key)
					tier.Set(key, localEntry(key))
					if i%7 == 0 {
						tier.Delete(key)
						tier.Stats()
					}
					if i%500 == 0 {
						tier.Clear()
					}
				}
			})
		}
		wg.Go(func() {
			<-start
			for range rand.IntN(50) {
				runtime.Gosched()
			}
			tier.Close()
		})
		close(start)
		wg.Wait()
		tier.Close()
		fillLocal(tier, 10)
		if s := tier.Stats(); s.Entries != 0 || tier.Get("key1") != nil {
			t.Errorf("the tier holds %d entries after Close", s.Entries)
		}
	}
}
