package redistier

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

// sealKeys returns keys of the given IDs, each with a key of its own.
func sealKeys(ids ...byte) []SealKey {
	keys := make([]SealKey, len(ids))
	for i, id := range ids {
		keys[i].ID = id
		for b := range keys[i].Key {
			keys[i].Key[b] = id ^ byte(b) ^ 0x5a
		}
	}
	return keys
}

func TestSealConfigurationsThatAreMistakesAreRefusedWithTheFix(t *testing.T) {
	twice := append(sealKeys(7), SealKey{ID: 7, Key: sealKeys(8)[0].Key})
	for _, c := range []struct {
		name string
		cfg  Config[string]
		want []string // nil: accepted
	}{
		{"one key", Config[string]{Seal: sealKeys(0)}, nil},
		{"two keys", Config[string]{Seal: sealKeys(1, 2)}, nil},
		{"an ID twice", Config[string]{Seal: twice}, []string{"Seal[0]", "Seal[1]", "ID 7", "an ID of its own"}},
		{"zeros", Config[string]{Seal: []SealKey{sealKeys(1)[0], {ID: 2}}}, []string{"Seal[1]", "ID 2", "32 random bytes"}},
		{"compressed and sealed", Config[string]{Seal: sealKeys(1), CompressOver: 1}, []string{"CompressOver", "Seal", "CompressSealed"}},
		{"asked for", Config[string]{Seal: sealKeys(1), CompressOver: 1, CompressSealed: true}, nil},
		{"negative", Config[string]{CompressOver: -1}, []string{"CompressOver is -1", "0 compresses nothing"}},
	} {
		c.cfg.Client = newClient(t, "127.0.0.1:1")
		err := c.cfg.Validate()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: does not say %q", c.name, err, want)
			}
		}
	}
}

func TestSealKeysAreNotShown(t *testing.T) {
	k := sealKeys(1)[0]
	cfg := Config[string]{Seal: []SealKey{k}}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+verb+verb, k, &k, cfg)
	}
	text, err := json.Marshal(struct{ K SealKey }{k})
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(text)
	for _, secret := range []string{
		string(k.Key[:4]), fmt.Sprintf("%x", k.Key[:4]),
		fmt.Sprintf("%d %d %d", k.Key[0], k.Key[1], k.Key[2]), fmt.Sprintf("%#x, %#x", k.Key[0], k.Key[1]),
		fmt.Sprintf("%d,%d,%d", k.Key[0], k.Key[1], k.Key[2]),
	} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q is in %q", secret, shown.String())
		}
	}
	if !strings.Contains(shown.String(), "SealKey(1)") {
		t.Errorf("does not say which key: %q", shown.String())
	}
}

