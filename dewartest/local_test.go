package dewartest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dewarcache/dewar"
)

// mapTier is the simplest tier that keeps the contract; each broken one
// changes something of it.
type mapTier struct {
	mu       sync.Mutex // mu guards all below
	capacity int
	entries  map[string]*dewar.Entry[string]
	used     map[string]bool
	evicted  uint64
	closed   bool
}

func newMapTier(capacity int) *mapTier {
	return &mapTier{capacity: capacity, entries: map[string]*dewar.Entry[string]{}, used: map[string]bool{}}
}

func (m *mapTier) Get(key string) *dewar.Entry[string] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[key]; ok {
		m.used[key] = true
	}
	return m.entries[key]
}

func (m *mapTier) Set(key string, e dewar.Entry[string]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.entries[key] = &e
	for len(m.entries) > m.capacity {
		for victim := range m.entries {
			if m.used[victim] && len(m.used) < m.capacity {
				continue
			}
			if len(m.used) >= m.capacity {
				clear(m.used)
			}
			delete(m.entries, victim)
			delete(m.used, victim)
			m.evicted++
			break
		}
	}
}

func (m *mapTier) Delete(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
	delete(m.used, key)
}

func (m *mapTier) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.entries)
	clear(m.used)
}

func (m *mapTier) Stats() dewar.LocalStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return dewar.LocalStats{Entries: int64(len(m.entries)), Cost: int64(len(m.entries)), Evicted: m.evicted}
}

func (m *mapTier) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	clear(m.entries)
}

// tierFuncs is a tier of which single methods are replaced.
type tierFuncs struct {
	*mapTier
	get func(string) *dewar.Entry[string]
	set func(string, dewar.Entry[string])
	del func(string)
	all func()
}

func (f *tierFuncs) Get(key string) *dewar.Entry[string] {
	if f.get != nil {
		return f.get(key)
	}
	return f.mapTier.Get(key)
}

func (f *tierFuncs) Set(key string, e dewar.Entry[string]) {
	if f.set != nil {
		f.set(key, e)
		return
	}
	f.mapTier.Set(key, e)
}

func (f *tierFuncs) Delete(key string) {
	if f.del != nil {
		f.del(key)
		return
	}
	f.mapTier.Delete(key)
}

func (f *tierFuncs) Clear() {
	if f.all != nil {
		f.all()
		return
	}
	f.mapTier.Clear()
}

