package dewar_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	"pgregory.net/rapid"
)

func TestJoinKeyKeepsPartsApart(t *testing.T) {
	tests := []struct {
		parts []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, `\0`},
		{[]string{"", ""}, `\0:\0`},
		{[]string{"a"}, "a"},
		{[]string{"a:b", "c"}, `a\:b:c`},
		{[]string{"a", "b:c"}, `a:b\:c`},
		{[]string{"a", "b", "c"}, "a:b:c"},
		{[]string{`a\`, "b"}, `a\\:b`},
		{[]string{`\0`}, `\\0`},
	}
	for _, tt := range tests {
		if got := dewar.JoinKey(tt.parts...); got != tt.want {
			t.Errorf("%q: %s; want %s", tt.parts, got, tt.want)
		}
	}
}

func TestDifferentPartsNeverMakeTheSameKey(t *testing.T) {
	part := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune{':', '\\', '0', 'a'}), 0, 4, -1),
		rapid.String(),
	)
	parts := rapid.SliceOfN(part, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		if same := dewar.JoinKey(a...) == dewar.JoinKey(b...); same != slices.Equal(a, b) {
			t.Fatalf("%q and %q: %q and %q", a, b, dewar.JoinKey(a...), dewar.JoinKey(b...))
		}
	})
}

func FuzzJoinKeyCanBeTakenApart(f *testing.F) {
	f.Add("a:b", "c", "")
	f.Add(`\`, ":", `\0`)
	f.Add("", `\:`, `:\`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		key := dewar.JoinKey(a, b, c)
		if got := takeApart(key); !slices.Equal(got, []string{a, b, c}) {
			t.Errorf("%q, %q, %q makes %q, which reads as %q", a, b, c, key, got)
		}
	})
}

// takeApart undoes JoinKey as its documentation says.
func takeApart(key string) []string {
	parts := []string{""}
	for i := 0; i < len(key); i++ {
		last := &parts[len(parts)-1]
		switch key[i] {
		case ':':
			parts = append(parts, "")
		case '\\':
			if i++; key[i] != '0' {
				*last += key[i : i+1]
			}
		default:
			*last += key[i : i+1]
		}
	}
	return parts
}

// keyStrings are the strings under which the local tier hears of keys.
func keyStrings[K comparable](t *testing.T, key func(K) string, ks ...K) []string {
	t.Helper()
	var strs []string
	c, err := dewar.New(dewar.Config[K, string]{
		Name: "test", TTL: time.Minute, Key: key,
		Local: memory.Config[string]{
			MaxCost: 100,
			Cost:    func(key, _ string) int64 { strs = append(strs, key); return 1 },
		},
		Load: func(_ context.Context, k K) (string, error) { return fmt.Sprint(k), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, k := range ks {
		if v, err := c.Get(t.Context(), k); v != fmt.Sprint(k) || err != nil {
			t.Errorf("Get(%v) = %q, %v", k, v, err)
		}
		if v, err := c.Get(t.Context(), k, dewar.CacheOnly()); v != fmt.Sprint(k) || err != nil {
			t.Errorf("Get(%v) from the cache = %q, %v", k, v, err)
		}
	}
	return slices.Compact(strs)
}

type (
	videoID string
	shelf   int16
	page    uint64
	spot    struct {
		Row, Seat string
	}
)

func TestStringAndIntegerKindsNeedNoKeyFunction(t *testing.T) {
	for name, tt := range map[string]struct{ got, want []string }{
		"string":  {keyStrings(t, nil, "a", "", "ü:{}"), []string{"a", "", "ü:{}"}},
		"videoID": {keyStrings(t, nil, videoID("a"), "b"), []string{"a", "b"}},
		"int":     {keyStrings(t, nil, 0, -1, 1<<62), []string{"0", "-1", "4611686018427387904"}},
		"shelf":   {keyStrings(t, nil, shelf(-7), 7), []string{"-7", "7"}},
		"page":    {keyStrings(t, nil, page(1<<64-1)), []string{"18446744073709551615"}},
		"uint8":   {keyStrings(t, nil, uint8(255)), []string{"255"}},
		"rune":    {keyStrings(t, nil, 'a'), []string{"97"}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: %q; want %q", name, tt.got, tt.want)
		}
	}
}

func TestAKeyFunctionOfOnesOwnIsPreferred(t *testing.T) {
	spots := keyStrings(t, func(s spot) string { return dewar.JoinKey(s.Row, s.Seat) }, spot{"a:b", "c"}, spot{"a", "b:c"})
	if want := []string{`a\:b:c`, `a:b\:c`}; !slices.Equal(spots, want) {
		t.Errorf("%q; want %q", spots, want)
	}
	if got := keyStrings(t, strings.ToUpper, "a"); !slices.Equal(got, []string{"A"}) {
		t.Errorf("%q", got)
	}
}
