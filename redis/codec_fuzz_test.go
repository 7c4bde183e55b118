package redistier

import (
	"bytes"
	"encoding/json"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// fuzzed is a value of every kind that decoders build in a way of its own.
type fuzzed struct {
	Text  string            `json:"text"`
	Bytes []byte            `json:"bytes,omitempty"`
	Int   int64             `json:"int"`
	Small int8              `json:"small"`
	Float float64           `json:"float"`
	When  time.Time         `json:"when"`
	List  []fuzzed          `json:"list,omitempty"`
	Map   map[string]string `json:"map,omitempty"`
	Next  *fuzzed           `json:"next,omitempty"`
	Array [3]uint16         `json:"array"`
}

// allocated is how many bytes were ever allocated, large ones to the byte.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// fuzzDecode decodes raw, whatever it is. What decodes must be what comes back
// when it is stored again.
func fuzzDecode[V any](t *testing.T, c Codec[V], raw []byte) {
	t.Helper()
	src := bytes.Clone(raw)
	before := allocated()
	v, err := c.Decode(src)
	// A byte may stand for an element of a list.
	if used, most := allocated()-before, 1<<20+16*uint64(len(raw))*uint64(reflect.TypeFor[fuzzed]().Size()); used > most {
		t.Fatalf("%d bytes made %d", len(raw), used)
	}
	if !bytes.Equal(src, raw) {
		t.Fatal("Decode changed what it was given")
	}
	if err != nil {
		return
	}
	first, err := c.Append(nil, v)
	if err != nil {
		return // a time of the year 10,000
	}
	again, err := c.Decode(first)
	if err != nil {
		t.Fatalf("%q decodes, and is then written as %q, which does not: %v", raw, first, err)
	}
	second, err := c.Append(nil, again)
	// Maps are written in any order.
	if err != nil || len(second) != len(first) {
		t.Fatalf("%q is written as %q, and then as %q (%v)", raw, first, second, err)
	}
}

func FuzzCodecs(f *testing.F) {
	next := fuzzed{Text: "inner", When: time.Unix(1, 2).UTC()}
	v := fuzzed{
		Text: "text\xff", Bytes: []byte{0, 255}, Int: -1, Small: 7, Float: 0.1, When: time.Unix(1773500966, 535897932).UTC(),
		List: []fuzzed{{}, {}}, Map: map[string]string{"a": "b"}, Next: &next, Array: [3]uint16{1, 2, 3},
	}
	for _, c := range []Codec[fuzzed]{CBOR[fuzzed](), JSON[fuzzed]()} {
		raw, err := c.Append(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	f.Add([]byte(strings.Repeat(`{"next":`, 2000)))
	f.Add([]byte(`{"list":[` + strings.Repeat("{},", 1000) + `{}]}`))
	f.Add(append([]byte("\xa1\x64list\x9a\x00\x0f\xff\xff"), bytes.Repeat([]byte{0xf6}, 1000)...))
	f.Add(bytes.Repeat([]byte{0x81}, 2000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzzDecode(t, CBOR[fuzzed](), raw)
		fuzzDecode(t, JSON[fuzzed](), raw)
		fuzzDecode(t, Bytes(), raw)
		fuzzDecode(t, String(), raw)
	})
}

func FuzzJSON(f *testing.F) {
	f.Add("text", []byte{1, 2}, int64(-3), 1.5, int64(1773500966535897932))
	f.Add("<&>\u2028\ufffd", []byte{}, int64(-1<<63), 5e-324, int64(-1))
	f.Fuzz(func(t *testing.T, text string, raw []byte, n int64, x float64, ns int64) {
		v := fuzzed{Text: strings.ToValidUTF8(text, "?"), Int: n, Float: x, When: time.Unix(0, ns).UTC(), Map: map[string]string{"k": "v"}}
		if len(raw) > 0 { // omitempty
			v.Bytes = raw
		}
		if x != x || x-x != 0 {
			if _, err := JSON[fuzzed]().Append(nil, v); err == nil {
				t.Fatalf("%v is written", x)
			}
			return
		}
		got, encoded := roundTripBy(t, JSON[fuzzed](), v)
		if !reflect.DeepEqual(got, v) || !json.Valid(encoded) {
			t.Fatalf("got %+v, want %+v, by %q", got, v, encoded)
		}
	})
}

func FuzzCompressed(f *testing.F) {
	for _, payload := range bombs(f) {
		if len(payload) < 10_000 {
			f.Add(payload)
		}
	}
	tier := offline(f, Config[string]{Codec: String(), CompressOver: 1})
	for _, v := range []string{"a", strings.Repeat("a", 1000), strings.Repeat("How a Dewar flask keeps ", 100)} {
		small, _ := tier.zip.shrink([]byte(v), 0)
		f.Add(small)
	}
	reference, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(reference.Close)
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := allocated()
		plain, err := tier.zip.grow(nil, payload)
		if used := allocated() - before; used > maxRead+4<<20 {
			t.Fatalf("%d bytes made %d", len(payload), used)
		}
		if err == nil {
			if want, err := reference.DecodeAll(payload, nil); err != nil || !bytes.Equal(want, plain) || len(plain) > maxRead {
				t.Fatalf("%d bytes, want %d (%v)", len(plain), len(want), err)
			}
		}
		// Any bytes, as a value: back unchanged.
		if len(payload) == 0 {
			return
		}
		small, shrunk := tier.zip.shrink(bytes.Clone(payload), 0)
		if !shrunk {
			if !bytes.Equal(small, payload) {
				t.Fatal("left alone, and changed")
			}
			return
		}
		if got, err := tier.zip.grow(nil, small); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%q became %q (%v)", payload, got, err)
		}
	})
}
