package redistier

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// compressor makes payloads smaller by zstd, and as large again as they were.
//
// Its coders belong to one tier, not to the package: they have channels
// inside, and a tier that was opened in a testing/synctest bubble must not
// leave any to tiers outside of it. None of them has goroutines.
type compressor struct {
	over     int       // payloads of more bytes are compressed; 0: none is
	encoders sync.Pool // of *zstd.Encoder
	decoders sync.Pool // of *zstd.Decoder
}

// compressWindow bounds how far back the encoder looks, and so its memory.
const compressWindow = 1 << 20

func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), // the envelope has one
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(compressWindow),
		zstd.WithSingleSegment(true), // small frames too say how large they are
	)
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxRead),
		zstd.WithDecodeAllCapLimit(true), // nothing beyond what grow gives it
		zstd.WithDecoderMaxWindow(maxRead),
	)
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}

// shrink compresses out[body:], if it is large enough and gets smaller by it,
// and reports whether it did.
func (c *compressor) shrink(out []byte, body int) ([]byte, bool) {
	end := len(out)
	if c.over == 0 || end-body <= c.over {
		return out, false
	}
	enc, ok := c.encoders.Get().(*zstd.Encoder)
	if !ok {
		enc = newEncoder()
	}
	defer c.encoders.Put(enc)
	out = enc.EncodeAll(out[body:], out) // behind the payload
	small := out[end:]
	if len(small) >= end-body {
		return out[:end], false
	}
	return out[:body+copy(out[body:], small)], true
}

// mostGrowth is how many bytes one byte of zstd can stand for: a block has at
// least 4 and at most 128 KiB in it.
const mostGrowth = 128 << 10 / 4

var errFrame = errors.New("not one frame of zstd that says how large its content is")

// grow returns what shrink had made payload of, in dst if it has room. The
// frame must say how large its content is, as ours do: what would be larger
// than anything we read, or cannot be true, is refused before room is made for
// it, and a lie is found out when there is no more room.
func (c *compressor) grow(dst, payload []byte) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(payload); err != nil {
		return nil, err
	}
	size := head.FrameContentSize
	if head.Skippable || !head.HasFCS || size > uint64(len(payload))*mostGrowth {
		return nil, errFrame
	}
	if size > maxRead {
		return nil, fmt.Errorf("%d bytes decompressed are more than %d", size, maxRead)
	}
	dec, ok := c.decoders.Get().(*zstd.Decoder)
	if !ok {
		dec = newDecoder()
	}
	dst = slices.Grow(dst[:0], int(size))
	plain, err := dec.DecodeAll(payload, dst[:0:size])
	c.decoders.Put(dec)
	if err != nil {
		return nil, err
	}
	if uint64(len(plain)) != size {
		return nil, errFrame
	}
	return dst[:size], nil
}
