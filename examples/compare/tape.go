package main

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

// The generated tape has the shape of a recorded one of a product page: 95,607
// accesses of some 13,700 ids, the most popular with one access in a hundred,
// most with two or three in all. P(rank) ~ 1/(20+rank)^1.1.
const (
	zipfAccesses = 95_607
	zipfExponent = 1.1
	zipfOffset   = 20
	zipfRanks    = 20_000
)

// maxTape bounds a recorded tape, in accesses.
const maxTape = 64 << 20

// tape is a sequence of accesses, played in a loop.
type tape struct {
	name string
	keys []uint32
	ids  int // distinct keys

	popular []uint32 // the distinct keys, those with the most accesses first
}

// top returns the n ids that are asked for most.
func (t *tape) top(n int) []string {
	var ids []string
	for _, key := range t.popular[:min(n, len(t.popular))] {
		ids = append(ids, videoID(key))
	}
	return ids
}

// openTape reads a recorded trace, or makes a tape when there is none.
func openTape(path string, seed uint64) (*tape, error) {
	if path == "" {
		return zipfTape(seed), nil
	}
	keys, err := readTrace(path)
	if err != nil {
		return nil, fmt.Errorf("-trace %s: %w", path, err)
	}
	return newTape(filepath.Base(path), keys), nil
}

func newTape(name string, keys []uint32) *tape {
	accesses := make(map[uint32]int)
	for _, k := range keys {
		accesses[k]++
	}
	popular := slices.SortedFunc(maps.Keys(accesses), func(a, b uint32) int {
		return cmp.Or(cmp.Compare(accesses[b], accesses[a]), cmp.Compare(a, b))
	})
	return &tape{name: name, keys: keys, ids: len(popular), popular: popular}
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

func zipfTape(seed uint64) *tape {
	z := rand.NewZipf(rand.New(rand.NewPCG(seed, 1)), zipfExponent, zipfOffset, zipfRanks-1)
	keys := make([]uint32, zipfAccesses)
	for i := range keys {
		keys[i] = uint32(z.Uint64())
	}
	return newTape("Zipf generator", keys)
}