// negative returns the envelope of a negative entry.
func (t *tier[V]) negative(tb testing.TB, key string) []byte {
	tb.Helper()
	var none V
	f := aFill(key, dewar.Fence{}, none)
	f.Entry = dewar.NegativeEntry[V](f.Entry.Loaded, f.Entry.Fresh)
	ks := t.keys.Load()
	raw, err := t.encode(ks, nil, &f, ks.hashed(ks.redisKey(key)), t.clock.read(context.Background()))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestSealedEntriesComeBackAndDoNotShowWhatIsInThem(t *testing.T) {
	for name, cfg := range map[string]Config[string]{
		"sealed":                {Seal: sealKeys(1)},
		"sealed and compressed": {Seal: sealKeys(1), CompressOver: 100, CompressSealed: true},
	} {
		tier := offline(t, cfg)
		for _, key := range []string{"k", strings.Repeat("long", 100)} {
			for _, v := range []string{"", "secret", strings.Repeat("secret", 1000)} {
				raw := tier.sealed(t, key, v)
				if strings.Contains(string(raw), "secret") {
					t.Errorf("%s: %.100q shows what is in it", name, raw)
				}
				if compressed := len(v) > 100 && cfg.CompressOver > 0; (raw[flagsOffset]&flagCompressed != 0) != compressed {
					t.Errorf("%s: flags %b", name, raw[flagsOffset])
				}
				f := tier.look(raw, key)
				if f.State != dewar.RemoteValue || f.Entry.Value != v || f.Fence != dewar.Fence(raw) {
					t.Errorf("%s: state %d, %d bytes", name, f.State, len(f.Entry.Value))
				}
			}
			raw := tier.negative(t, key)
			if f := tier.look(raw, key); f.State != dewar.RemoteValue || !f.Entry.Negative() || raw[flagsOffset]&flagSealed == 0 {
				t.Errorf("%s: negative: state %d", name, f.State)
			}
		}
		if bytes.Contains(tier.sealed(t, "k", "v"), tier.sealed(t, "k", "v")[headSize:]) {
			t.Errorf("%s: a nonce came twice", name)
		}
	}
}

// Whoever can write to Redis can make the checksum right as well.
func TestNoBitOfASealedEntryCanBeChanged(t *testing.T) {
	tier := offline(t, Config[string]{Codec: String(), Seal: sealKeys(1, 3)})
	long := strings.Repeat("long", 100)
	for name, c := range map[string]struct {
		raw []byte
		key string
	}{
		"value":      {tier.sealed(t, "k", "a value"), "k"},
		"hashed key": {tier.sealed(t, long, "a value"), long},
		"negative":   {tier.negative(t, "k"), "k"},
	} {
		if f := tier.look(tier.reseal(bytes.Clone(c.raw), c.key), c.key); f.State != dewar.RemoteValue {
			t.Fatalf("%s: state %d", name, f.State)
		}
		for i := range c.raw {
			if crcOffset-8 <= i && i < crcOffset+4 {
				continue // lengths and checksum, which reseal sets
			}
			for bit := range 8 {
				bad := bytes.Clone(c.raw)
				bad[i] ^= 1 << bit
				if f := tier.look(tier.reseal(bad, c.key), c.key); f.State == dewar.RemoteValue {
					t.Errorf("%s: bit %d of byte %d may be changed", name, bit, i)
				}
			}
		}
		for n := range len(c.raw) - headSize {
			cut := c.raw[:headSize+n]
			if name != "hashed key" && tier.look(tier.reseal(bytes.Clone(cut), c.key), c.key).State == dewar.RemoteValue {
				t.Errorf("%s: may be cut to %d bytes", name, len(cut))
			}
		}
	}
}

func TestASealedEntryCountsOnlyWhereItWasWritten(t *testing.T) {
	tier := offline(t, Config[string]{Seal: sealKeys(1)})
	for what, raw := range map[string][]byte{"value": tier.sealed(t, "k", "v"), "negative": tier.negative(t, "k")} {
		if f := tier.look(tier.reseal(bytes.Clone(raw), "l"), "l"); f.State != dewar.RemoteAbsent {
			t.Errorf("%s: under another key: state %d", what, f.State)
		}
		for name, o := range map[string]struct{ prefix, name, schema string }{
			"prefix": {"other", "videos", "0"},
			"name":   {"dewar", "other", "0"},
			"schema": {"dewar", "videos", "1"},
		} {
			opts := testOptions
			opts.Name, opts.Schema = o.name, o.schema
			there := openTier(t, Config[string]{Client: newClient(t, "127.0.0.1:1"), Prefix: o.prefix, Seal: sealKeys(1), Timeout: time.Millisecond}, opts)
			if f := there.look(there.reseal(bytes.Clone(raw), "k"), "k"); f.State != dewar.RemoteAbsent {
				t.Errorf("%s: under another %s: state %d", what, name, f.State)
			}
		}
	}
	// Parts that look alike when written one behind the other.
	a := keyspace{base: "p:1:n:s:0:"}
	head := tier.sealed(t, "k", "v")
	if bytes.Equal(appendBound(nil, a, head, "ab", 1), appendBound(nil, keyspace{base: "p:1:n:s:0:a"}, head, "c", 1)) {
		t.Error("bound alike")
	}
}

func TestKeysOfASealAreChangedStepByStep(t *testing.T) {
	steps := [][]SealKey{sealKeys(1), sealKeys(1, 2), sealKeys(2, 1), sealKeys(2)}
	for i, w := range steps {
		raw := offline(t, Config[string]{Seal: w}).sealed(t, "k", "v")
		if raw[headSize] != w[0].ID {
			t.Errorf("step %d seals by key %d", i, raw[headSize])
		}
		for j, r := range steps {
			knows := false
			for _, k := range r {
				knows = knows || k.ID == w[0].ID
			}
			want := dewar.RemoteForeign
			if knows {
				want = dewar.RemoteValue
			}
			if f := offline(t, Config[string]{Seal: r}).look(raw, "k"); f.State != want {
				t.Errorf("step %d finds what step %d sealed in state %d", j, i, f.State)
			}
			if near := i-j == 1 || j-i == 1; near && !knows {
				t.Errorf("steps %d and %d do not read each other's", i, j)
			}
		}
	}
	// The same ID with another key inside.
	other := []SealKey{{ID: 1, Key: sealKeys(9)[0].Key}}
	raw := offline(t, Config[string]{Seal: other}).sealed(t, "k", "v")
	if f := offline(t, Config[string]{Seal: sealKeys(1)}).look(raw, "k"); f.State != dewar.RemoteAbsent {
		t.Errorf("sealed by another key of the same ID: state %d", f.State)
	}
}

// While a fleet is reconfigured both are there: neither deletes the other's.
func TestWhoSealsAndWhoDoesNotLeaveEachOthersAlone(t *testing.T) {
	mini := startMini(t)
	client := newClient(t, mini.Addr())
	plain := openTier(t, Config[string]{Client: client}, testOptions)
	seals := openTier(t, Config[string]{Client: client, Seal: sealKeys(1)}, testOptions)
	elsewhere := openTier(t, Config[string]{Client: client, Seal: sealKeys(2)}, testOptions)
	for name, c := range map[string]struct{ writer, reader *tier[string] }{
		"unsealed":    {plain, seals},
		"sealed":      {seals, plain},
		"another key": {seals, elsewhere},
	} {
		for kind, raw := range map[string][]byte{"value": c.writer.sealed(t, "k", "v"), "negative": c.writer.negative(t, "k")} {
			dk := c.writer.keys.Load().redisKey("k")
			mini.Set(dk, string(raw))
			mini.SetTTL(dk, time.Minute)
			before := c.reader.Stats()
			if f := c.reader.readOne(t.Context(), "k"); f.State != dewar.RemoteForeign {
				t.Errorf("%s %s: Read: state %d", name, kind, f.State)
			}
			if f := c.reader.leaseOne(t.Context(), "k"); f.State != dewar.RemoteForeign {
				t.Errorf("%s %s: Lease: state %d", name, kind, f.State)
			}
			if after := c.reader.Stats(); after.Foreign != before.Foreign+2 || after.Corrupt != before.Corrupt {
				t.Errorf("%s %s: counted %+v, before %+v", name, kind, after, before)
			}
			if left, err := mini.Get(dk); left != string(raw) {
				t.Errorf("%s %s: was touched (%v)", name, kind, err)
			}
			// Expire leaves nothing fresh to anybody.
			if err := c.reader.expireOne(t.Context(), "k"); err != nil {
				t.Errorf("%s %s: Expire: %v", name, kind, err)
			}
			f := c.writer.readOne(t.Context(), "k")
			if fresh := f.State == dewar.RemoteValue && f.Entry.Fresh > dewar.Clock(); fresh {
				t.Errorf("%s %s: fresh after Expire", name, kind)
			}
			if keeps := name == "unsealed" && kind == "value"; (f.State == dewar.RemoteValue) != keeps {
				t.Errorf("%s %s: after Expire: state %d", name, kind, f.State)
			}
		}
	}
}

func TestExpireSealsAnew(t *testing.T) {
	for name, cfg := range map[string]Config[string]{
		"sealed":                {Seal: sealKeys(2, 1)},
		"sealed and compressed": {Seal: sealKeys(2, 1), CompressOver: 10, CompressSealed: true},
	} {
		mini := startMini(t)
		cfg.Client = newClient(t, mini.Addr())
		tier := openTier(t, cfg, testOptions)
		cfg.Seal = sealKeys(1)
		old := openTier(t, cfg, testOptions)
		value := strings.Repeat("value", 100)
		for _, key := range []string{"k", strings.Repeat("long", 100)} {
			dk := tier.keys.Load().redisKey(key)
			old.put(t, key, value)
			before, _ := mini.Get(dk)
			if err := tier.expireOne(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			after, _ := mini.Get(dk)
			if before[:fenceSize] == after[:fenceSize] || before[flagsOffset] != after[flagsOffset] {
				t.Errorf("%s: %x became %x", name, before, after)
			}
			f := tier.readOne(t.Context(), key)
			if f.State != dewar.RemoteValue || f.Entry.Value != value || f.Entry.Fresh > dewar.Clock() {
				t.Errorf("%s: state %d, %d bytes", name, f.State, len(f.Entry.Value))
			}
			if f := old.readOne(t.Context(), key); f.State != dewar.RemoteForeign {
				t.Errorf("%s: is not sealed by the first key: state %d", name, f.State)
			}
			// What is altered is deleted, not sealed with what it says.
			bad := []byte(after)
			bad[35] ^= 1 // the time until which it is fresh
			mini.Set(dk, string(tier.reseal(bad, key)))
			if err := tier.expireOne(t.Context(), key); err != nil || mini.Exists(dk) {
				t.Errorf("%s: altered: %v, there: %v", name, err, mini.Exists(dk))
			}
		}
	}
}

func TestAlteredSealedEntriesAreDeleted(t *testing.T) {
	mini := startMini(t)
	tier := openTier(t, Config[string]{Client: newClient(t, mini.Addr()), Seal: sealKeys(1)}, testOptions)
	dk := tier.keys.Load().redisKey("k")
	for name, at := range map[string]int{"stamp": 10, "loaded": 27, "fresh": 35, "dead": 43, "took": 51, "nonce": headSize + 1, "ciphertext": headSize + 14} {
		raw := tier.sealed(t, "k", "a value")
		raw[at] ^= 1
		mini.Set(dk, string(tier.reseal(raw, "k")))
		if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent || mini.Exists(dk) {
			t.Errorf("%s: state %d, there: %v", name, f.State, mini.Exists(dk))
		}
	}
	if got := tier.Stats().Corrupt; got != 7 {
		t.Errorf("%d counted", got)
	}
}
