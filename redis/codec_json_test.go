package redistier

import (
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// everyJSON is what values of the JSON codec are made of.
type everyJSON struct {
	Bool    bool
	Int     int64
	Uint    uint64
	Word    uintptr
	Float   float64
	Text    string `json:"text,omitempty"`
	Bytes   []byte
	Array   [3]int16
	ID      [16]byte
	Slice   []string
	Map     map[string]int
	IntMap  map[int8]string
	Addrs   map[netip.Addr]bool
	Pointer *everyJSON
	When    time.Time
	Span    time.Duration
	Addr    netip.Addr
	Big     big.Int
	BigMap  map[string]*big.Int
	Raw     json.RawMessage
	Nested  struct{ A, B float32 }
	Embedded
}

func TestJSONKeepsEverythingThatItDoesNotRefuse(t *testing.T) {
	if err := JSON[everyJSON]().(numbered).lossy(); err != nil {
		t.Fatal(err)
	}
	full := everyJSON{
		Bool: true, Int: math.MinInt64, Uint: math.MaxUint64, Word: 7, Float: -math.SmallestNonzeroFloat64,
		Text: "<a href=\"x\">&\u2028\x00", Bytes: []byte{0, 0xff, 1}, Array: [3]int16{1, -2, 3}, ID: [16]byte{1, 15: 2},
		Slice: []string{""}, Map: map[string]int{"": 0, "a": 1}, IntMap: map[int8]string{-1: "a"},
		Addrs: map[netip.Addr]bool{netip.IPv6Loopback(): true}, Pointer: &everyJSON{Text: "inner", Raw: json.RawMessage("null")},
		When: time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC), Span: math.MaxInt64,
		Addr: netip.MustParseAddr("2001:db8::1"), Big: *new(big.Int).Lsh(big.NewInt(-7), 200),
		BigMap: map[string]*big.Int{"x": big.NewInt(9)}, Raw: json.RawMessage(`{"a":[1]}`), Embedded: Embedded{"in"},
	}
	full.Nested.B = math.MaxFloat32
	for name, v := range map[string]everyJSON{
		"full":           full,
		"zero":           {Raw: json.RawMessage("null")},
		"empty, not nil": {Bytes: []byte{}, Slice: []string{}, Map: map[string]int{}, Raw: json.RawMessage("0")},
	} {
		got, raw := roundTripBy(t, JSON[everyJSON](), v)
		if !reflect.DeepEqual(got, v) {
			t.Errorf("%s: got\n%+v, want\n%+v", name, got, v)
		}
		if !json.Valid(raw) || strings.HasSuffix(string(raw), "\n") {
			t.Errorf("%s: %q is not plain JSON", name, raw)
		}
		for _, garbage := range []string{"x", "{}", "\x00"} {
			if _, err := JSON[everyJSON]().Decode(append(slices.Clone(raw), garbage...)); err == nil {
				t.Errorf("%s: %q behind it is accepted", name, garbage)
			}
		}
	}
	if _, raw := roundTripBy(t, JSON[string](), "<&>"); string(raw) != `"<&>"` {
		t.Errorf("written as %s", raw)
	}
	if got, _ := roundTripBy[*video](t, JSON[*video](), nil); got != nil {
		t.Errorf("nil became %+v", got)
	}
}

func TestJSONRefusesWhatItCannotReadBack(t *testing.T) {
	loop := &list{N: 1}
	loop.Next = loop
	long := &list{}
	for range 20_000 {
		long = &list{Next: long}
	}
	for name, v := range map[string]*list{"a loop": loop, "a deep list": long} {
		if out, err := JSON[*list]().Append([]byte("before"), v); err == nil || string(out) != "before" {
			t.Errorf("%s: %.20q, %v", name, out, err)
		}
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := JSON[float64]().Append(nil, x); err == nil {
			t.Errorf("%v is written", x)
		}
	}
	if _, err := JSON[any]().Decode([]byte(strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001))); err == nil {
		t.Error("reads what is nested without end")
	}
}

type (
	ownJSON    struct{ n int }
	byPointer  struct{ n int }
	ownText    struct{ n int }
	halfJSON   struct{ N int }
	halfText   int
	withByPtr  struct{ In byPointer }
	inArray    [2]byPointer
	cborTagged struct {
		ID     string `json:"id"`
		Hidden string `cbor:"-"`
	}
)

