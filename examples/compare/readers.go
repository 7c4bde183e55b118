package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/dewarcache/dewar/examples/internal/tape"
)

// One request in ten is a page, which brings this many ids; the others are
// players, which bring one.
const (
	pageShare = 10
	pageMin   = 20
	pageMax   = 50
)

// The ad break: everybody asks for these few, and one more is new to all.
const (
	adIDs      = 8
	premiereID = "premiere"
	herdSize   = 1000
)

func videoID(key uint32) string { return fmt.Sprintf("video-%08x", key) }

// topVideos returns the n ids that are asked for most.
func topVideos(t *tape.Tape, n int) []string {
	var ids []string
	for _, key := range t.Popular[:min(n, len(t.Popular))] {
		ids = append(ids, videoID(key))
	}
	return ids
}

func adID(n int) string { return fmt.Sprintf("ad-%d", n) }

// readers makes up the requests of one system. Two readers of one tape and one
// seed make the same requests, so that the systems can be compared.
type readers struct {
	tape   *tape.Tape
	random *rand.Rand
	names  map[uint32]string // ids made so far: the tape comes round many times

	at     int // accesses played in all
	replay int // accesses played again
}

func newReaders(t *tape.Tape, seed uint64) *readers {
	return &readers{tape: t, random: rand.New(rand.NewPCG(seed, 2)), names: make(map[uint32]string)}
}

// next returns the ids of the next request: several are a page.
func (r *readers) next(a *act) []string {
	page := r.random.IntN(pageShare) == 0
	if a.ads > 0 && r.random.IntN(100) < a.ads {
		if !page {
			return []string{adID(r.random.IntN(adIDs))}
		}
		ids := make([]string, adIDs)
		for i := range ids {
			ids[i] = adID(i)
		}
		return ids
	}
	if !page {
		return []string{r.id(a.known)}
	}
	n := pageMin + r.random.IntN(pageMax-pageMin+1)
	ids := make([]string, 0, n)
	for range n {
		if id := r.id(a.known); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// id is the next access of the tape or, when it must be known, the next one
// of those that were played before.
func (r *readers) id(known bool) string {
	at := &r.at
	if known && r.at < len(r.tape.Keys) {
		if r.replay++; r.replay >= r.at {
			r.replay = 0
		}
		at = &r.replay
	}
	key := r.tape.Keys[*at%len(r.tape.Keys)]
	if at == &r.at {
		r.at++
	}
	name, ok := r.names[key]
	if !ok {
		name = videoID(key)
		r.names[key] = name
	}
	return name
}
