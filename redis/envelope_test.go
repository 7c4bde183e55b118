package redistier

import (
	"bytes"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

var update = flag.Bool("update", false, "write golden files that are missing")

// goldenKeys is the keyspace and goldenLong the hashed key of the golden
// files.
var (
	goldenKeys = newKeyspace("dewar", "videos", "0", 0)
	goldenLong = strings.Repeat("long key ", 30)
)

// golden are the files that pin format 1. They are never written anew: what is
// in Redis was written by programs that are not there any more.
var golden = []struct {
	file, key string
	env       envelope
	payload   string // CBOR
	want      verdict
}{
	{
		"value", "id-1",
		envelope{kind: kindValue, loaded: 1773500966535897932, fresh: 1773500996535897932, dead: 1773504596535897932, took: 48213077, codec: codecCBOR},
		"\x65hello", isEntry,
	},
	{
		"value-hashed-key", goldenLong,
		envelope{kind: kindValue, loaded: 1773500966535897932, fresh: 1773500996535897932, dead: math.MaxInt64, took: 1, codec: codecOwn},
		"bytes of the user's own codec", isEntry,
	},
	{
		"negative", "id-2",
		envelope{kind: kindNegative, loaded: 1773500966535897932, fresh: 1773500971535897932, dead: 1773500971535897932, took: 0},
		"", isEntry,
	},
	{"lease", "id-3", envelope{kind: kindLease}, "", isLease},
}

func goldenFence(kind byte) dewar.Fence {
	f := dewar.Fence([]byte("\xdew\x01?0123456789abcdef"))
	f[3] = kind
	return f
}

func TestGoldenFilesOfFormat1(t *testing.T) {
	for _, g := range golden {
		g.env.fence = goldenFence(g.env.kind)
		path := filepath.Join("testdata", "fmt1-"+g.file+".golden")
		written := g.env.fence[:]
		if g.env.kind != kindLease {
			written = openEnvelope(nil, &g.env, g.key, len(g.key) > maxPlainKey)
			written = append(written, g.payload...)
			goldenKeys.closeEnvelope(written, g.key)
		}
		if _, err := os.Stat(path); *update && os.IsNotExist(err) {
			if err := os.WriteFile(path, written, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, written) {
			t.Errorf("%s: is written as %x, was %x", g.file, written, raw)
		}
		var env envelope
		if got := goldenKeys.parse(raw, g.key, &env); got != g.want {
			t.Errorf("%s: verdict %d, want %d", g.file, got, g.want)
			continue
		}
		if string(env.payload) != g.payload {
			t.Errorf("%s: payload %q", g.file, env.payload)
		}
		env.payload = nil
		if env.fence != g.env.fence || env.loaded != g.env.loaded || env.fresh != g.env.fresh ||
			env.dead != g.env.dead || env.took != g.env.took || env.kind != g.env.kind || env.codec != g.env.codec {
			t.Errorf("%s: parsed %+v, want %+v", g.file, env, g.env)
		}
	}
}

func TestChecksumCoversHeadKeyAndPayload(t *testing.T) {
	env := envelope{fence: newFence(kindValue), loaded: 1, fresh: 2, dead: 3, took: 4, codec: codecCBOR}
	raw := append(openEnvelope(nil, &env, "k", false), "payload"...)
	goldenKeys.closeEnvelope(raw, "k")
	var got envelope
	if goldenKeys.parse(raw, "k", &got) != isEntry {
		t.Fatal("does not parse")
	}
	for i := len(magic); i < len(raw); i++ {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if goldenKeys.parse(bad, "k", &got) == isEntry {
				t.Errorf("bit %d of byte %d is not covered", bit, i)
			}
		}
	}
	if goldenKeys.parse(raw, "l", &got) == isEntry {
		t.Error("passes for another key")
	}
	if newKeyspace("dewar", "other", "0", 0).parse(raw, "k", &got) == isEntry {
		t.Error("passes for another cache")
	}
}

func TestStampsDiffer(t *testing.T) {
	seen := make(map[dewar.Fence]bool)
	for range 10_000 {
		f := newFence(kindValue)
		if seen[f] {
			t.Fatal("a stamp came twice")
		}
		seen[f] = true
	}
}

func TestShiftStaysOnTheScale(t *testing.T) {
	const end, begin = math.MaxInt64, math.MinInt64
	for _, c := range []struct{ t, plus, minus, want int64 }{
		{10, 5, 3, 12},
		{10, 3, 5, 8},
		{end, 0, 5, end},
		{begin, 5, 0, begin},
		{end - 1, 10, 0, end},
		{begin + 1, 0, 10, begin + 1},
	} {
		if got := shift(c.t, c.plus, c.minus); got != c.want {
			t.Errorf("shift(%d, %d, %d) = %d, want %d", c.t, c.plus, c.minus, got, c.want)
		}
	}
}

func TestMillisRoundUpAndStayInRange(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		-1: 1, 0: 1, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2,
		math.MaxInt64: maxKeep.Milliseconds(), maxKeep: maxKeep.Milliseconds(),
	} {
		if got := millis(d); got != want {
			t.Errorf("millis(%v) = %d, want %d", d, got, want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, g := range golden {
		raw, err := os.ReadFile(filepath.Join("testdata", "fmt1-"+g.file+".golden"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, g.key)
		f.Add(raw[:len(raw)/2], g.key)
	}
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, raw []byte, key string) {
		before := bytes.Clone(raw)
		var env envelope
		got := goldenKeys.parse(raw, key, &env)
		if !bytes.Equal(raw, before) {
			t.Fatal("parse wrote")
		}
		if got == isEntry {
			if len(env.payload) > len(raw)-headSize {
				t.Fatalf("payload of %d bytes in %d", len(env.payload), len(raw))
			}
			// What parses is written the same again.
			hashed := raw[53]&flagKey != 0
			again := append(openEnvelope(nil, &env, key, hashed), env.payload...)
			again[53] = raw[53] // flags that are not known are not kept
			goldenKeys.closeEnvelope(again, key)
			if !bytes.Equal(again, raw) {
				t.Fatalf("%x is written as %x", raw, again)
			}
		}
		// Whatever the payload, decoding it must not panic.
		if got == isEntry && env.codec == codecCBOR {
			_, _ = CBOR[video]().Decode(env.payload)
		}
		// The checksum must not be what stands between a parser and a panic.
		if len(raw) >= headSize && string(raw[:2]) == magic {
			goldenKeys.parse(goldenFix(raw, key), key, &env)
		}
	})
}

// goldenFix returns raw with lengths and checksum that fit, if it has a place
// for them.
func goldenFix(raw []byte, key string) []byte {
	raw = bytes.Clone(raw)
	raw[53] &^= flagKey
	copy(raw[54:58], "\x00\x00\x00\x00")
	goldenKeys.closeEnvelope(raw, key)
	return raw
}
