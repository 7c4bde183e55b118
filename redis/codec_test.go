package redistier

import (
	"bytes"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everything is what values are made of.
type everything struct {
	Bool    bool
	Int     int
	Small   int8
	Uint    uint64
	Float   float64
	Text    string `json:"text,omitempty"`
	Bytes   []byte
	Array   [3]int16
	ID      [16]byte
	Slice   []string
	Map     map[string]int
	IntMap  map[int64]string
	Pointer *everything
	When    time.Time
	Span    time.Duration
	Addr    netip.Addr
	URL     url.URL
	Big     *big.Int
	Nested  struct{ A, B float32 }
	Structs []struct{ X int }
	Embedded
}

type Embedded struct{ Inside string }

func roundTrip[V any](t *testing.T, v V) V {
	t.Helper()
	got, raw := roundTripBy(t, CBOR[V](), v)
	if _, err := CBOR[V]().Decode(append(raw, 0)); err == nil {
		t.Error("trailing garbage is accepted")
	}
	return got
}

// roundTripBy returns v as it comes back, and its encoding.
func roundTripBy[V any](t *testing.T, c Codec[V], v V) (got V, encoded []byte) {
	t.Helper()
	raw, err := c.Append([]byte("before"), v)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(raw, []byte("before")) {
		t.Fatal("Append did not append")
	}
	raw = raw[len("before"):]
	encoded = bytes.Clone(raw)
	got, err = c.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, encoded) {
		t.Error("Decode changed what it was given")
	}
	for i := range raw {
		raw[i] = 0xff // got must not have kept it
	}
	return got, encoded
}

func TestCBORKeepsEverything(t *testing.T) {
	if err := CBOR[everything]().(numbered).lossy(); err != nil {
		t.Fatal(err)
	}
	link, _ := url.Parse("https://user:pass@example.com/a?b=c#d")
	full := everything{
		Bool: true, Int: -42, Small: -128, Uint: math.MaxUint64, Float: math.Inf(-1),
		Text: "invalid \xff\xfe UTF-8 \x00", Bytes: []byte{0, 0xff, 1}, Array: [3]int16{1, -2, 3},
		ID: [16]byte{1, 15: 2}, Slice: []string{"", "\xc3\x28"}, Map: map[string]int{"": 0, "\xff": 1},
		IntMap: map[int64]string{-1: "a"}, Pointer: &everything{Text: "inner"},
		When: time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC), Span: math.MinInt64,
		Addr: netip.MustParseAddr("2001:db8::1"), URL: *link, Big: new(big.Int).Lsh(big.NewInt(-7), 200),
		Structs: []struct{ X int }{{1}, {2}}, Embedded: Embedded{"in"},
	}
	full.Nested.B = math.SmallestNonzeroFloat32
	for name, v := range map[string]everything{
		"full": full,
		"zero": {},
		"empty, not nil": {
			Bytes: []byte{}, Slice: []string{}, Map: map[string]int{}, Structs: []struct{ X int }{}, Big: new(big.Int),
		},
	} {
		if got := roundTrip(t, v); !reflect.DeepEqual(got, v) {
			t.Errorf("%s: got\n%+v, want\n%+v", name, got, v)
		}
	}
}

func TestCBORKeepsInstantsToTheNanosecond(t *testing.T) {
	for _, when := range []time.Time{
		{},
		time.Unix(0, 1),
		time.Unix(1<<33, 999999999).UTC(),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("X", -5*3600)),
		time.Now(),
	} {
		got := roundTrip(t, when)
		_, want := when.Zone()
		if _, offset := got.Zone(); !got.Equal(when) || offset != want {
			t.Errorf("%v became %v", when, got)
		}
	}
	if _, err := CBOR[time.Time]().Append(nil, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a year that cannot be read back is written")
	}
}

func TestCBORPointers(t *testing.T) {
	if got := roundTrip[*video](t, nil); got != nil {
		t.Errorf("nil became %+v", got)
	}
	v := aVideo(1)
	if got := roundTrip(t, &v); !reflect.DeepEqual(*got, v) {
		t.Errorf("%+v became %+v", v, *got)
	}
	if got := roundTrip[[]byte](t, nil); got != nil {
		t.Errorf("nil became %v", got)
	}
	if got := roundTrip(t, []byte{}); got == nil {
		t.Error("empty became nil")
	}
}

type list struct {
	Next *list
	N    int
}

func TestCBORRefusesValuesThatContainThemselves(t *testing.T) {
	c := CBOR[*list]()
	loop := &list{N: 1}
	loop.Next = loop
	if _, err := c.Append(nil, loop); err == nil {
		t.Error("a loop is written")
	}
	long := &list{}
	for range maxDepth {
		long = &list{Next: long}
	}
	if _, err := c.Append(nil, long); err == nil {
		t.Error("a list is written that cannot be read")
	}
	short := &list{N: 7}
	for range maxDepth - 2 {
		short = &list{Next: short}
	}
	if got := roundTrip(t, short); !reflect.DeepEqual(got, short) {
		t.Error("a list does not come back")
	}
	type tree map[string]tree
	leaf := tree{}
	leaf["self"] = leaf
	if _, err := CBOR[tree]().Append(nil, leaf); err == nil {
		t.Error("a map in itself is written")
	}
	type nest []nest
	self := make(nest, 1)
	self[0] = self
	if _, err := CBOR[nest]().Append(nil, self); err == nil {
		t.Error("a slice in itself is written")
	}
}

func TestCBORBoundsWhatItBuilds(t *testing.T) {
	for name, raw := range map[string]string{
		"elements": "\x9a\x00\x10\x00\x01" + strings.Repeat("\x00", maxElements+1),
		"nesting":  strings.Repeat("\x81", maxDepth+1) + "\x00",
		"lie":      "\x9b\x00\x00\x00\x00\x00\x0f\xff\xff",
	} {
		if _, err := CBOR[any]().Decode([]byte(raw)); err == nil {
			t.Errorf("%s: decodes", name)
		}
	}
	full := make([]uint8, maxElements)
	type small uint16
	all := make([]small, maxElements)
	if got := roundTrip(t, full); len(got) != len(full) {
		t.Error("bytes")
	}
	if got := roundTrip(t, all); len(got) != len(all) {
		t.Error("elements up to the bound do not come back")
	}
}

func FuzzCBOR(f *testing.F) {
	f.Add("text", []byte{1, 2}, int64(-3), 1.5, true, int64(1773500966535897932))
	f.Add("\xff\x00", []byte(nil), int64(math.MinInt64), math.Inf(1), false, int64(-1))
	type value struct {
		Text  string
		Bytes []byte
		Int   int64
		Float float64
		Bool  bool
		When  time.Time
		More  []map[string]*string
	}
	f.Fuzz(func(t *testing.T, text string, raw []byte, n int64, x float64, b bool, ns int64) {
		v := value{text, raw, n, x, b, time.Unix(0, ns).UTC(), []map[string]*string{{text: &text, "": nil}, nil}}
		if text == "" {
			v.More = nil
		}
		got := roundTrip(t, v)
		if math.Float64bits(got.Float) != math.Float64bits(v.Float) {
			t.Fatalf("%x became %x", math.Float64bits(v.Float), math.Float64bits(got.Float))
		}
		got.Float, v.Float = 0, 0
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("got %+v, want %+v", got, v)
		}
		_, _ = CBOR[value]().Decode(raw) // anything: must not panic
	})
}
