package dewartest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/dewarcache/dewar"
)

// LocalTier checks the contract of a [dewar.LocalTier] against the tiers that
// open returns, each of a capacity of maxEntries. It takes a second or two, and
// is worth most under the race detector. What a violation means is told beside
// each check.
func LocalTier(t *testing.T, open func(t *testing.T, maxEntries int) dewar.LocalTier[string]) {
	for _, name := range []string{ // in this order
		"SetIsVisibleAtOnce", "OverwriteIsVisibleAtOnce", "SecondOfTwoQuickSetsIsKept",
		"DeletedNeverReturns", "NeverAnOlderVersion", "NeverAnotherKeysEntry",
		"KeysAreAnyString", "NegativeEntriesAreKept", "EntryIsKeptWhole",
		"ClearEmpties", "ClearedNeverReturns",
		"BoundHolds", "SmallCapacitiesWork", "StatsCount", "HotEntriesStay",
		"CloseEmpties", "CloseIsIdempotent", "CloseRacesEverything",
	} {
		check := localChecks[name]
		t.Run(name, func(t *testing.T) {
			check(t, func(maxEntries int) dewar.LocalTier[string] {
				tier := open(t, maxEntries)
				t.Cleanup(tier.Close)
				return tier
			})
		})
	}
	t.Run("GetAllocatesNothing", func(t *testing.T) { getAllocatesNothing(t, open) })
	t.Run("WorksInSynctest", func(t *testing.T) {
		// A goroutine that is left after Close makes synctest panic.
		synctest.Test(t, func(t *testing.T) {
			tier := open(t, 100)
			fillLocal(tier, 1000)
			synctest.Wait()
			tier.Close()
		})
	})
}

// checker is what a check fails with: a *testing.T, or a recorder when the
// checks themselves are tested.
type checker interface {
	Helper()
	Errorf(format string, args ...any)
}

type opened = func(maxEntries int) dewar.LocalTier[string]

// localChecks are the checks that need no more of a test than that it fails.
var localChecks = map[string]func(checker, opened){
	"SetIsVisibleAtOnce":         setIsVisibleAtOnce,
	"OverwriteIsVisibleAtOnce":   overwriteIsVisibleAtOnce,
	"SecondOfTwoQuickSetsIsKept": secondOfTwoQuickSetsIsKept,
	"DeletedNeverReturns":        deletedNeverReturns,
	"NeverAnOlderVersion":        neverAnOlderVersion,
	"NeverAnotherKeysEntry":      neverAnotherKeysEntry,
	"KeysAreAnyString":           keysAreAnyString,
	"NegativeEntriesAreKept":     negativeEntriesAreKept,
	"EntryIsKeptWhole":           entryIsKeptWhole,
	"ClearEmpties":               clearEmpties,
	"ClearedNeverReturns":        clearedNeverReturns,
	"BoundHolds":                 boundHolds,
	"SmallCapacitiesWork":        smallCapacitiesWork,
	"StatsCount":                 statsCount,
	"HotEntriesStay":             hotEntriesStay,
	"CloseEmpties":               closeEmpties,
	"CloseIsIdempotent":          closeIsIdempotent,
	"CloseRacesEverything":       closeRacesEverything,
}

func localEntry(value string) dewar.Entry[string] {
	return dewar.Entry[string]{Value: value, Due: math.MaxInt64, Fresh: math.MaxInt64}
}

func fillLocal(tier dewar.LocalTier[string], keys int) {
	for i := range keys {
		tier.Set(fmt.Sprint("key", i), localEntry("value"))
	}
}

// A tier may forget, but one that is nearly empty and forgets at once makes
// every reader load again.
func setIsVisibleAtOnce(t checker, open opened) {
	t.Helper()
	tier := open(10_000)
	for i := range 1000 {
		key := fmt.Sprint("key", i)
		tier.Set(key, localEntry(key))
		if e := tier.Get(key); e == nil || e.Value != key {
			t.Errorf("Get(%q) right after Set = %v, want the entry set", key, e)
			return
		}
	}
}

func overwriteIsVisibleAtOnce(t checker, open opened) {
	t.Helper()
	tier := open(1000)
	for i := range 10_000 {
		value := fmt.Sprint(i)
		tier.Set("key", localEntry(value))
		if e := tier.Get("key"); e == nil || e.Value != value {
			t.Errorf("Get right after overwrite %d = %v", i, e)
			return
		}
	}
}

// A tier that queues writes keeps the first of two, or neither.
func secondOfTwoQuickSetsIsKept(t checker, open opened) {
	t.Helper()
	tier := open(10_000)
	for i := range 2000 {
		key := fmt.Sprint("key", i)
		tier.Set(key, localEntry("first"))
		tier.Set(key, localEntry("second"))
	}
	runtime.Gosched()
	for i := range 2000 {
		if e := tier.Get(fmt.Sprint("key", i)); e == nil || e.Value != "second" {
			t.Errorf("after two Sets of key%d, Get = %v, want the second", i, e)
			return
		}
	}
}

