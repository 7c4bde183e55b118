package redistier

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

func TestBytesAndStringsComeBackAsTheyWere(t *testing.T) {
	for _, v := range []string{"", "a", "\x00\xff\xfe", strings.Repeat("x", 100_000)} {
		if got, raw := roundTripBy(t, String(), v); got != v || string(raw) != v {
			t.Errorf("%.20q became %.20q, written as %.20q", v, got, raw)
		}
		if got, raw := roundTripBy(t, Bytes(), []byte(v)); string(got) != v || string(raw) != v {
			t.Errorf("%.20q became %.20q, written as %.20q", v, got, raw)
		}
	}
	if got, _ := roundTripBy(t, Bytes(), nil); got == nil || len(got) != 0 {
		t.Errorf("nil became %v", got)
	}
}

func TestDecodedBytesShareNothing(t *testing.T) {
	src := []byte("value")
	a, _ := Bytes().Decode(src)
	b, _ := Bytes().Decode(src)
	a[0], b[1] = 'x', 'y'
	if string(src) != "value" || string(a) != "xalue" || string(b) != "vylue" {
		t.Errorf("%s %s %s", src, a, b)
	}
}

func TestCodecFuncWithoutAFunctionIsRefused(t *testing.T) {
	app := func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
	dec := func(src []byte) (string, error) { return string(src), nil }
	for name, c := range map[string]struct {
		codec Codec[string]
		ok    bool
	}{
		"both":   {CodecFunc(app, dec), true},
		"append": {CodecFunc(app, nil), false},
		"decode": {CodecFunc(nil, dec), false},
	} {
		err := Config[string]{Client: newClient(t, "127.0.0.1:1"), Codec: c.codec}.Validate()
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "both append and decode") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPanicsOfCodecFuncsHarmNobody(t *testing.T) {
	mini := startMini(t)
	c := CodecFunc(ownCodec{}.Append, ownCodec{}.Decode)
	own := openTier(t, Config[string]{Client: newClient(t, mini.Addr()), Codec: c}, testOptions)
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
}

// The numbers are in Redis: they may never change.
func TestValuesOfOneCodecAreForeignToTheOthers(t *testing.T) {
	mini := startMini(t)
	codecs := []struct {
		number byte
		codec  Codec[string]
	}{
		{0, ownCodec{}},
		{1, CBOR[string]()},
		{2, JSON[string]()},
		{4, String()},
	}
	if n := Bytes().(numbered).number(); n != 3 {
		t.Errorf("Bytes has number %d", n)
	}
	for _, w := range codecs {
		writer := openTier(t, Config[string]{Client: newClient(t, mini.Addr()), Codec: w.codec}, testOptions)
		writer.put(t, "k", "value")
		raw, err := mini.Get(writer.keys.Load().redisKey("k"))
		if err != nil || raw[52] != w.number {
			t.Errorf("codec %d is written as %d (%v)", w.number, raw[52], err)
		}
		for _, r := range codecs {
			reader := openTier(t, Config[string]{Client: newClient(t, mini.Addr()), Codec: r.codec}, testOptions)
			want := dewar.RemoteForeign
			if r.number == w.number {
				want = dewar.RemoteValue
			}
			if f := reader.leaseOne(t.Context(), "k"); f.State != want || want == dewar.RemoteValue && f.Entry.Value != "value" {
				t.Errorf("codec %d finds %d's in state %d, %q", r.number, w.number, f.State, f.Entry.Value)
			}
		}
		if after, _ := mini.Get(writer.keys.Load().redisKey("k")); !bytes.Equal([]byte(after), []byte(raw)) {
			t.Errorf("a value of codec %d was touched", w.number)
		}
	}
}
