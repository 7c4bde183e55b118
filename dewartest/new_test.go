package dewartest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestLocalMapKeepsTheContract(t *testing.T) {
	LocalTier(t, func(t *testing.T, maxEntries int) dewar.LocalTier[string] {
		tier, err := localMap[string](maxEntries).OpenLocal("videos")
		if err != nil {
			t.Fatal(err)
		}
		return tier
	})
}

func TestLocalMapRefusesNoCapacity(t *testing.T) {
	if err := localMap[string](0).Validate(); err == nil {
		t.Error("no error for a capacity of 0")
	}
}

// fakeTest is a testing.TB whose failures are looked at.
type fakeTest struct {
	testing.TB
	name     string
	cleanups []func()
	fatal    string
	failures []string
}

func (f *fakeTest) Helper()           {}
func (f *fakeTest) Name() string      { return f.name }
func (f *fakeTest) Cleanup(do func()) { f.cleanups = append(f.cleanups, do) }
func (f *fakeTest) Errorf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTest) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	panic(f)
}

func (f *fakeTest) end() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

func echo(_ context.Context, k string) (string, error) { return "value of " + k, nil }

func TestNewFillsInWhatIsNotSet(t *testing.T) {
	c := New(t, dewar.Config[string, string]{Load: echo})
	for range 2 {
		if v, err := c.Get(t.Context(), "k"); v != "value of k" || err != nil {
			t.Fatal(v, err)
		}
	}
	if s := c.Stats(); s.Loads != 1 || s.LocalHits != 1 {
		t.Errorf("%d loads, %d local hits", s.Loads, s.LocalHits)
	}
}

func TestNewKeepsWhatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewRemote[string]()
		c := New(t, dewar.Config[string, string]{
			Name: "videos", TTL: time.Second, Local: localMap[string](1), Remote: srv, Load: echo,
		})
		for _, k := range []string{"a", "b"} {
			if _, err := c.Get(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.Stats().Local.Entries; n != 1 {
			t.Errorf("%d local entries, want 1", n)
		}
		if !srv.Has("videos", "a") {
			t.Error("not stored under the configured name")
		}
		time.Sleep(time.Second)
		if n := srv.Len(); n != 0 {
			t.Errorf("%d entries outlived the configured TTL", n)
		}
	})
}

func TestNewFailsTheTestOnABadConfig(t *testing.T) {
	f := &fakeTest{name: "TestX"}
	func() {
		defer func() {
			if p := recover(); p != any(f) {
				t.Errorf("went on after the failure: %v", p)
			}
		}()
		New(f, dewar.Config[string, string]{})
	}()
	if !strings.Contains(f.fatal, "Load") {
		t.Errorf("the test was told %q", f.fatal)
	}
}

func TestNewClosesTheCacheWhenTheTestEnds(t *testing.T) {
	f := &fakeTest{name: "TestX"}
	c := New(f, dewar.Config[string, string]{Load: echo})
	f.end()
	if _, err := c.Get(t.Context(), "k"); !errors.Is(err, dewar.ErrClosed) {
		t.Errorf("Get after the test: %v", err)
	}
	if len(f.failures) > 0 {
		t.Error(f.failures)
	}
}

func TestNewFailsTheTestWhenCloseReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chaos := &Chaos[string]{Remote: NewRemote[string]()}
		f := &fakeTest{name: "TestX"}
		c := New(f, dewar.Config[string, string]{Remote: chaos, Load: echo})
		chaos.Down(true)
		if err := c.Invalidate(t.Context(), "k"); !errors.Is(err, dewar.ErrInvalidationPending) {
			t.Fatal(err)
		}
		f.end()
		if len(f.failures) != 1 {
			t.Errorf("failures %q", f.failures)
		}
	})
}

func TestCacheNamesAreValidAndDistinct(t *testing.T) {
	tests := []string{
		"", "TestA", "TestA/b", "TestA/b c", "TestA/b_c", "TestA-b", "TestÄ", "TestA/\xff",
		strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 66), strings.Repeat("ä", 40),
	}
	seen := make(map[string]string)
	for _, test := range tests {
		name := cacheName(test)
		cfg := dewar.Config[string, string]{Name: name, TTL: 1, Load: echo, Local: localMap[string](1)}
		if err := cfg.Validate(); err != nil {
			t.Errorf("test %q: %v", test, err)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("tests %q and %q are both %q", test, other, name)
		}
		seen[name] = test
	}
}
