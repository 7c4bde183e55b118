package redistier

import (
	"strings"
	"testing"
)

func TestRedisKeys(t *testing.T) {
	ks := newKeyspace("dewar", "videos", "2", 0)
	for _, c := range []struct{ key, want string }{
		{"id-1", "dewar:1:videos:2:0:id-1"},
		{"", "dewar:1:videos:2:0:"},
		{"a:b", "dewar:1:videos:2:0:a:b"},
		{"{user}:1", "dewar:1:videos:2:0:%7Buser%7D:1"},
		{"%7B", "dewar:1:videos:2:0:%257B"},
		{strings.Repeat("x", 200), "dewar:1:videos:2:0:" + strings.Repeat("x", 200)},
		{strings.Repeat("x", 201), "dewar:1:videos:2:0:%sha256:84a0678c90937f5dcf9994d5866668da6b995109c8ad845410559b48a4ecafed"},
	} {
		got := ks.redisKey(c.key)
		if got != c.want {
			t.Errorf("%.20q: %q, want %q", c.key, got, c.want)
		}
		if ks.hashed(got) != (len(c.key) > maxPlainKey) {
			t.Errorf("%.20q: hashed is %v", c.key, ks.hashed(got))
		}
	}
}

func TestManyKeysAreTheSameAsOneByOne(t *testing.T) {
	ks := newKeyspace("p", "n", "s", 0)
	keys := []string{"a", strings.Repeat("{", 60), strings.Repeat("{", 70), "", strings.Repeat("k", 500), "b", "%"}
	for i, dk := range ks.redisKeys(keys) {
		if dk != ks.redisKey(keys[i]) {
			t.Errorf("%.20q: %q", keys[i], dk)
		}
	}
}

func FuzzKeyInjectivity(f *testing.F) {
	f.Add("a", "b")
	f.Add("{", "%7B")
	f.Add("{a}", "a")
	f.Add("%sha256:", "sha256:")
	f.Add(strings.Repeat("x", 200), strings.Repeat("x", 201))
	f.Add("\xff", "\xfe")
	f.Add(strings.Repeat("{", 150), strings.Repeat("{", 66)+"aa")
	ks := newKeyspace("dewar", "videos", "0", 0)
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := ks.redisKey(a), ks.redisKey(b)
		if (a == b) != (x == y) {
			t.Fatalf("%q and %q: %q and %q", a, b, x, y)
		}
		if strings.ContainsAny(x, "{}") {
			t.Fatalf("a brace in %q", x)
		}
		if len(x) > len(ks.base)+maxPlainKey {
			t.Fatalf("%d bytes", len(x))
		}
	})
}