func (o ownJSON) MarshalJSON() ([]byte, error)    { return json.Marshal(o.n) }
func (o *ownJSON) UnmarshalJSON(b []byte) error   { return json.Unmarshal(b, &o.n) }
func (o *byPointer) MarshalJSON() ([]byte, error) { return json.Marshal(o.n) }
func (o *byPointer) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &o.n) }
func (o ownText) MarshalText() ([]byte, error)    { return []byte{byte('a' + o.n)}, nil }
func (o *ownText) UnmarshalText(b []byte) error   { o.n = int(b[0] - 'a'); return nil }
func (halfJSON) MarshalJSON() ([]byte, error)     { return []byte("1"), nil }
func (halfText) MarshalText() ([]byte, error)     { return []byte("x"), nil }

func TestWhatJSONWouldLoseIsNamedByItsPath(t *testing.T) {
	for _, c := range []struct {
		t    reflect.Type
		want []string // paths, in order
	}{
		{reflect.TypeFor[string](), nil},
		{reflect.TypeFor[[]byte](), nil},
		{reflect.TypeFor[video](), nil},
		{reflect.TypeFor[everyJSON](), nil},
		{reflect.TypeFor[recursive](), nil},
		{reflect.TypeFor[outer](), nil},
		{reflect.TypeFor[cborTagged](), nil},
		{reflect.TypeFor[map[string]ownJSON](), nil},
		{reflect.TypeFor[map[ownText]int](), nil},
		{reflect.TypeFor[[]byPointer](), nil},
		{reflect.TypeFor[withByPtr](), nil},
		{reflect.TypeFor[map[string]*byPointer](), nil},
		{reflect.TypeFor[map[string][]byPointer](), nil},
		{reflect.TypeFor[map[string]byPointer](), []string{"value[]"}},
		{reflect.TypeFor[map[string]withByPtr](), []string{"value[].In"}},
		{reflect.TypeFor[map[string]inArray](), []string{"value[][]"}},
		{reflect.TypeFor[struct {
			A withByPtr
			M map[string]withByPtr
		}](), []string{"value.M[].In"}},
		{reflect.TypeFor[hidden](), []string{"hidden.secret"}},
		{reflect.TypeFor[untagged](), []string{"untagged.Secret"}},
		{reflect.TypeFor[withMeta](), []string{"withMeta.Meta.Cache[]"}},
		{reflect.TypeFor[deep](), []string{"deep.List[][].In[].secret"}},
		{reflect.TypeFor[any](), []string{"value"}},
		{reflect.TypeFor[struct {
			F func()
			C chan int
			X complex128
		}](), []string{"value.F", "value.C", "value.X"}},
		{reflect.TypeFor[shadows](), []string{"shadows.ID"}},
		{reflect.TypeFor[embedsPointer](), []string{"embedsPointer.inner"}},
		{reflect.TypeFor[stamped](), []string{"stamped"}},
		{reflect.TypeFor[halfJSON](), []string{"halfJSON"}},
		{reflect.TypeFor[ownBin](), []string{"ownBin.n"}},
		{reflect.TypeFor[url.URL](), []string{"URL.User.username", "URL.User.password", "URL.User.passwordSet"}},
		{reflect.TypeFor[map[time.Time]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[*int]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[float64]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[mapKey]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[halfText]string](), []string{"value[key]"}},
	} {
		problems, _ := lossyFields(c.t, jsonRules)
		var got []string
		for _, p := range problems {
			path, _, _ := strings.Cut(p.Error(), " ")
			got = append(got, path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.t, problems, c.want)
		}
	}
}

func TestWhatJSONDoesNotRefuseComesBack(t *testing.T) {
	if got, _ := roundTripBy(t, JSON[withByPtr](), withByPtr{byPointer{7}}); got.In.n != 7 {
		t.Errorf("%+v", got)
	}
	if got, _ := roundTripBy(t, JSON[[]byPointer](), []byPointer{{7}}); got[0].n != 7 {
		t.Errorf("%+v", got)
	}
	if got, _ := roundTripBy(t, JSON[map[ownText]ownJSON](), map[ownText]ownJSON{{1}: {7}}); got[ownText{1}].n != 7 {
		t.Errorf("%+v", got)
	}
	if got, _ := roundTripBy(t, JSON[map[string][]byPointer](), map[string][]byPointer{"a": {{7}}}); got["a"][0].n != 7 {
		t.Errorf("%+v", got)
	}
	if got, _ := roundTripBy(t, JSON[cborTagged](), cborTagged{"x", "y"}); got.Hidden != "y" {
		t.Errorf("%+v", got)
	}
}

func TestLossyTypesOfJSONAreRefusedUnlessAllowed(t *testing.T) {
	cfg := Config[hidden]{Client: newClient(t, "127.0.0.1:1"), Codec: JSON[hidden]()}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "JSON codec") || !strings.Contains(err.Error(), "hidden.secret is unexported") {
		t.Errorf("%v", err)
	}
	cfg.AllowLossy = true
	if err := cfg.Validate(); err != nil {
		t.Errorf("with AllowLossy: %v", err)
	}
}
