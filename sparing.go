package dewar

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// sparing lets a log line that may repeat through once a second, and counts
// the others.
type sparing struct {
	last   atomic.Int64 // on Clock; 0: never
	unsaid atomic.Int64 // since then
}

// may reports whether to log now, and how many lines were left out before.
func (s *sparing) may() (unsaid int64, yes bool) {
	last, now := s.last.Load(), Clock()
	if last != 0 && now-last < int64(time.Second) || !s.last.CompareAndSwap(last, now) {
		s.unsaid.Add(1)
		return 0, false
	}
	return s.unsaid.Swap(0), true
}

// KeyLogging says how keys stand in log lines. They are personal data more
// often than not.
type KeyLogging uint8

const (
	KeysQuoted KeyLogging = iota // quoted, and cut to 64 bytes

	// KeysHashed is the same hash for the same key in every process. Of a
	// KeyError or BatchError only the reason is logged then. What other errors
	// say is the loader's own.
	KeysHashed
)

// loggedKey is how long a key may be in a log line.
const loggedKey = 64

// of is key as a log line has it.
func (l KeyLogging) of(key string) string {
	if l == KeysHashed {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key))
		return fmt.Sprintf("%016x", h.Sum64())
	}
	if len(key) > loggedKey {
		end := loggedKey
		for end > loggedKey-utf8.UTFMax && !utf8.RuneStart(key[end]) {
			end--
		}
		return strconv.Quote(key[:end]) + "..."
	}
	return strconv.Quote(key)
}

// error is err as a log line has it.
func (l KeyLogging) error(err error) any {
	var named interface{ withoutKey() string }
	if l == KeysHashed && errors.As(err, &named) {
		return named.withoutKey()
	}
	return err
}