// brokenTiers names, for each way to break a tier, the checks that must see it.
var brokenTiers = map[string]struct {
	open   func(capacity int) dewar.LocalTier[string]
	caught []string
}{
	"queues its writes": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			queue := make(chan func(), 100)
			go func() {
				for write := range queue {
					write()
				}
			}()
			return &tierFuncs{
				mapTier: m,
				set:     func(key string, e dewar.Entry[string]) { queue <- func() { m.Set(key, e) } },
			}
		},
		[]string{"SetIsVisibleAtOnce", "OverwriteIsVisibleAtOnce", "DeletedNeverReturns"},
	},
	"keeps the first of two": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, set: func(key string, e dewar.Entry[string]) {
				if m.Get(key) == nil {
					m.Set(key, e)
				}
			}}
		},
		[]string{"OverwriteIsVisibleAtOnce", "SecondOfTwoQuickSetsIsKept", "NegativeEntriesAreKept", "NeverAnOlderVersion"},
	},
	"forgets to delete": {
		func(capacity int) dewar.LocalTier[string] {
			return &tierFuncs{mapTier: newMapTier(capacity), del: func(string) {}}
		},
		[]string{"DeletedNeverReturns", "NeverAnOlderVersion", "KeysAreAnyString", "StatsCount"},
	},
	"forgets to clear": {
		func(capacity int) dewar.LocalTier[string] {
			return &tierFuncs{mapTier: newMapTier(capacity), all: func() {}}
		},
		[]string{"ClearEmpties", "ClearedNeverReturns"},
	},
	"clears what is old": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			var last string
			var mu sync.Mutex
			return &tierFuncs{
				mapTier: m,
				set: func(key string, e dewar.Entry[string]) {
					mu.Lock()
					defer mu.Unlock()
					last = key
					m.Set(key, e)
				},
				all: func() {
					mu.Lock()
					defer mu.Unlock()
					e := m.Get(last)
					if m.Clear(); e != nil {
						m.Set(last, *e)
					}
				},
			}
		},
		[]string{"ClearEmpties", "ClearedNeverReturns"},
	},
	"clears in the background": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, all: func() { go m.Clear() }}
		},
		[]string{"ClearEmpties", "ClearedNeverReturns"},
	},
	"keeps nothing after Clear": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, all: m.Close}
		},
		[]string{"ClearEmpties"},
	},
	"counts what it cleared as evicted": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, all: func() {
				m.mu.Lock()
				m.evicted += uint64(len(m.entries))
				m.mu.Unlock()
				m.Clear()
			}}
		},
		[]string{"ClearEmpties"},
	},
	"answers by hash": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			hash := func(key string) string {
				sum := len(key)
				for _, b := range []byte(key) {
					sum = sum*31 + int(b)
				}
				return fmt.Sprint(sum % 10_007)
			}
			return &tierFuncs{
				mapTier: m,
				get:     func(key string) *dewar.Entry[string] { return m.Get(hash(key)) },
				set:     func(key string, e dewar.Entry[string]) { m.Set(hash(key), e) },
				del:     func(key string) { m.Delete(hash(key)) },
			}
		},
		[]string{"NeverAnotherKeysEntry"},
	},
	"has no bound": {
		func(int) dewar.LocalTier[string] { return newMapTier(1 << 40) },
		[]string{"BoundHolds", "SmallCapacitiesWork"},
	},
	"serves what it overwrote": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			var reads atomic.Int64
			var mu sync.Mutex
			older := map[string]*dewar.Entry[string]{}
			return &tierFuncs{
				mapTier: m,
				set: func(key string, e dewar.Entry[string]) {
					mu.Lock()
					older[key] = m.Get(key)
					mu.Unlock()
					m.Set(key, e)
				},
				get: func(key string) *dewar.Entry[string] {
					mu.Lock()
					defer mu.Unlock()
					if e := older[key]; e != nil && reads.Add(1)%10 == 0 {
						return e
					}
					return m.Get(key)
				},
			}
		},
		[]string{"OverwriteIsVisibleAtOnce", "SecondOfTwoQuickSetsIsKept", "NeverAnOlderVersion"},
	},
	"drops negative entries and times": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, set: func(key string, e dewar.Entry[string]) {
				m.Set(key, dewar.Entry[string]{Value: e.Value})
			}}
		},
		[]string{"NegativeEntriesAreKept", "EntryIsKeptWhole"},
	},
	"lives on after Close": {
		func(capacity int) dewar.LocalTier[string] {
			m := newMapTier(capacity)
			return &tierFuncs{mapTier: m, set: func(key string, e dewar.Entry[string]) {
				m.mu.Lock()
				m.closed = false
				m.mu.Unlock()
				m.Set(key, e)
			}}
		},
		[]string{"CloseEmpties", "CloseRacesEverything"},
	},
}

// recorder is a checker that only notes the first failure.
type recorder struct {
	mu     sync.Mutex // mu guards failed
	failed string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		r.failed = fmt.Sprintf(format, args...)
	}
}

func TestLocalTierAcceptsATierThatKeepsTheContract(t *testing.T) {
	LocalTier(t, func(_ *testing.T, maxEntries int) dewar.LocalTier[string] { return newMapTier(maxEntries) })
}

func TestLocalTierCatchesBrokenTiers(t *testing.T) {
	for name, broken := range brokenTiers {
		for _, check := range broken.caught {
			t.Run(name+"/"+check, func(t *testing.T) {
				var r recorder
				// A check in which goroutines meet sees it sooner or later.
				for try := 0; try < 50 && r.failed == ""; try++ {
					localChecks[check](&r, broken.open)
				}
				if r.failed == "" {
					t.Error("the check does not see it")
				}
				t.Log(r.failed)
			})
		}
	}
}
