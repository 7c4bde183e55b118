package memory

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// broken returns every invariant of t that does not hold. Nobody may use t
// meanwhile.
func broken[V any, W weight](t *tier[V, W]) (problems []string) {
	var entries, total, main int64
	buckets := t.table.Load().buckets
	for i := range buckets {
		tags := map[uint32]bool{}
		for n := buckets[i].Load(); n != nil; n = n.next.Load() {
			hash := t.hash(t.seed, n.key)
			if hash&uint64(len(buckets)-1) != uint64(i) || tagOf(hash) != n.tag() {
				problems = append(problems, fmt.Sprintf("%.20q is in bucket %d with tag %d", n.key, i, n.tag()))
			}
			if tags[n.tag()] {
				problems = append(problems, fmt.Sprintf("two nodes have the tag of %.20q", n.key))
			}
			tags[n.tag()] = true
			entries++
			total += n.weight.units()
			if n.ticket == 0 {
				main += n.weight.units()
			}
		}
	}
	if entries != t.entries.Load() || total != t.cost.Load() || main != t.main.Load() {
		problems = append(problems, fmt.Sprintf("counted %d entries, %d cost, %d in main; found %d, %d, %d",
			t.entries.Load(), t.cost.Load(), t.main.Load(), entries, total, main))
	}
	if total > t.capacity {
		problems = append(problems, fmt.Sprintf("cost %d is over the capacity of %d", total, t.capacity))
	}
	if t.pending.Load() != 0 {
		problems = append(problems, fmt.Sprintf("%d offers are pending for ever", t.pending.Load()))
	}
	if t.window.length > int(2*entries)+2*chunkSize {
		problems = append(problems, fmt.Sprintf("the window has %d seats for %d entries", t.window.length, entries))
	}
	return problems
}

// byValue costs what the value says in length.
func byValue(_, v string) int64 { return int64(len(v)) }

func openInside[V any, W weight](t *testing.T, c Config[V]) *tier[V, W] {
	t.Helper()
	return openLocal(t, c).(*tier[V, W])
}

// hammer lets goroutines do everything at once, with keys few enough to meet.
func hammer(tier dewar.LocalTier[string], rounds int, value func() string) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range rounds {
				key := fmt.Sprint(rand.IntN(3000))
				switch rand.IntN(8) {
				case 0:
					tier.Delete(key)
				case 1, 2, 3:
					tier.Set(key, dewar.Entry[string]{Value: value()})
				default:
					tier.Get(fmt.Sprint(rand.IntN(300)))
				}
			}
		})
	}
	wg.Wait()
}

func TestInvariantsHoldAfterEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := openInside[string, one](t, Config[string]{MaxEntries: 500})
		hammer(counted, 20_000, func() string { return "" })
		weighed := openInside[string, cost](t, Config[string]{MaxCost: 5000, Cost: byValue})
		hammer(weighed, 20_000, func() string { return strings.Repeat("x", rand.IntN(100)) })
		synctest.Wait() // for ristretto's queues
		for _, problem := range append(broken(counted), broken(weighed)...) {
			t.Error(problem)
		}
		counted.Close()
		weighed.Close()
	})
}

func TestCostBoundHoldsWhenEveryEntryGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := openInside[string, cost](t, Config[string]{MaxCost: 10_000, Cost: byValue})
		for size := 1; size <= 200; size += 3 {
			for i := range 1000 {
				key := fmt.Sprint(i)
				tier.Get(key)
				tier.Set(key, dewar.Entry[string]{Value: strings.Repeat("x", size)})
				if c := tier.Stats().Cost; c > 10_000 {
					t.Fatalf("cost %d", c)
				}
				if tier.Get(key) == nil && size < 10 {
					t.Fatalf("%q of %d is gone at once, with %d of 10000 in use", key, size, tier.Stats().Cost)
				}
			}
			synctest.Wait()
		}
		if s := tier.Stats(); s.Cost < 5000 {
			t.Errorf("the tier holds no more than %+v", s)
		}
		for _, problem := range broken(tier) {
			t.Error(problem)
		}
		tier.Close()
	})
}

