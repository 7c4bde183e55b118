package redistier

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// sealed returns the envelope of v under key as another process writes it.
func (t *tier[V]) sealed(tb testing.TB, key string, v V) []byte {
	tb.Helper()
	f := aFill(key, dewar.Fence{}, v)
	ks := t.keys.Load()
	raw, err := t.encode(ks, nil, &f, ks.hashed(ks.redisKey(key)), t.clock.read(context.Background()))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// reseal makes the checksum of raw right.
func (t *tier[V]) reseal(raw []byte, key string) []byte {
	t.keys.Load().closeEnvelope(raw, key)
	return raw
}

// damages are the bytes that may be found under key "k" besides our own.
func damages(tb testing.TB, t *tier[string]) map[string]struct {
	raw     []byte
	corrupt bool // deleted; else foreign: left alone
} {
	good := func() []byte { return t.sealed(tb, "k", "a value") }
	with := func(i int, b byte) []byte {
		raw := good()
		raw[i] = b
		return raw
	}
	flipped := func(i int) []byte { // of the very bytes: each good() has another stamp
		raw := good()
		raw[i] ^= 1
		return raw
	}
	bomb := good()[:headSize]
	// An array of 2^62 elements, each an array ...
	bomb = append(bomb, bytes.Repeat([]byte{0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0}, 100)...)
	deep := append(good()[:headSize], bytes.Repeat([]byte{0x81}, 100_000)...)
	huge := append(good()[:headSize], 0x7b, 0, 0, 1, 0, 0, 0, 0, 0) // a string of a TiB
	garbage := append(good(), 0x01)
	seals := offline(tb, Config[string]{Seal: sealKeys(1)})
	seals.keys.Store(t.keys.Load())
	flagged := func(flags byte, payload []byte) []byte {
		return t.reseal(append(with(flagsOffset, flags)[:headSize], payload...), "k")
	}
	type damage = struct {
		raw     []byte
		corrupt bool
	}
	return map[string]damage{
		"empty":                          {[]byte{}, false},
		"one byte":                       {[]byte{magic[0]}, false},
		"text":                           {[]byte("somebody else's"), false},
		"JSON":                           {[]byte(`{"id":"k"}`), false},
		"newer format":                   {with(2, format+1), false},
		"format 0":                       {with(2, 0), false},
		"over 8 MiB":                     {append(good(), make([]byte, maxRead)...), false},
		"over 8 MiB of text":             {make([]byte, maxRead+1), false},
		"another codec":                  {t.reseal(with(52, 77), "k"), false},
		"unknown flag":                   {flagged(0x80, []byte("\x61v")), false},
		"unknown flag of a negative one": {t.reseal(append(t.negative(tb, "k")[:flagsOffset], append([]byte{0x08}, make([]byte, 40)...)...), "k"), false},
		"sealed":                         {seals.sealed(tb, "k", "a value"), false},
		"sealed, negative":               {seals.negative(tb, "k"), false},
		"flag flipped":                   {with(flagsOffset, 0x80), true},
		"too short to be sealed":         {flagged(flagSealed, make([]byte, sealOverhead-1)), true},
		"compressed garbage":             {flagged(flagCompressed, []byte("\x61v")), true},
		"compressed CBOR garbage":        {flagged(flagCompressed, runs(frame(128<<10), 1)), true},
		"compressed bomb":                {flagged(flagCompressed, runs(frame(1<<30), 8192)), true},
		"compressed and no size":         {flagged(flagCompressed, bombs(tb)["64 MiB without a size"]), true},
		"magic alone":                    {good()[:2], true},
		"cut in the stamp":               {good()[:11], true},
		"cut to the fence":               {good()[:fenceSize], true},
		"cut in the head":                {good()[:40], true},
		"cut before the payload":         {good()[:headSize], true},
		"cut in the payload":             {good()[:headSize+3], true},
		"bit flipped in the stamp":       {flipped(9), true},
		"bit flipped in a time":          {flipped(30), true},
		"bit flipped in the payload":     {flipped(headSize + 2), true},
		"bit flipped in the checksum":    {flipped(crcOffset), true},
		"unknown kind":                   {t.reseal(with(3, 'X'), "k"), true},
		"long lease":                     {with(3, kindLease), true},
		"negative with a payload":        {t.reseal(with(3, kindNegative), "k"), true},
		"bytes behind the end":           {append(good(), 1), true},
		"of another key":                 {t.sealed(tb, "other", "a value"), true},
		"not CBOR":                       {t.reseal(append(good()[:headSize], 0xff, 0xff), "k"), true},
		"CBOR of another type":           {t.reseal(append(good()[:headSize], 0xa0), "k"), true},
		"no payload":                     {t.reseal(good()[:headSize], "k"), true},
		"CBOR with garbage behind":       {t.reseal(garbage, "k"), true},
		"array bomb":                     {t.reseal(bomb, "k"), true},
		"nesting bomb":                   {t.reseal(deep, "k"), true},
		"string bomb":                    {t.reseal(huge, "k"), true},
		"length of the payload is a lie": {with(58, 0xff), true},
		"length of the key is a lie":     {with(54, 0xff), true},
	}
}

func TestDamageIsAMissAndDeletedWhileForeignBytesAreLeftAlone(t *testing.T) {
	client := newClient(t, realRedis(t))
	o := testOptions
	o.Name = "damage"
	tier := openTier(t, Config[string]{Client: client}, o)
	dk := tier.keys.Load().redisKey("k")
	for name, d := range damages(t, tier) {
		for op, do := range map[string]func() dewar.Found[string]{
			"Read": func() dewar.Found[string] { return tier.readOne(t.Context(), "k") },
			"Read of many": func() dewar.Found[string] {
				found := make([]dewar.Found[string], 3)
				tier.Read(t.Context(), []string{"x", "k", "y"}, found)
				return found[1]
			},
			"Lease": func() dewar.Found[string] { return tier.leaseOne(t.Context(), "k") },
		} {
			if err := client.Set(t.Context(), dk, d.raw, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			before := tier.Stats()
			f := do()
			after := tier.Stats()
			want := dewar.RemoteForeign
			if d.corrupt {
				want = dewar.RemoteAbsent
				if op == "Lease" {
					want = dewar.RemoteGranted
				}
			}
			if f.State != want || f.Err != nil {
				t.Errorf("%s: %s: state %d (error %v), want %d", name, op, f.State, f.Err, want)
			}
			counted := after.Foreign - before.Foreign
			if d.corrupt {
				counted = after.Corrupt - before.Corrupt
			}
			if counted != 1 || after.Foreign+after.Corrupt-before.Foreign-before.Corrupt != 1 || after.Errors != before.Errors {
				t.Errorf("%s: %s: counted %+v, before %+v", name, op, after, before)
			}
			left, err := client.Get(t.Context(), dk).Bytes()
			switch {
			case !d.corrupt && !bytes.Equal(left, d.raw):
				t.Errorf("%s: %s: was touched (%v)", name, op, err)
			case d.corrupt && op != "Lease" && !errors.Is(err, redis.Nil):
				t.Errorf("%s: %s: was not deleted (%v)", name, op, err)
			case d.corrupt && op == "Lease" && !bytes.Equal(left, f.Fence[:]):
				t.Errorf("%s: %s: no lease in its place", name, op)
			}
		}
		// Expire deletes what it cannot make stale: another version of this
		// program may well read it.
		if err := client.Set(t.Context(), dk, d.raw, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if err := tier.expireOne(t.Context(), "k"); err != nil {
			t.Errorf("%s: Expire: %v", name, err)
		}
		// Where the envelope is whole it need not look inside.
		left, err := client.Get(t.Context(), dk).Bytes()
		var env envelope
		if !errors.Is(err, redis.Nil) && (tier.keys.Load().parse(left, "k", &env) != isEntry || env.fresh > time.Now().UnixNano()) {
			t.Errorf("%s: there after Expire, and not stale (%v)", name, err)
		}
	}
}

func TestAnotherRedisTypeIsForeign(t *testing.T) {
	for _, c := range []struct{ name, addr string }{{"Redis", realRedis(t)}, {"miniredis", startMini(t).Addr()}} {
		t.Run(c.name, func(t *testing.T) {
			client := newClient(t, c.addr)
			tier := openTier(t, Config[string]{Client: client}, testOptions)
			dk := tier.keys.Load().redisKey("hash")
			if err := client.HSet(t.Context(), dk, "a", 1).Err(); err != nil {
				t.Fatal(err)
			}
			if f := tier.readOne(t.Context(), "hash"); f.State != dewar.RemoteForeign {
				t.Errorf("Read: state %d, error %v", f.State, f.Err)
			}
			found := make([]dewar.Found[string], 2)
			tier.Read(t.Context(), []string{"hash", "x"}, found) // MGET answers nil
			if found[0].State != dewar.RemoteAbsent {
				t.Errorf("Read of many: state %d, error %v", found[0].State, found[0].Err)
			}
			if f := tier.leaseOne(t.Context(), "hash"); f.State != dewar.RemoteForeign {
				t.Errorf("Lease: state %d, error %v", f.State, f.Err)
			}
			if err := tier.fillOne(t.Context(), "hash", newFence(kindLease), "v"); !errors.Is(err, dewar.ErrFenced) {
				t.Errorf("Fill: %v", err)
			}
			if got := client.HGet(t.Context(), dk, "a").Val(); got != "1" {
				t.Errorf("the hash was touched: %q", got)
			}
			if got := tier.Stats().Errors; got != 0 {
				t.Errorf("%d errors counted", got)
			}
			if err := tier.expireOne(t.Context(), "hash"); err != nil {
				t.Errorf("Expire: %v", err)
			}
			if err := tier.unlinkOne(t.Context(), "hash"); err != nil {
				t.Errorf("Unlink: %v", err)
			}
			if client.Exists(t.Context(), dk).Val() != 0 {
				t.Error("there after Unlink")
			}
		})
	}
}

// A damaged value is deleted by what it begins with, so that a good one that
// was written between reading and deleting stays.
func TestDeletingDamageSparesAWriterInBetween(t *testing.T) {
	tier, mini := miniTier(t)
	dk := tier.keys.Load().redisKey("k")
	for _, raw := range [][]byte{tier.sealed(t, "k", "v")[:11], tier.sealed(t, "k", "v")[:50]} {
		mini.Set(dk, string(raw))
		s := []swap{{dk: dk, seen: string(raw[:min(len(raw), fenceSize)])}}
		tier.put(t, "k", "written in between")
		tier.swap(t.Context(), s)
		if f := tier.readOne(t.Context(), "k"); s[0].done || s[0].err != nil || f.Entry.Value != "written in between" {
			t.Errorf("deleted %v (%v), state %d", s[0].done, s[0].err, f.State)
		}
	}
}

func TestValueUnderAnotherHashedKeyIsAMiss(t *testing.T) {
	tier, mini := miniTier(t)
	a, b := strings.Repeat("a", 300), strings.Repeat("b", 300)
	tier.put(t, a, "a's")
	raw, err := mini.Get(tier.keys.Load().redisKey(a))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(raw, a) {
		t.Error("the full key is not inside")
	}
	mini.Set(tier.keys.Load().redisKey(b), raw)
	if f := tier.readOne(t.Context(), b); f.State != dewar.RemoteAbsent {
		t.Errorf("state %d, value %q", f.State, f.Entry.Value)
	}
}

func TestUnencodableValuesStayOut(t *testing.T) {
	tier, _ := miniTier(t)
	big := openTier(t, Config[string]{Client: tier.client, MaxValue: 4 << 20}, testOptions)
	value := strings.Repeat("x", defaultMaxValue)
	fence := tier.leaseOne(t.Context(), "k").Fence
	fills := []dewar.Fill[string]{
		aFill("k", fence, value),
		aFill("l", tier.leaseOne(t.Context(), "l").Fence, "small"),
	}
	tier.Fill(t.Context(), fills)
	if !errors.Is(fills[0].Err, dewar.ErrUnencodable) {
		t.Errorf("too large: %v", fills[0].Err)
	}
	if fills[1].Err != nil {
		t.Errorf("its neighbour: %v", fills[1].Err)
	}
	if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteLeased {
		t.Errorf("state %d, want the lease", f.State)
	}
	if err := big.fillOne(t.Context(), "k", fence, value); err != nil {
		t.Errorf("with a larger MaxValue: %v", err)
	}
	if f := tier.readOne(t.Context(), "k"); f.Entry.Value != value {
		t.Errorf("state %d, %d bytes", f.State, len(f.Entry.Value))
	}
}

// ownCodec writes the value as it is; "boom" panics, "fail" fails.
type ownCodec struct{}

func (c ownCodec) Append(dst []byte, v string) ([]byte, error) {
	switch v {
	case "boom":
		panic("boom")
	case "fail":
		return dst, errors.New("fail")
	case "lie":
		return nil, nil
	}
	return append(dst, v...), nil
}

func (ownCodec) Decode(src []byte) (string, error) {
	if string(src) == "decodes with a panic" {
		panic("boom")
	}
	return string(src), nil
}

func TestCodecsThatFailPanicOrLieHarmNobody(t *testing.T) {
	tier, _ := miniTier(t)
	own := openTier(t, Config[string]{Client: tier.client, Codec: ownCodec{}}, testOptions)
	for _, v := range []string{"boom", "fail", "lie"} {
		if err := own.fillOne(t.Context(), v, own.seizeOne(t.Context(), v).Fence, v); !errors.Is(err, dewar.ErrUnencodable) {
			t.Errorf("%s: %v", v, err)
		}
	}
	own.put(t, "p", "decodes with a panic")
	if f := own.readOne(t.Context(), "p"); f.State != dewar.RemoteAbsent || own.Stats().Corrupt != 1 {
		t.Errorf("state %d, %+v", f.State, own.Stats())
	}
	own.put(t, "k", "v")
	if f := own.readOne(t.Context(), "k"); f.Entry.Value != "v" {
		t.Errorf("state %d, value %q", f.State, f.Entry.Value)
	}
	if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteForeign {
		t.Errorf("a value of another codec has state %d", f.State)
	}
}

func TestFillOfADeadEntryDeletesItsLease(t *testing.T) {
	tier, mini := miniTier(t)
	f := aFill("k", tier.leaseOne(t.Context(), "k").Fence, "v")
	f.Dead = dewar.Clock()
	fills := []dewar.Fill[string]{f}
	if tier.Fill(t.Context(), fills); fills[0].Err != nil || mini.Exists(tier.keys.Load().redisKey("k")) {
		t.Errorf("error %v, there: %v", fills[0].Err, mini.Exists(tier.keys.Load().redisKey("k")))
	}
}

func TestZeroFenceNamesNothingThatIsThere(t *testing.T) {
	tier, mini := miniTier(t)
	mini.Set(tier.keys.Load().redisKey("k"), string(make([]byte, 64)))
	if err := tier.fillOne(t.Context(), "k", dewar.Fence{}, "v"); !errors.Is(err, dewar.ErrFenced) {
		t.Errorf("Fill: %v", err)
	}
	fills := []dewar.Fill[string]{{Key: "k"}}
	if tier.Release(t.Context(), fills); !errors.Is(fills[0].Err, dewar.ErrFenced) || !mini.Exists(tier.keys.Load().redisKey("k")) {
		t.Errorf("Release: %v", fills[0].Err)
	}
}
