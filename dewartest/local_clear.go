package dewartest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/dewarcache/dewar"
)

func clearEmpties(t checker, open opened) {
	t.Helper()
	tier := open(1000)
	tier.Clear() // of nothing
	for round := range 20 {
		fillLocal(tier, 100)
		tier.Get("key1")
		tier.Clear()
		if s := tier.Stats(); s.Entries != 0 || s.Cost != 0 || s.Evicted != 0 {
			t.Errorf("Stats after Clear = %+v", s)
			return
		}
		for i := range 100 {
			if e := tier.Get(fmt.Sprint("key", i)); e != nil {
				t.Errorf("Get(key%d) after Clear = %v", i, e)
				return
			}
		}
		value := fmt.Sprint("round ", round)
		tier.Set("key1", localEntry(value))
		if e := tier.Get("key1"); e == nil || e.Value != value {
			t.Errorf("Get right after the first Set after Clear = %v, want the entry set", e)
			return
		}
		if s := tier.Stats(); s.Entries != 1 || s.Cost != 1 {
			t.Errorf("Stats of one entry after Clear = %+v", s)
			return
		}
		tier.Delete("key1")
	}
	fillLocal(tier, 5000) // the room is all there again
	if n := tier.Stats().Entries; n < 500 || n > 1000+slack {
		t.Errorf("%d entries after Clear and 5000 Sets, the capacity is 1000", n)
	}
}

// Each key has one writer, which counts versions up and says when each Set has
// returned; readers; and one who clears. What was set when Clear began is seen
// by nobody once it returned: a reload from before an InvalidateAll.
func clearedNeverReturns(t checker, open opened) {
	t.Helper()
	const keys, rounds, clears = 8, 1500, 200
	tier := open(200)
	var set, floors [keys]atomic.Int64 // the last version set; the least to be seen
	var work, others sync.WaitGroup
	var done atomic.Bool
	look := func(k int) bool {
		floor := floors[k].Load()
		if e := tier.Get(fmt.Sprint("key", k)); e != nil && e.Loaded < floor {
			t.Errorf("Get(key%d) saw version %d; all below %d were cleared", k, e.Loaded, floor)
			return false
		}
		return true
	}
	for k := range keys {
		work.Go(func() {
			for version := int64(1); version <= rounds; version++ {
				tier.Set(fmt.Sprint("key", k), dewar.Entry[string]{Loaded: version})
				set[k].Store(version)
				if version%7 == 0 {
					tier.Delete(fmt.Sprint("key", k))
				}
				if !look(k) {
					return
				}
			}
		})
	}
	work.Go(func() {
		for range clears {
			var before [keys]int64
			for k := range keys {
				before[k] = set[k].Load()
			}
			tier.Clear()
			for k := range keys {
				floors[k].Store(before[k] + 1)
			}
			for k := range keys {
				if !look(k) {
					return
				}
			}
			if s := tier.Stats(); s.Entries < 0 || s.Cost < 0 {
				t.Errorf("Stats %+v", s)
			}
		}
	})
	for range 3 {
		others.Go(func() {
			for !done.Load() && look(rand.IntN(keys)) {
				other := fmt.Sprint("other", rand.IntN(1000))
				tier.Set(other, dewar.Entry[string]{})
				tier.Get(other)
			}
		})
	}
	work.Wait()
	done.Store(true)
	others.Wait()
	tier.Clear()
	if s := tier.Stats(); s.Entries != 0 || s.Cost != 0 {
		t.Errorf("Stats after the last Clear = %+v", s)
	}
}
