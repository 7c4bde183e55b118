package redistier

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// JSON returns a codec that writes what other languages read: RFC 8259 through
// encoding/json, by its rules, with "<", ">" and "&" as they are. It takes
// more room and time than CBOR.
//
// A time.Time keeps its instant to the nanosecond and its offset from UTC, not
// the name of its zone. A []byte becomes base64. Bytes of a string that are no
// UTF-8 come back as U+FFFD: keep such text in a []byte. NaN and the
// infinities cannot be stored.
//
// What would get lost on the way (see Config.AllowLossy) is refused when the
// cache is made. Values of types that may contain themselves are stored up to
// 1000 deep.
func JSON[V any]() Codec[V] {
	t := reflect.TypeFor[V]()
	problems, endless := lossyFields(t, jsonRules)
	return &jsonCodec[V]{loss: lossOf("JSON", t, problems), endless: endless}
}

type jsonCodec[V any] struct {
	loss    error
	endless bool // as in cborCodec
}

func (*jsonCodec[V]) number() byte   { return codecJSON }
func (c *jsonCodec[V]) lossy() error { return c.loss }

func (c *jsonCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	// encoding/json notices values that contain themselves, but writes deeper
	// ones than it reads.
	if c.endless && deeperThan(reflect.ValueOf(&v), maxDepth) {
		return dst, errTooDeep
	}
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	// By pointer: methods on pointers are called only where there is an address.
	if err := enc.Encode(&v); err != nil {
		return dst, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

func (c *jsonCodec[V]) Decode(src []byte) (V, error) {
	var v V
	err := c.decodeInto(src, &v)
	return v, err
}

// decodeInto is bounded by the size of src, and in depth by encoding/json, at
// 10,000.
func (*jsonCodec[V]) decodeInto(src []byte, v *V) error { return json.Unmarshal(src, v) }
