package redistier

import "errors"

// Bytes returns the codec of values that are bytes already: they are stored as
// they are. Decoded values are copies. Nil comes back as an empty slice.
func Bytes() Codec[[]byte] { return bytesCodec{} }

type bytesCodec struct{}

func (bytesCodec) number() byte { return codecBytes }
func (bytesCodec) lossy() error { return nil }

func (bytesCodec) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (bytesCodec) Decode(src []byte) ([]byte, error)    { return append([]byte{}, src...), nil }

// String returns the codec of values that are strings of any bytes: they are
// stored as they are.
func String() Codec[string] { return stringCodec{} }

type stringCodec struct{}

func (stringCodec) number() byte { return codecString }
func (stringCodec) lossy() error { return nil }

func (stringCodec) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (stringCodec) Decode(src []byte) (string, error)           { return string(src), nil }

// CodecFunc makes a codec of two functions, which keep what Codec says of its
// methods. For protobuf:
//
//	redistier.CodecFunc(
//		func(dst []byte, v *pb.Video) ([]byte, error) { return proto.MarshalOptions{}.MarshalAppend(dst, v) },
//		func(src []byte) (*pb.Video, error) { v := new(pb.Video); return v, proto.Unmarshal(src, v) },
//	)
//
// Envelopes do not tell codecs of one's own apart: to change to another one
// needs a new dewar.Config.Schema.
func CodecFunc[V any](append func([]byte, V) ([]byte, error), decode func([]byte) (V, error)) Codec[V] {
	return codecFunc[V]{append, decode}
}

type codecFunc[V any] struct {
	append func([]byte, V) ([]byte, error)
	decode func([]byte) (V, error)
}

// missing is asked by Config.Validate.
func (c codecFunc[V]) missing() error {
	if c.append == nil || c.decode == nil {
		return errors.New("redistier: Codec is a CodecFunc without a function; it needs both append and decode")
	}
	return nil
}

func (c codecFunc[V]) Append(dst []byte, v V) ([]byte, error) { return c.append(dst, v) }
func (c codecFunc[V]) Decode(src []byte) (V, error)           { return c.decode(src) }