// When costs have grown behind ristretto's back, main is swept by hand.
func TestOverfullMainIsSwept(t *testing.T) {
	tier := openInside[string, cost](t, Config[string]{MaxCost: 1000, Cost: byValue})
	tier.mu.Lock()
	defer tier.mu.Unlock()
	for i := range 100 {
		hash := tier.hash(tier.seed, fmt.Sprint(i))
		n := &node[string, cost]{key: fmt.Sprint(i), weight: 11}
		tier.put(hash, n)
		n.ticket = 0
		tier.main.Add(11)
	}
	tier.get("7")
	tier.makeRoomLocked()
	if c := tier.cost.Load(); c > 1000 || c < 900 {
		t.Errorf("cost %d of 1000 after making room", c)
	}
	if tier.get("7") == nil {
		t.Error("the one used entry was swept first")
	}
}

// Two keys of one hash cannot both stay, but never answer for each other.
func TestKeysOfOneHashNeverAnswerForEachOther(t *testing.T) {
	tier := openInside[string, one](t, Config[string]{MaxEntries: 100})
	one := maphash.String(tier.seed, "a")
	tier.hash = func(seed maphash.Seed, key string) uint64 {
		if key == "b" {
			return one
		}
		return maphash.String(seed, key)
	}
	set := func(key string) { tier.Set(key, dewar.Entry[string]{Value: key}) }

	set("a")
	tier.Delete("b")
	if e := tier.Get("a"); e == nil || e.Value != "a" {
		t.Fatalf("after Delete of another key of its hash, Get = %v", e)
	}
	set("b") // takes a's place in the chain
	if e := tier.Get("a"); e != nil {
		t.Errorf("Get(a) = %v, the entry of b", e)
	}
	if s := tier.Stats(); s.Entries != 1 {
		t.Errorf("%d entries of one hash", s.Entries)
	}
	set("a")
	if e := tier.Get("a"); e == nil || e.Value != "a" {
		t.Errorf("Get(a) = %v", e)
	}
}

func TestIndexGrowsWithCheapEntries(t *testing.T) {
	x := new(index[int, one])
	x.init(1)
	for i := range 5000 {
		key := fmt.Sprint(i)
		x.put(x.hash(x.seed, key), &node[int, one]{key: key, entry: dewar.Entry[int]{Value: i}})
		if x.crowded() {
			x.grow()
		}
	}
	if n := len(x.table.Load().buckets); n != 8192 {
		t.Errorf("%d buckets for 5000 entries", n)
	}
	for i := range 5000 {
		if e := x.get(fmt.Sprint(i)); e == nil || e.Value != i {
			t.Fatalf("Get(%d) = %v after growing", i, e)
		}
	}
}

func TestWindowForgetsDeletedEntries(t *testing.T) {
	tier := openInside[string, one](t, Config[string]{MaxEntries: 10})
	for range 50_000 {
		tier.Set("key", dewar.Entry[string]{})
		tier.Delete("key")
	}
	if n := tier.window.length; n > 2*chunkSize {
		t.Errorf("%d seats in the window of an empty tier", n)
	}
}

// An invalidated hot key comes back; its record in ristretto is still there.
func TestDeletedAndSetAgainIsEvictedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := openInside[string, one](t, Config[string]{MaxEntries: 200})
		for round := range 200 {
			for i := range 400 {
				key := fmt.Sprint(i)
				if tier.Get(key); round%3 == 1 {
					tier.Delete(key)
				}
				tier.Set(key, dewar.Entry[string]{})
				tier.Get(key)
			}
			synctest.Wait()
			for _, problem := range broken(tier) {
				t.Fatal("round ", round, ": ", problem)
			}
		}
		if s := tier.Stats(); s.Entries < 150 {
			t.Errorf("%d of 200 entries are left", s.Entries)
		}
		tier.Close()
	})
}

func TestSynctestTimePassesBesideAnOpenTier(t *testing.T) {
	for name, opener := range map[string]dewar.LocalOpener[string]{
		"ristretto": Config[string]{MaxEntries: 100},
		"otter":     Otter[string]{MaxEntries: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tier, err := opener.OpenLocal("test")
				if err != nil {
					t.Fatal(err)
				}
				tier.Set("key", dewar.Entry[string]{Value: "value"})
				time.Sleep(10 * 365 * 24 * time.Hour)
				if tier.Get("key") == nil {
					t.Error("the entry is gone: the tier looked at the clock")
				}
				tier.Close()
			})
		})
	}
}