// A tier that queues writes brings a deleted entry back when the queue gets to
// it: an invalidation that did nothing.
func deletedNeverReturns(t checker, open opened) {
	t.Helper()
	tier := open(500)
	var deleted []string
	for i := range 20_000 {
		key := fmt.Sprint("key", i)
		tier.Set(key, localEntry("value"))
		tier.Get(key)
		if i%3 == 0 {
			continue
		}
		tier.Delete(key)
		if e := tier.Get(key); e != nil {
			t.Errorf("Get(%q) right after Delete = %v", key, e)
			return
		}
		deleted = append(deleted, key)
	}
	runtime.Gosched()
	for _, key := range deleted {
		if e := tier.Get(key); e != nil {
			t.Errorf("Get(%q) = %v, long after Delete", key, e)
			return
		}
	}
	tier.Delete("never set")
}

// Each key has one writer, which counts versions up, and readers. From when
// the writer's Set of a version returned, nobody may see a lower one; after its
// Delete, nothing that was set before.
func neverAnOlderVersion(t checker, open opened) {
	t.Helper()
	const keys, rounds = 8, 2000
	tier := open(200) // small, so that evictions take part
	var floors [keys]atomic.Int64
	var writers, others sync.WaitGroup
	var done atomic.Bool
	key := func(k int) string { return fmt.Sprint("key", k) }
	for k := range keys {
		writers.Go(func() {
			floor := int64(0)
			look := func() bool { // the writer knows best; the others look while it writes
				floors[k].Store(floor)
				if e := tier.Get(key(k)); e != nil && e.Loaded < floor {
					t.Errorf("Get(%q) saw version %d, after %d was there", key(k), e.Loaded, floor)
					return false
				}
				return true
			}
			for version := int64(1); version <= rounds; version++ {
				tier.Set(key(k), dewar.Entry[string]{Loaded: version})
				if floor = version; !look() {
					return
				}
				if version%5 == 0 {
					tier.Delete(key(k))
					if floor = version + 1; !look() {
						return
					}
				}
			}
		})
	}
	for range 4 {
		others.Go(func() {
			for !done.Load() {
				k := rand.IntN(keys)
				floor := floors[k].Load()
				if e := tier.Get(key(k)); e != nil && e.Loaded < floor {
					t.Errorf("Get(%q) saw version %d, after %d was there", key(k), e.Loaded, floor)
					return
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; !done.Load(); i++ {
			other := fmt.Sprint("other", i%2000)
			tier.Set(other, dewar.Entry[string]{})
			tier.Get(other)
		}
	})
	writers.Wait()
	done.Store(true)
	others.Wait()
}

// Keys must be compared whole: a hash may be the same for two.
func neverAnotherKeysEntry(t checker, open opened) {
	t.Helper()
	tier := open(2000)
	for i := range 20_000 {
		key := fmt.Sprint(i)
		tier.Set(key, localEntry(key))
		asked := fmt.Sprint(rand.IntN(25_000))
		if e := tier.Get(asked); e != nil && e.Value != asked {
			t.Errorf("Get(%q) = the entry of %q", asked, e.Value)
			return
		}
	}
}

func keysAreAnyString(t checker, open opened) {
	t.Helper()
	tier := open(1000)
	long := strings.Repeat("x", 1<<20)
	keys := []string{"", " ", "\x00", "a", "a\x00", "a\x00b", "\xff\xfe", "\xc3\x28", "é", long, long + "y", long[1:]}
	for i, key := range keys {
		tier.Set(key, localEntry(fmt.Sprint(i)))
	}
	for i, key := range keys {
		if e := tier.Get(key); e == nil || e.Value != fmt.Sprint(i) {
			t.Errorf("Get(%.20q), %d bytes, = %v", key, len(key), e)
		}
	}
	for i, key := range keys {
		tier.Delete(key)
		if e := tier.Get(key); e != nil {
			t.Errorf("Get(%.20q) after Delete = %v", key, e)
		}
		for j := i + 1; j < len(keys); j++ {
			if tier.Get(keys[j]) == nil {
				t.Errorf("deleting %.20q deleted %.20q", key, keys[j])
			}
		}
	}
}

func negativeEntriesAreKept(t checker, open opened) {
	t.Helper()
	tier := open(100)
	tier.Set("key", dewar.NegativeEntry[string](1, 2))
	if e := tier.Get("key"); e == nil || !e.Negative() {
		t.Errorf("Get = %v, want the negative entry", e)
	}
	tier.Set("key", localEntry("found"))
	if e := tier.Get("key"); e == nil || e.Negative() || e.Value != "found" {
		t.Errorf("Get after an overwrite = %v, want a value", e)
	}
}

// Times are the cache's business: a tier returns entries that are long dead.
func entryIsKeptWhole(t checker, open opened) {
	t.Helper()
	tier := open(100)
	want := dewar.Entry[string]{Value: "value", Loaded: -3, Due: -2, Fresh: -1}
	tier.Set("key", want)
	if e := tier.Get("key"); e == nil || *e != want {
		t.Errorf("Get = %v, want %v", e, want)
	}
}

func getAllocatesNothing(t *testing.T, open func(*testing.T, int) dewar.LocalTier[string]) {
	tier := open(t, 1000)
	t.Cleanup(tier.Close)
	fillLocal(tier, 1000)
	for name, key := range map[string]string{"hit": "key999", "miss": "absent"} {
		if n := testing.AllocsPerRun(2000, func() { tier.Get(key) }); n != 0 {
			t.Errorf("a %s allocates %v times", name, n)
		}
	}
}
