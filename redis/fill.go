package redistier

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

const (
	// maxPipeline is how many bytes of values go into one pipeline, about.
	maxPipeline = 4 << 20
	// maxPooled is the largest buffer that is kept for the next fill.
	maxPooled = 1 << 20
)

// buffers holds *[]byte into which fills are encoded, and what is read is
// unpacked. go-redis has copied what it was given when a command or pipeline
// ends, and codecs keep nothing.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// putBuffer gives b back, unless it is too large to be worth keeping.
func putBuffer(b *[]byte) {
	if cap(*b) > maxPooled {
		*b = nil
	}
	buffers.Put(b)
}

// Fill implements dewar.RemoteTier. A fill that is dead already deletes what
// its fence names and is not an error.
func (t *tier[V]) Fill(ctx context.Context, fills []dewar.Fill[V]) {
	for len(fills) > 0 {
		n, err := t.fill(ctx, fills)
		fills = fills[n:]
		if err != nil {
			for i := range fills {
				fills[i].Err = err
			}
			return
		}
	}
}

// fill writes the first n of fills, as many as go into one pipeline. The
// error is not nil when none of them could be sent or answered.
func (t *tier[V]) fill(ctx context.Context, fills []dewar.Fill[V]) (n int, err error) {
	if err := t.barred(ctx); err != nil { // before encoding for nothing
		return 0, err
	}
	pooled := buffers.Get().(*[]byte)
	buf := (*pooled)[:0]
	defer func() {
		*pooled = buf
		putBuffer(pooled)
	}()

	ks, now := t.keys.Load(), t.clock.read(ctx)
	swaps := make([]swap, 0, min(len(fills), maxBatch))
	ends := make([]int, 0, cap(swaps)) // of each swap's value in buf, which moves while it grows
	owner := make([]int, 0, cap(swaps))
	for n < len(fills) && len(swaps) < maxBatch && len(buf) < maxPipeline {
		f := &fills[n]
		n++
		f.Err = nil
		if f.Fence == (dewar.Fence{}) {
			t.refused.Add(1)
			f.Err = dewar.ErrFenced
			continue
		}
		s := swap{dk: ks.redisKey(f.Key), seen: asString(f.Fence[:])}
		if f.Dead > now.mono {
			s.px = millis(time.Duration(f.Dead - now.mono))
			if buf, f.Err = t.encode(ks, buf, f, ks.hashed(s.dk), now); f.Err != nil {
				continue
			}
		}
		swaps, ends, owner = append(swaps, s), append(ends, len(buf)), append(owner, n-1)
	}
	if len(swaps) == 0 {
		return n, nil
	}
	start := 0
	for k := range swaps {
		swaps[k].put = asString(buf[start:ends[k]])
		start = ends[k]
	}
	return n, t.settle(ctx, fills, swaps, owner)
}

// settle carries out swaps, of which number k belongs to fills[owner[k]], and
// sets the errors. It returns an error when all of them failed.
func (t *tier[V]) settle(ctx context.Context, fills []dewar.Fill[V], swaps []swap, owner []int) error {
	t.swap(ctx, swaps)
	failures, last := 0, error(nil)
	for k := range swaps {
		f := &fills[owner[k]]
		switch s := &swaps[k]; {
		case s.err != nil:
			f.Err = s.err
			failures, last = failures+1, s.err
		case s.done:
			f.Err = nil
		default:
			t.refused.Add(1)
			f.Err = dewar.ErrFenced
		}
	}
	if failures == len(swaps) {
		return last
	}
	return nil
}

// encode appends the envelope of f to dst. On an error, which is
// dewar.ErrUnencodable, it returns dst.
func (t *tier[V]) encode(ks *keyspace, dst []byte, f *dewar.Fill[V], hashed bool, now clocks) ([]byte, error) {
	env := envelope{
		fence:  newFence(kindValue),
		loaded: now.toUnix(f.Entry.Loaded),
		fresh:  now.toUnix(f.Entry.Fresh),
		dead:   now.toUnix(f.Dead),
		took:   int64(f.Took),
		codec:  t.codecNumber,
	}
	if f.Entry.Negative() {
		env.fence, env.codec = newFence(kindNegative), codecOwn
	}
	if hashed && len(f.Key) > maxRead/2-headSize-sealOverhead {
		return dst, fmt.Errorf("%w: its key has %d bytes", dewar.ErrUnencodable, len(f.Key))
	}
	out := openEnvelope(dst, &env, f.Key, hashed)
	body := len(out)
	if !f.Entry.Negative() {
		var err error
		if out, err = t.appendValue(out, f.Entry.Value); err != nil {
			return dst, fmt.Errorf("%w: %w", dewar.ErrUnencodable, err)
		}
		if len(out) < body {
			return dst, fmt.Errorf("%w: the codec did not append", dewar.ErrUnencodable)
		}
		if size := len(out) - body; size > t.maxValue {
			return dst, fmt.Errorf("%w: %d bytes are more than MaxValue, %d", dewar.ErrUnencodable, size, t.maxValue)
		}
		var shrunk bool
		if out, shrunk = t.zip.shrink(out, body); shrunk {
			out[len(dst)+flagsOffset] |= flagCompressed
		}
	}
	if t.seal != nil {
		out = t.seal.seal(*ks, out, len(dst), body, f.Key)
	}
	ks.closeEnvelope(out[len(dst):], f.Key)
	return out, nil
}

// appendValue guards against codecs that panic: fills run in the background,
// where nobody could recover.
func (t *tier[V]) appendValue(dst []byte, v V) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("codec panicked: %v", r)
		}
	}()
	return t.codec.Append(dst, v)
}
