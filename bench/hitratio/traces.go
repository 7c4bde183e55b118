package main

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// trace is a run of accesses. Keys are numbered from 0, so that replaying one
// costs no formatting.
type trace struct {
	name     string
	keys     []string // by number
	accesses []int32  // numbers of keys
}

// recorded are the traces looked for in the data folder.
var recorded = []string{"web12", "orm-busy"}

// dataDir is where the recorded traces are, from this folder or from the
// module's, or where DEWAR_TRACES says.
func dataDir() string {
	if dir := os.Getenv("DEWAR_TRACES"); dir != "" {
		return dir
	}
	for _, dir := range []string{"../../../shared/data", "../../shared/data"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "*.trace.gz")); len(found) > 0 {
			return dir
		}
	}
	return ""
}

// readTrace reads gzip of big-endian 32-bit keys, at most limit of them; 0
// reads all.
func readTrace(name string, limit int) (*trace, error) {
	dir := dataDir()
	if dir == "" {
		return nil, fmt.Errorf("no folder of recorded traces (set DEWAR_TRACES): %w", os.ErrNotExist)
	}
	f, err := os.Open(filepath.Join(dir, name+".trace.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var source io.Reader = z
	if limit > 0 {
		source = io.LimitReader(z, 4*int64(limit))
	}
	raw, err := io.ReadAll(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(raw)%4 != 0 {
		return nil, errors.New(name + ": cut short")
	}
	t := &trace{name: name}
	numbers := map[uint32]int32{}
	for i := 0; i < len(raw); i += 4 {
		t.access(numbers, binary.BigEndian.Uint32(raw[i:]))
	}
	return t, nil
}

func (t *trace) access(numbers map[uint32]int32, key uint32) {
	n, ok := numbers[key]
	if !ok {
		n = int32(len(t.keys))
		numbers[key] = n
		t.keys = append(t.keys, fmt.Sprintf("object:%016x", key))
	}
	t.accesses = append(t.accesses, n)
}

// zipf draws accesses of keys whose popularity falls as rank^-s, in an order
// that is the same every time.
func zipf(s float64, keys, accesses int) *trace {
	sums := make([]float64, keys)
	sum := 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -s)
		sums[i] = sum
	}
	random := rand.New(rand.NewPCG(1, 2))
	t := &trace{name: strings.TrimRight(fmt.Sprintf("zipf %.2f", s), "0")}
	numbers := map[uint32]int32{}
	for range accesses {
		t.access(numbers, uint32(sort.SearchFloat64s(sums, random.Float64()*sum)))
	}
	return t
}

// optimum returns the hit ratio of a cache that knows the future (Belady).
func (t *trace) optimum(capacity int) float64 {
	const never = math.MaxInt32
	next := make([]int32, len(t.accesses))
	last := slices.Repeat([]int32{never}, len(t.keys))
	for i := len(t.accesses) - 1; i >= 0; i-- {
		next[i] = last[t.accesses[i]]
		last[t.accesses[i]] = int32(i)
	}
	// held[k] is when k is next needed, or 0. far holds (next, key), the
	// furthest on top; a pair that held does not confirm is outdated.
	held := make([]int32, len(t.keys))
	var far farthest
	hits, count := 0, 0
	for i, k := range t.accesses {
		if held[k] != 0 {
			hits++
			count--
		}
		held[k] = next[i]
		far.push(pair{next[i], k})
		for count++; count > capacity; {
			p := far.pop()
			if held[p.key] == p.next {
				held[p.key] = 0
				count--
			}
		}
	}
	return float64(hits) / float64(len(t.accesses))
}

type pair struct{ next, key int32 }

// farthest is a heap of pairs with the largest next on top.
type farthest []pair

func (f *farthest) push(p pair) {
	*f = append(*f, p)
	h := *f
	for i := len(h) - 1; i > 0 && h[(i-1)/2].next < h[i].next; i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (f *farthest) pop() pair {
	h := *f
	top := h[0]
	h[0] = h[len(h)-1]
	h = h[:len(h)-1]
	*f = h
	for i := 0; ; {
		big := 2*i + 1
		if big >= len(h) {
			return top
		}
		if big+1 < len(h) && h[big+1].next > h[big].next {
			big++
		}
		if h[i].next >= h[big].next {
			return top
		}
		h[i], h[big] = h[big], h[i]
		i = big
	}
}
