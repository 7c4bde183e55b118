package redistier

import (
	"bytes"
	"errors"
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
	payload   string // as encoded
	value     string // as decoded
	want      verdict
}{
	{
		"value", "id-1",
		envelope{kind: kindValue, loaded: 1773500966535897932, fresh: 1773500996535897932, dead: 1773504596535897932, took: 48213077, codec: codecCBOR},
		"\x65hello", "hello", isEntry,
	},
	{
		"value-hashed-key", goldenLong,
		envelope{kind: kindValue, loaded: 1773500966535897932, fresh: 1773500996535897932, dead: math.MaxInt64, took: 1, codec: codecOwn},
		"bytes of the user's own codec", "bytes of the user's own codec", isEntry,
	},
	{
		"negative", "id-2",
		envelope{kind: kindNegative, loaded: 1773500966535897932, fresh: 1773500971535897932, dead: 1773500971535897932, took: 0},
		"", "", isEntry,
	},
	{"lease", "id-3", envelope{kind: kindLease}, "", "", isLease},
	{"value-json", "id-4", goldenValue(codecJSON, 0), `"hello"`, "hello", isEntry},
	{"value-bytes", "id-5", goldenValue(codecBytes, 0), "hello\x00\xff", "hello\x00\xff", isEntry},
	{"value-string", "id-6", goldenValue(codecString, 0), "hello\x00\xff", "hello\x00\xff", isEntry},
	{"value-compressed", "id-7", goldenValue(codecString, flagCompressed), goldenText, goldenText, isEntry},
	{"value-compressed-hashed-key", goldenLong, goldenValue(codecString, flagCompressed), goldenText, goldenText, isEntry},
	{"value-sealed", "id-8", goldenValue(codecString, flagSealed), "hello", "hello", isEntry},
	{"value-sealed-hashed-key", goldenLong, goldenValue(codecString, flagSealed), "hello", "hello", isEntry},
	{"value-sealed-compressed", "id-9", goldenValue(codecString, flagSealed|flagCompressed), goldenText, goldenText, isEntry},
	{"value-sealed-compressed-hashed-key", goldenLong, goldenValue(codecString, flagSealed|flagCompressed), goldenText, goldenText, isEntry},
	{"negative-hashed-key", goldenLong, goldenNegative(0), "", "", isEntry},
	{"negative-sealed", "id-10", goldenNegative(flagSealed), "", "", isEntry},
	{"negative-sealed-hashed-key", goldenLong, goldenNegative(flagSealed), "", "", isEntry},
}

var goldenText = strings.Repeat("How a Dewar flask keeps what is inside at temperature. ", 20)

func goldenValue(codec, flags byte) envelope {
	return envelope{kind: kindValue, loaded: 1773500966535897932, fresh: 1773500996535897932, dead: 1773504596535897932, took: 48213077, codec: codec, flags: flags}
}

func goldenNegative(flags byte) envelope {
	return envelope{kind: kindNegative, loaded: 1773500966535897932, fresh: 1773500971535897932, dead: 1773500971535897932, flags: flags}
}

func goldenFence(kind byte) dewar.Fence {
	f := dewar.Fence([]byte("\xdew\x01?0123456789abcdef"))
	f[3] = kind
	return f
}

// goldenReader returns what reads golden files of a codec as strings, and
// writes their like.
func goldenReader(t *testing.T, codec, flags byte) *tier[string] {
	cfg := Config[string]{CompressOver: 1, CompressSealed: true}
	switch codec {
	case codecOwn:
		cfg.Codec = ownCodec{}
	case codecJSON:
		cfg.Codec = JSON[string]()
	case codecString:
		cfg.Codec = String()
	}
	if flags&flagSealed != 0 {
		cfg.Seal = sealKeys(1, 2)
	}
	reader := offline(t, cfg)
	reader.keys.Store(&goldenKeys)
	return reader
}

