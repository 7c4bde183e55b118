package memory

import (
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

func openers(maxEntries int, maxCost int64, cost func(string, string) int64) map[string]dewar.LocalOpener[string] {
	return map[string]dewar.LocalOpener[string]{
		"memory.Config": Config[string]{MaxEntries: maxEntries, MaxCost: maxCost, Cost: cost},
		"memory.Otter":  Otter[string]{MaxEntries: maxEntries, MaxCost: maxCost, Cost: cost},
	}
}

func TestValidateJoinsAllProblems(t *testing.T) {
	tests := map[string]struct {
		maxEntries int
		maxCost    int64
		cost       func(string, string) int64
		want       []string // in the message; none: valid
	}{
		"zero":              {},
		"entries":           {maxEntries: 1},
		"cost":              {maxCost: 1, cost: byValue},
		"negative entries":  {maxEntries: -1, want: []string{"MaxEntries is negative (-1)"}},
		"negative cost":     {maxCost: -2, want: []string{"MaxCost is negative (-2)"}},
		"MaxCost alone":     {maxCost: 1, want: []string{"MaxCost needs Cost"}},
		"Cost alone":        {cost: byValue, want: []string{"Cost needs MaxCost"}},
		"Cost with entries": {maxEntries: 1, cost: byValue, want: []string{"Cost needs MaxCost"}},
		"both bounds":       {maxEntries: 1, maxCost: 1, cost: byValue},
		"several":           {maxEntries: -1, maxCost: 5, want: []string{"MaxEntries is negative", "MaxCost needs Cost"}},
	}
	for name, test := range tests {
		for engine, opener := range openers(test.maxEntries, test.maxCost, test.cost) {
			t.Run(name+"/"+engine, func(t *testing.T) {
				err := opener.Validate()
				tier, openErr := opener.OpenLocal("test")
				if (openErr == nil) != (err == nil) {
					t.Errorf("Validate = %v, OpenLocal = %v", err, openErr)
				}
				if openErr == nil {
					tier.Close()
				}
				if (err == nil) != (len(test.want) == 0) {
					t.Fatalf("Validate = %v, want %q", err, test.want)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), engine+": "+want) {
						t.Errorf("Validate = %v, want %q in it", err, want)
					}
				}
			})
		}
	}
}

func TestDefaultCapacity(t *testing.T) {
	if n := (limits[string]{}).capacity(); n != 100_000 {
		t.Errorf("the default capacity is %d", n)
	}
}

func TestCosts(t *testing.T) {
	odd := func(key, v string) int64 {
		switch key {
		case "panics":
			panic("cost")
		case "free":
			return 0
		case "negative":
			return -1 << 60
		}
		return int64(len(v))
	}
	for name, opener := range openers(0, 100, odd) {
		t.Run(name, func(t *testing.T) {
			tier := openLocal(t, opener)
			value := func(size int) dewar.Entry[string] {
				return dewar.Entry[string]{Value: strings.Repeat("x", size)}
			}
			tier.Set("key", value(60))
			tier.Set("free", value(1))
			tier.Set("negative", value(1))
			tier.Set("absent", dewar.NegativeEntry[string](1, 2))
			if s := tier.Stats(); s.Entries != 4 || s.Cost != 63 {
				t.Errorf("Stats = %+v, want 4 entries of cost 60, 1, 1 and 1", s)
			}
			tier.Set("panics", value(1))
			if e := tier.Get("panics"); e != nil {
				t.Errorf("after a Set whose Cost panicked, Get = %v", e)
			}
			tier.Set("panics", dewar.NegativeEntry[string](1, 2)) // asks no Cost
			if tier.Get("panics") == nil {
				t.Error("a negative entry is not kept")
			}
			tier.Set("key", value(101))
			if e := tier.Get("key"); e != nil {
				t.Errorf("after a Set that does not fit, Get = %v", e)
			}
			if s := tier.Stats(); s.Entries != 4 || s.Cost != 4 {
				t.Errorf("Stats = %+v, want 4 entries of cost 1", s)
			}
			tier.Set("key", value(100))
			if s := tier.Stats(); s.Cost > 100 {
				t.Errorf("Stats = %+v, the bound is 100", s)
			}
		})
	}
}

func TestOtterKeepsCostsOverItsWeights(t *testing.T) {
	huge := func(_, v string) int64 { return int64(len(v)) << 40 }
	tier := openLocal(t, Otter[string]{MaxCost: 10 << 40, Cost: huge})
	for i := range 100 {
		tier.Set(strings.Repeat("k", i), dewar.Entry[string]{Value: "x"})
		if s := tier.Stats(); s.Entries > 10 {
			t.Fatalf("%d entries of a tenth of the capacity", s.Entries)
		}
	}
	if s := tier.Stats(); s.Entries < 8 {
		t.Errorf("%d entries of a tenth of the capacity", s.Entries)
	}
}

func TestBothBoundsHold(t *testing.T) {
	for name, opener := range openers(10, 1000, byValue) {
		t.Run(name, func(t *testing.T) {
			tier := openLocal(t, opener)
			for _, size := range []int{1, 400} {
				for i := range 100 {
					tier.Set(strings.Repeat("k", i+1), dewar.Entry[string]{Value: strings.Repeat("x", size)})
				}
				if s := tier.Stats(); s.Entries > 10 || s.Cost > 1000 {
					t.Errorf("values of %d: Stats = %+v, want at most 10 entries of cost 1000", size, s)
				}
			}
		})
	}
}
