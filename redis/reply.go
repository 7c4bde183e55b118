package redistier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// rawReply takes the reply to an MGET as it comes and cuts it up: one buffer,
// used again and again, where go-redis's own reading allocates twice for every
// value. That pays for the envelopes (BenchmarkRead100).
type rawReply struct{ buf []byte }

var replies = sync.Pool{New: func() any { return new(rawReply) }}

// put gives the buffer back, unless it is too large to be worth keeping.
func (r *rawReply) put() {
	if cap(r.buf) <= maxPooled {
		r.buf = r.buf[:0]
		replies.Put(r)
	}
}

// Write implements io.Writer for what stands between the values.
func (r *rawReply) Write(p []byte) (int, error) {
	r.buf = append(r.buf, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom for the values, whose size go-redis says
// by an io.LimitedReader: they are read into place.
func (r *rawReply) ReadFrom(src io.Reader) (int64, error) {
	value, ok := src.(*io.LimitedReader)
	if !ok {
		buf, err := io.ReadAll(src)
		r.buf = append(r.buf, buf...)
		return int64(len(buf)), err
	}
	// A size that is a lie is paid for as it is found out: 1 MiB at a time.
	var total int64
	for value.N > 0 {
		start, step := len(r.buf), int(min(value.N, 1<<20))
		r.buf = slices.Grow(r.buf, step)[:start+step]
		n, err := io.ReadFull(value.R, r.buf[start:])
		total, value.N = total+int64(n), value.N-int64(n)
		if err != nil {
			r.buf = r.buf[:start+n]
			return total, err
		}
	}
	return total, nil
}

// errorReply is an error that Redis answered.
type errorReply string

func (e errorReply) Error() string { return string(e) }

// RedisError makes errorReply a redis.Error.
func (errorReply) RedisError() {}

var _ redis.Error = errorReply("")

// refusal returns the error that Redis answered, if that is what it did.
func (r *rawReply) refusal() error {
	if line, _, ok := cutLine(r.buf); ok && line[0] == '-' {
		return errorReply(line[1:])
	}
	return nil
}

// cut calls each for the values of the reply to an MGET of n keys, in RESP 2
// or 3, with views of the buffer; absent ones are redis.Nil. It returns an
// error, before the first call, if the reply is not that.
func (r *rawReply) cut(n int, each func(i int, raw string, err error)) error {
	if err := checkReply(r.buf, n); err != nil {
		return err
	}
	_, rest, _ := cutLine(r.buf)
	for i := range n {
		line, tail, _ := cutLine(rest)
		size := bulkSize(line)
		if size < 0 {
			rest = tail
			each(i, "", redis.Nil)
			continue
		}
		rest = tail[size+2:]
		each(i, asString(tail[:size]), nil)
	}
	return nil
}

// checkReply returns nil if raw is an array of n strings and nulls.
func checkReply(raw []byte, n int) error {
	line, rest, ok := cutLine(raw)
	switch {
	case !ok:
		return errors.New("unexpected reply")
	case line[0] == '-':
		return errorReply(line[1:])
	case line[0] != '*':
		return fmt.Errorf("unexpected reply %.40q", line)
	}
	if got, err := strconv.Atoi(asString(line[1:])); err != nil || got != n {
		return fmt.Errorf("unexpected reply %.40q to %d keys", line, n)
	}
	for range n {
		line, tail, ok := cutLine(rest)
		if !ok {
			return errors.New("reply ends early")
		}
		size := bulkSize(line)
		switch {
		case size == absentBulk:
			rest = tail
		case size == notBulk, size > len(tail)-2:
			return fmt.Errorf("unexpected reply %.40q", line)
		default:
			rest = tail[size+2:]
		}
	}
	if len(rest) > 0 {
		return errors.New("reply goes on after its end")
	}
	return nil
}

// cutLine cuts raw after its first line.
func cutLine(raw []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(raw, '\n')
	if end < 2 || raw[end-1] != '\r' {
		return nil, nil, false
	}
	return raw[:end-1], raw[end+1:], true
}

const (
	absentBulk = -1
	notBulk    = -2
)

// bulkSize returns the size of the string that line announces.
func bulkSize(line []byte) int {
	switch line[0] {
	case '_': // RESP 3's null
		return absentBulk
	case '$':
		if size, err := strconv.Atoi(asString(line[1:])); err == nil && size >= absentBulk {
			return size
		}
	}
	return notBulk
}