// goldenWrite returns the bytes of a golden file as they are written now.
func goldenWrite(t *testing.T, tier *tier[string], env envelope, key, payload string) []byte {
	if env.kind == kindLease {
		return env.fence[:]
	}
	flags := env.flags
	env.flags = 0
	raw := openEnvelope(nil, &env, key, len(key) > maxPlainKey)
	body := len(raw)
	raw = append(raw, payload...)
	if flags&flagCompressed != 0 {
		shrunk := false
		if raw, shrunk = tier.zip.shrink(raw, body); !shrunk {
			t.Fatal("does not compress")
		}
		raw[flagsOffset] |= flagCompressed
	}
	if flags&flagSealed != 0 {
		raw = tier.seal.seal(goldenKeys, raw, 0, body, key)
	}
	goldenKeys.closeEnvelope(raw, key)
	return raw
}

func TestGoldenFilesOfFormat1(t *testing.T) {
	type shape struct{ kind, codec, flags byte }
	covered := make(map[shape]bool)
	for _, g := range golden {
		g.env.fence = goldenFence(g.env.kind)
		tier := goldenReader(t, g.env.codec, g.env.flags)
		path := filepath.Join("testdata", "fmt1-"+g.file+".golden")
		written := goldenWrite(t, tier, g.env, g.key, g.payload)
		if _, err := os.Stat(path); *update && os.IsNotExist(err) {
			if err := os.WriteFile(path, written, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		same := bytes.Equal(raw, written)
		switch head := len(raw) > headSize && len(written) > headSize; {
		case g.env.flags == 0: // nothing in it is left to chance
		case g.env.flags&flagCompressed != 0: // the encoder may learn
			same = head && bytes.Equal(raw[:58], written[:58])
		default: // another nonce
			same = head && len(raw) == len(written) && bytes.Equal(raw[:crcOffset], written[:crcOffset])
		}
		if !same {
			t.Errorf("%s: is written as %x, was %x", g.file, written, raw)
		}
		for _, raw := range [][]byte{raw, written} {
			var env envelope
			if got := goldenKeys.parse(raw, g.key, &env); got != g.want {
				t.Errorf("%s: verdict %d, want %d", g.file, got, g.want)
				continue
			}
			if string(env.payload) != g.payload && env.flags == 0 {
				t.Errorf("%s: payload %q", g.file, env.payload)
			}
			env.payload = nil
			if env.fence != g.env.fence || env.loaded != g.env.loaded || env.fresh != g.env.fresh || env.flags != g.env.flags ||
				env.dead != g.env.dead || env.took != g.env.took || env.kind != g.env.kind || env.codec != g.env.codec {
				t.Errorf("%s: parsed %+v, want %+v", g.file, env, g.env)
			}
			goldenJudge(t, tier, g.file, raw, g.key, g.env, g.value)
		}
		if g.want == isEntry {
			covered[shape{raw[3], raw[52], raw[flagsOffset]}] = true
		}
	}
	// Every flag with every other that it is written with, and every codec.
	for flags := range byte(knownFlags + 1) {
		if !covered[shape{kindValue, codecString, flags}] && flags != 0 && flags != flagKey {
			t.Errorf("no file of a value with flags %03b", flags)
		}
		if !covered[shape{kindNegative, codecOwn, flags}] && flags&flagCompressed == 0 {
			t.Errorf("no file of a negative entry with flags %03b", flags)
		}
	}
	for codec := byte(codecCBOR); codec <= codecString; codec++ {
		if !covered[shape{kindValue, codec, 0}] {
			t.Errorf("no file of a value of codec %d", codec)
		}
	}
}

// goldenJudge checks what a reader gets of raw while it is fresh.
func goldenJudge(t *testing.T, tier *tier[string], file string, raw []byte, key string, env envelope, want string) {
	t.Helper()
	now := clocks{unix: env.loaded + 1, mono: dewar.Clock()}
	if env.codec == codecBytes {
		reader := offline(t, Config[[]byte]{Codec: Bytes()})
		reader.keys.Store(&goldenKeys)
		var f dewar.Found[[]byte]
		if reader.judge(reader.keys.Load(), string(raw), key, now, &f); f.State != dewar.RemoteValue || string(f.Entry.Value) != want {
			t.Errorf("%s: state %d, value %q", file, f.State, f.Entry.Value)
		}
		return
	}
	var f dewar.Found[string]
	tier.judge(tier.keys.Load(), string(raw), key, now, &f)
	if env.kind == kindLease {
		if f.State != dewar.RemoteLeased || f.Fence != env.fence {
			t.Errorf("%s: state %d", file, f.State)
		}
		return
	}
	if f.State != dewar.RemoteValue || f.Entry.Value != want || f.Fence != env.fence ||
		f.Entry.Negative() != (env.kind == kindNegative) || f.Entry.Fresh != now.toClock(env.fresh) {
		t.Errorf("%s: state %d, %+v", file, f.State, f.Entry)
	}
}

// A later version of this program writes another format under the same key
// only if something went wrong, but then it is not for us to touch.
func TestAnEntryOfALaterFormatIsAMissAndIsNotOverwritten(t *testing.T) {
	later, err := os.ReadFile(filepath.Join("testdata", "fmt2-value.golden"))
	if err != nil {
		t.Fatal(err)
	}
	mini := startMini(t)
	for name, cfg := range map[string]Config[string]{"plain": {}, "sealing": {Seal: sealKeys(1)}} {
		cfg.Client = newClient(t, mini.Addr())
		tier := openTier(t, cfg, testOptions)
		dk := tier.keys.Load().redisKey("id-1")
		mini.Set(dk, string(later))
		if f := tier.readOne(t.Context(), "id-1"); f.State != dewar.RemoteForeign {
			t.Errorf("%s: Read: state %d", name, f.State)
		}
		f := tier.leaseOne(t.Context(), "id-1")
		if f.State != dewar.RemoteForeign {
			t.Errorf("%s: Lease: state %d", name, f.State)
		}
		for _, fence := range []dewar.Fence{f.Fence, newFence(kindLease)} {
			if err := tier.fillOne(t.Context(), "id-1", fence, "v"); !errors.Is(err, dewar.ErrFenced) {
				t.Errorf("%s: Fill: %v", name, err)
			}
		}
		if left, err := mini.Get(dk); left != string(later) {
			t.Errorf("%s: was touched: %x (%v)", name, left, err)
		}
		if got := tier.Stats(); got.Foreign != 2 || got.Corrupt != 0 {
			t.Errorf("%s: counted %+v", name, got)
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
	plain, seals := offline(f, Config[video]{}), offline(f, Config[video]{Seal: sealKeys(1, 2)})
	plain.keys.Store(&goldenKeys)
	seals.keys.Store(&goldenKeys)
	now := clocks{unix: 1773500966535897933, mono: dewar.Clock()}
	written := make(map[string]bool) // what the sealing golden files hold, but for the fence
	for _, g := range golden {
		raw, err := os.ReadFile(filepath.Join("testdata", "fmt1-"+g.file+".golden"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, g.key)
		f.Add(raw[:len(raw)/2], g.key)
		if g.env.flags&flagSealed != 0 {
			written[string(raw[20:])+g.key] = true
		}
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
			hashed := raw[flagsOffset]&flagKey != 0
			again := append(openEnvelope(nil, &env, key, hashed), env.payload...)
			goldenKeys.closeEnvelope(again, key)
			if !bytes.Equal(again, raw) {
				t.Fatalf("%x is written as %x", raw, again)
			}
		}
		// The checksum must not be what stands between a parser and a panic.
		fixed := raw
		if len(raw) >= headSize && string(raw[:2]) == magic {
			fixed = goldenFix(raw, key)
			goldenKeys.parse(fixed, key, &env)
		}
		// Nobody panics over what is inside, and who seals believes none of it
		// but what was sealed.
		for _, raw := range [][]byte{raw, fixed} {
			var f dewar.Found[video]
			plain.judge(plain.keys.Load(), string(raw), key, now, &f)
			f = dewar.Found[video]{}
			if seals.judge(seals.keys.Load(), string(raw), key, now, &f); f.State == dewar.RemoteValue && !written[string(raw[20:])+key] {
				t.Fatalf("%x is taken for sealed", raw)
			}
		}
	})
}

// goldenFix returns raw with lengths and checksum that fit, if it has a place
// for them.
func goldenFix(raw []byte, key string) []byte {
	raw = bytes.Clone(raw)
	raw[flagsOffset] &^= flagKey
	copy(raw[54:58], "\x00\x00\x00\x00")
	goldenKeys.closeEnvelope(raw, key)
	return raw
}
