// Package tape is the ids that the readers of the example programs ask for.
package tape

import (
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// A generated tape has the shape of a recorded one of a product page: with
// [Ranks] of them, 95,607 accesses of some 13,700 ids, the most popular with one
// access in a hundred, most with two or three in all. P(rank) ~ 1/(20+rank)^1.1.
const (
	Ranks = 20_000

	zipfAccesses = 95_607
	zipfExponent = 1.1
	zipfOffset   = 20
)

// maxTape bounds a recorded tape, in accesses.
const maxTape = 64 << 20

// Tape is a sequence of accesses, to be played in a loop.
type Tape struct {
	Name    string
	Keys    []uint32
	Popular []uint32 // the distinct keys, those with the most accesses first
}

// Open reads a recorded trace, or makes a tape when there is none.
func Open(path string, seed uint64) (*Tape, error) {
	if path == "" {
		return Zipf(seed, Ranks), nil
	}
	keys, err := readTrace(path)
	if err != nil {
		return nil, fmt.Errorf("-trace %s: %w", path, err)
	}
	return New(filepath.Base(path), keys), nil
}

// New makes a tape of accesses.
func New(name string, keys []uint32) *Tape {
	accesses := make(map[uint32]int)
	for _, k := range keys {
		accesses[k]++
	}
	popular := slices.SortedFunc(maps.Keys(accesses), func(a, b uint32) int {
		return cmp.Or(cmp.Compare(accesses[b], accesses[a]), cmp.Compare(a, b))
	})
	return &Tape{Name: name, Keys: keys, Popular: popular}
}

func readTrace(path string) ([]uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err // the path is in the message already
		}
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("not a gzip file: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, 4*maxTape+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the file is cut off")
	case err != nil:
		return nil, fmt.Errorf("the file is damaged: %w", err)
	case len(raw) > 4*maxTape:
		return nil, fmt.Errorf("more than %d accesses", maxTape)
	case len(raw) == 0:
		return nil, errors.New("the trace is empty")
	case len(raw)%4 != 0:
		return nil, fmt.Errorf("the trace is cut off: %d bytes are no whole number of 32-bit keys", len(raw))
	}
	keys := make([]uint32, len(raw)/4)
	for i := range keys {
		keys[i] = binary.BigEndian.Uint32(raw[4*i:])
	}
	return keys, nil
}

// Zipf makes a tape of keys below ranks, the lower the more often.
func Zipf(seed uint64, ranks int) *Tape {
	z := rand.NewZipf(rand.New(rand.NewPCG(seed, 1)), zipfExponent, zipfOffset, uint64(ranks-1))
	keys := make([]uint32, zipfAccesses)
	for i := range keys {
		keys[i] = uint32(z.Uint64())
	}
	return New("Zipf generator", keys)
}
