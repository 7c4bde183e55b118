package redistier

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// Codec turns values into bytes and back. Both methods are called
// concurrently. A change of what Append writes needs a new Config.Schema.
type Codec[V any] interface {
	// Append appends the encoding of v to dst and returns the longer slice. On
	// an error nothing is stored for the value.
	Append(dst []byte, v V) ([]byte, error)

	// Decode returns the value that src encodes. It must not keep src, nor
	// change it. On an error the entry is a miss and is deleted.
	Decode(src []byte) (V, error)
}

// Bounds of a decoded value: an encoded one that breaks them is refused
// before anything is built of it.
const (
	maxDepth    = 1000    // arrays, maps and tags inside each other
	maxElements = 1 << 20 // of one array, or pairs of one map
)

// codecs by the number that the envelope carries. They are never changed.
const (
	codecOwn    = 0 // the user's own, CodecFunc's included: what it is, Schema says
	codecCBOR   = 1
	codecJSON   = 2
	codecBytes  = 3
	codecString = 4
)

// numbered is what our own codecs are in addition.
type numbered interface {
	number() byte
	lossy() error // what of the type would get lost, or nil
}

// CBOR returns the default codec: RFC 8949 through github.com/fxamacker/cbor,
// by the rules of struct fields that encoding/json has, json tags included.
//
// A time.Time keeps its instant to the nanosecond and its offset from UTC, not
// the name of its zone. Strings may hold any bytes. Nil and empty slices, maps
// and pointers are told apart. Types with MarshalCBOR and UnmarshalCBOR, or
// MarshalBinary and UnmarshalBinary, are encoded by them; MarshalJSON and
// MarshalText are not used.
//
// What would get lost on the way (see Config.AllowLossy) is refused when the
// cache is made. Values nested more than 1000 deep, and slices or maps of more
// than 1,048,576 elements, cannot be stored.
func CBOR[V any]() Codec[V] {
	t := reflect.TypeFor[V]()
	problems, endless := lossyFields(t, cborRules)
	return &cborCodec[V]{loss: lossOf("CBOR", t, problems), endless: endless}
}

// lossOf is the error of a type that the codec of the given name does not
// keep, nil if there are no problems.
func lossOf(name string, t reflect.Type, problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("the %[1]s codec would lose data of %[2]v: %[3]w; give them exported fields or a Marshal%[1]s/Unmarshal%[1]s, use a Codec of your own, or set AllowLossy",
		name, t, errors.Join(problems...))
}

// inPlace is a codec that spares the copies of a returned value.
type inPlace[V any] interface {
	// decodeInto decodes src into *v, which is zero; on an error *v may be
	// anything.
	decodeInto(src []byte, v *V) error
}

type cborCodec[V any] struct {
	loss    error
	endless bool // the type contains itself or an interface: values may be nested without end
}

func (*cborCodec[V]) number() byte   { return codecCBOR }
func (c *cborCodec[V]) lossy() error { return c.loss }

var errTooDeep = fmt.Errorf("value is nested more than %d deep or contains itself", maxDepth)

func (c *cborCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	// The encoder follows pointers without a bound: a value that contains
	// itself would end in a stack overflow, which kills the process.
	if c.endless && deeperThan(reflect.ValueOf(&v), maxDepth) {
		return dst, errTooDeep
	}
	buf := bytes.NewBuffer(dst)
	if err := cborEncoder.MarshalToBuffer(v, buf); err != nil {
		return dst, err
	}
	return buf.Bytes(), nil
}

func (c *cborCodec[V]) Decode(src []byte) (V, error) {
	var v V
	err := c.decodeInto(src, &v)
	return v, err
}

func (*cborCodec[V]) decodeInto(src []byte, v *V) error { return cborDecoder.Unmarshal(src, v) }

var cborEncoder = func() cbor.UserBufferEncMode {
	mode, err := cbor.EncOptions{
		Time:       cbor.TimeRFC3339Nano,
		NaNConvert: cbor.NaNConvertNone,
		InfConvert: cbor.InfConvertNone,
	}.UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

var cborDecoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels:  maxDepth,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,
		UTF8:             cbor.UTF8DecodeInvalid,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()
