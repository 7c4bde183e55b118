package redistier

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// rules are what an encoding makes of Go types.
type rules struct {
	tags    []string              // tags of struct fields that it honours, the first one that is there
	methods []methodPair          // by which types encode themselves, the first ones that are there
	whole   map[reflect.Type]bool // types that it knows

	// json: keys of maps must be made strings, uintptr is a number, and methods
	// on pointers are called only where there is an address: not in maps.
	json bool
}

// methodPair is how a type encodes and decodes itself.
type methodPair struct {
	to, from         reflect.Type
	toName, fromName string
}

var cborRules = &rules{
	tags: []string{"cbor", "json"},
	methods: []methodPair{
		{cborMarshaler, reflect.TypeFor[cbor.Unmarshaler](), "MarshalCBOR", "UnmarshalCBOR"},
		{binaryMarshaler, reflect.TypeFor[encoding.BinaryUnmarshaler](), "MarshalBinary", "UnmarshalBinary"},
	},
	whole: map[reflect.Type]bool{
		reflect.TypeFor[time.Time]():        true,
		reflect.TypeFor[big.Int]():          true,
		reflect.TypeFor[cbor.RawMessage]():  true,
		reflect.TypeFor[cbor.ByteString]():  true,
		reflect.TypeFor[cbor.SimpleValue](): true,
	},
}

var textPair = methodPair{
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](), "MarshalText", "UnmarshalText",
}

var jsonRules = &rules{
	tags: []string{"json"},
	methods: []methodPair{
		{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](), "MarshalJSON", "UnmarshalJSON"},
		textPair,
	},
	json: true,
}

var (
	cborMarshaler   = reflect.TypeFor[cbor.Marshaler]()
	binaryMarshaler = reflect.TypeFor[encoding.BinaryMarshaler]()
)

// lossyFields returns what an encoding by r would lose of a value of type t,
// one error per place, each beginning with the field's path; and whether
// values of t may be nested without end.
//
// A field that is there on a hit of the local tier and gone on a hit of Redis
// is a trap that shows only in production, where there are two processes.
func lossyFields(t reflect.Type, r *rules) (problems []error, endless bool) {
	w := &lossWalk{rules: r, seen: make(map[place]walkState)}
	root := t
	for root.Kind() == reflect.Pointer && root.Name() == "" {
		root = root.Elem()
	}
	name := root.Name()
	if name == "" {
		name = "value"
	}
	w.walk(t, name, true)
	return w.problems, w.endless
}

type walkState uint8

const (
	walking walkState = iota + 1
	walked
)

// place is a type and whether its values have an address where they stand.
type place struct {
	t    reflect.Type
	addr bool
}

type lossWalk struct {
	*rules
	seen     map[place]walkState
	problems []error
	endless  bool
}

func (w *lossWalk) lose(path, why string) {
	w.problems = append(w.problems, fmt.Errorf("%s %s", path, why))
}

// walk looks at one type, once: a type that is reached by several paths is
// told of by the first.
func (w *lossWalk) walk(t reflect.Type, path string, addr bool) {
	at := place{t, addr || !w.json}
	switch w.seen[at] {
	case walking: // it contains itself
		w.endless = true
		return
	case walked:
		return
	}
	w.seen[at] = walking
	defer func() { w.seen[at] = walked }()

	if w.marshals(t, path, at.addr) {
		return
	}
	switch k := t.Kind(); k {
	case reflect.Pointer:
		w.walk(t.Elem(), path, true)
	case reflect.Slice:
		w.walk(t.Elem(), path+"[]", true)
	case reflect.Array:
		w.walk(t.Elem(), path+"[]", addr)
	case reflect.Map:
		w.walkKey(t.Key(), path+"[key]")
		w.walk(t.Elem(), path+"[]", false)
	case reflect.Struct:
		w.walkFields(t, path, addr, make(map[string]string), make(map[reflect.Type]bool))
	case reflect.Interface:
		w.endless = true
		w.lose(path, "is an interface: its concrete type is not kept")
	case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.Uintptr, reflect.UnsafePointer:
		if k == reflect.Uintptr && w.json {
			return
		}
		w.lose(path, "is a "+k.String()+", which cannot be encoded")
	}
}

// walkKey looks at the type of a map's keys: what is compared by address is
// another key after it was decoded.
func (w *lossWalk) walkKey(t reflect.Type, path string) {
	if byAddress(t) {
		w.lose(path, "is or holds a pointer: another key after decoding")
		return
	}
	if !w.json {
		w.walk(t, path, false)
		return
	}
	switch to, from := t.Implements(textPair.to), reflect.PointerTo(t).Implements(textPair.from); {
	case to && from:
		return
	case to != from:
		w.lose(path, "has only one of "+textPair.toName+" and "+textPair.fromName)
		return
	}
	if k := t.Kind(); k != reflect.String && (k < reflect.Int || k > reflect.Uintptr) {
		w.lose(path, "is a "+k.String()+", which cannot be the name of a JSON member")
	}
}

