package redistier

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

type (
	hidden   struct{ ID, secret string }
	skipped  struct{ ID, Secret string }
	meta     struct{ Cache map[string]any }
	withMeta struct{ Meta meta }
	untagged struct {
		ID     string
		Secret string `json:"-"`
	}
	cborSkips struct {
		ID     string
		Secret string `cbor:"-" json:"secret"`
	}
	dash struct {
		//lint:ignore SA5008 the name is "-", which is what this tests
		ID string `json:"-,"`
	}
	deep struct {
		List []map[string]*struct{ In [2]hidden }
	}
	sameName struct {
		A int `cbor:"x"`
		B int `json:"x"`
	}
	inner   struct{ ID string }
	outer   struct{ inner }
	shadows struct {
		inner
		ID string
	}
	embedsPointer struct{ *inner }
	Inner         struct{ Name string }
	embedsOK      struct{ *Inner }
	embedsLossy   struct {
		hidden
		N int
	}
	recursive struct {
		Next  *recursive
		Child []recursive
	}
	recursiveLossy struct {
		Next *recursiveLossy
		//lint:ignore U1000 unexported on purpose
		f func()
	}
	stamped struct {
		time.Time
		Name string
	}
	//lint:ignore U1000 unexported on purpose
	half    struct{ n int }
	ownCBOR struct{ n int }
	ownBin  struct{ n int }
	mapKey  struct{ A, B int }
	blank   struct {
		_ struct{}
		_ int
		A int
	}
)

func (half) MarshalCBOR() ([]byte, error) { return cbor.Marshal(1) }

func (o ownCBOR) MarshalCBOR() ([]byte, error)   { return cbor.Marshal(o.n) }
func (o *ownCBOR) UnmarshalCBOR(b []byte) error  { return cbor.Unmarshal(b, &o.n) }
func (o ownBin) MarshalBinary() ([]byte, error)  { return []byte{byte(o.n)}, nil }
func (o *ownBin) UnmarshalBinary(b []byte) error { o.n = int(b[0]); return nil }

func TestWhatTheCodecWouldLoseIsNamedByItsPath(t *testing.T) {
	for _, c := range []struct {
		t    reflect.Type
		want []string // paths, in order
	}{
		{reflect.TypeFor[string](), nil},
		{reflect.TypeFor[[]byte](), nil},
		{reflect.TypeFor[video](), nil},
		{reflect.TypeFor[*video](), nil},
		{reflect.TypeFor[everything](), nil},
		{reflect.TypeFor[skipped](), nil},
		{reflect.TypeFor[dash](), nil},
		{reflect.TypeFor[outer](), nil},
		{reflect.TypeFor[embedsOK](), nil},
		{reflect.TypeFor[recursive](), nil},
		{reflect.TypeFor[blank](), nil},
		{reflect.TypeFor[ownCBOR](), nil},
		{reflect.TypeFor[map[string]ownBin](), nil},
		{reflect.TypeFor[struct{ T time.Time }](), nil},
		{reflect.TypeFor[hidden](), []string{"hidden.secret"}},
		{reflect.TypeFor[*hidden](), []string{"hidden.secret"}},
		{reflect.TypeFor[[]hidden](), []string{"value[].secret"}},
		{reflect.TypeFor[untagged](), []string{"untagged.Secret"}},
		{reflect.TypeFor[cborSkips](), []string{"cborSkips.Secret"}},
		{reflect.TypeFor[withMeta](), []string{"withMeta.Meta.Cache[]"}},
		{reflect.TypeFor[deep](), []string{"deep.List[][].In[].secret"}},
		{reflect.TypeFor[any](), []string{"value"}},
		{reflect.TypeFor[error](), []string{"error"}},
		{reflect.TypeFor[struct {
			F func()
			C chan int
			X complex128
		}](), []string{"value.F", "value.C", "value.X"}},
		{reflect.TypeFor[sameName](), []string{"sameName.B"}},
		{reflect.TypeFor[shadows](), []string{"shadows.ID"}},
		{reflect.TypeFor[embedsPointer](), []string{"embedsPointer.inner"}},
		{reflect.TypeFor[embedsLossy](), []string{"embedsLossy.hidden.secret"}},
		{reflect.TypeFor[recursiveLossy](), []string{"recursiveLossy.f"}},
		{reflect.TypeFor[stamped](), []string{"stamped"}},
		{reflect.TypeFor[half](), []string{"half"}},
		{reflect.TypeFor[map[*int]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[time.Time]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[[2]struct{ P *int }]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[any]string](), []string{"value[key]"}},
		{reflect.TypeFor[map[mapKey]string](), nil},
		{reflect.TypeFor[map[netip.Addr]string](), nil},
	} {
		problems, _ := lossyFields(c.t, cborRules)
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

func TestLossyTypesAreRefusedUnlessAllowedOrOtherwiseEncoded(t *testing.T) {
	client := newClient(t, "127.0.0.1:1")
	for name, c := range map[string]struct {
		cfg Config[hidden]
		ok  bool
	}{
		"default codec":  {Config[hidden]{Client: client}, false},
		"CBOR by name":   {Config[hidden]{Client: client, Codec: CBOR[hidden]()}, false},
		"AllowLossy":     {Config[hidden]{Client: client, AllowLossy: true}, true},
		"codec of one's": {Config[hidden]{Client: client, Codec: hiddenCodec{}}, true},
	} {
		err := c.cfg.Validate()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "hidden.secret is unexported") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type hiddenCodec struct{}

func (hiddenCodec) Append(dst []byte, v hidden) ([]byte, error) {
	return append(dst, v.ID+"\x00"+v.secret...), nil
}

func (hiddenCodec) Decode(src []byte) (hidden, error) {
	id, secret, _ := strings.Cut(string(src), "\x00")
	return hidden{id, secret}, nil
}

// What the check lets through must come back: it knows the encoder's rules.
func TestWhatIsNotRefusedComesBack(t *testing.T) {
	if got := roundTrip(t, outer{inner{"x"}}); got.ID != "x" {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, embedsOK{&Inner{"x"}}); got.Name != "x" {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, dash{"x"}); got.ID != "x" {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, map[string]ownBin{"a": {7}}); got["a"].n != 7 {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, ownCBOR{7}); got.n != 7 {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, recursive{Child: []recursive{{}}}); len(got.Child) != 1 {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, map[float64]bool{1.5: true}); !got[1.5] {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, map[mapKey]bool{{1, 2}: true}); !got[mapKey{1, 2}] {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, map[[16]byte]bool{{1}: true}); !got[[16]byte{1}] {
		t.Errorf("%+v", got)
	}
	if got := roundTrip(t, map[netip.Addr]bool{netip.IPv6Loopback(): true}); !got[netip.IPv6Loopback()] {
		t.Errorf("%+v", got)
	}
	type name string
	if got := roundTrip(t, map[name][2]bool{"a": {true}}); !got["a"][0] {
		t.Errorf("%+v", got)
	}
}