// byAddress reports whether equality of values of t looks at addresses. A
// time.Time has that of its location inside.
func byAddress(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[time.Time](), t.Kind() == reflect.Pointer:
		return true
	case reflect.PointerTo(t).Implements(cborMarshaler), reflect.PointerTo(t).Implements(binaryMarshaler):
		return false
	case t.Kind() == reflect.Array:
		return byAddress(t.Elem())
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			if byAddress(f.Type) {
				return true
			}
		}
	}
	return false
}

// walkFields looks at the fields of struct t and of the structs embedded in
// it, which share one set of names.
func (w *lossWalk) walkFields(t reflect.Type, path string, addr bool, names map[string]string, embedded map[reflect.Type]bool) {
	embedded[t] = true
	for f := range t.Fields() {
		at := path + "." + f.Name
		if f.Name == "_" || f.Type.Size() == 0 {
			continue // there is nothing in it to lose
		}
		tag := ""
		for _, name := range w.tags {
			if tag = f.Tag.Get(name); tag != "" {
				break
			}
		}
		if tag == "-" {
			w.lose(at, `is left out by its tag "-"`)
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if f.Anonymous && ft.Kind() == reflect.Struct && name == "" {
			switch {
			case !f.IsExported() && f.Type.Kind() == reflect.Pointer:
				w.lose(at, "is an embedded pointer to an unexported struct, which cannot be decoded")
			case embedded[ft]:
				w.lose(at, "embeds a struct a second time")
			default:
				w.walkFields(ft, at, addr || f.Type.Kind() == reflect.Pointer, names, embedded)
			}
			continue
		}
		if !f.IsExported() {
			w.lose(at, "is unexported")
			continue
		}
		if name == "" {
			name = f.Name
		}
		if other, taken := names[name]; taken {
			w.lose(at, fmt.Sprintf("is encoded as %q, like %s", name, other))
			continue
		}
		names[name] = at
		w.walk(f.Type, at, addr)
	}
}

// marshals reports whether t is encoded by methods of its own, and tells what
// is wrong with those.
func (w *lossWalk) marshals(t reflect.Type, path string, addr bool) bool {
	if w.whole[t] {
		return true
	}
	if k := t.Kind(); k == reflect.Pointer || k == reflect.Interface {
		return false
	}
	pt := reflect.PointerTo(t)
	for _, pair := range w.methods {
		to, from := pt.Implements(pair.to), pt.Implements(pair.from)
		switch {
		case !to && !from:
			continue
		case !to:
			w.lose(path, "has "+pair.fromName+" but no "+pair.toName)
		case !from:
			w.lose(path, "has "+pair.toName+" but no "+pair.fromName)
		case !addr && !t.Implements(pair.to):
			w.lose(path, "has "+pair.toName+" on its pointer, where it is not called for values of a map")
		default:
			if f, promoted := promotes(t, pair.to); promoted {
				// struct{ time.Time; Name string } marshals as its time alone.
				w.lose(path, "may have its "+pair.toName+" from the embedded "+f+", which knows nothing of the other fields")
			}
		}
		return true
	}
	return false
}

// promotes reports whether struct t, of more than one field, embeds a field
// that implements marshaler: the method may then be the field's.
func promotes(t, marshaler reflect.Type) (field string, promoted bool) {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return "", false
	}
	for f := range t.Fields() {
		if f.Anonymous && (f.Type.Implements(marshaler) || reflect.PointerTo(f.Type).Implements(marshaler)) {
			return f.Name, true
		}
	}
	return "", false
}

// deeperThan reports whether v nests more than levels structs, maps, slices
// and arrays inside each other; a value that contains itself does.
func deeperThan(v reflect.Value, levels int) bool {
	for hops := 0; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; hops++ {
		if v.IsNil() {
			return false
		}
		if hops > maxDepth {
			return true // a pointer that points to itself
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		if levels == 0 {
			return true
		}
	default:
		return false
	}
	switch v.Kind() {
	case reflect.Struct:
		for f, fv := range v.Fields() {
			if (f.IsExported() || f.Anonymous) && deeperThan(fv, levels-1) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if deeperThan(it.Value(), levels-1) {
				return true
			}
		}
	default:
		if flat(v.Type().Elem().Kind()) {
			return false
		}
		for i := range v.Len() {
			if deeperThan(v.Index(i), levels-1) {
				return true
			}
		}
	}
	return false
}

// flat reports whether a value of kind k holds no other values.
func flat(k reflect.Kind) bool { return k <= reflect.Complex128 || k == reflect.String }
