package dewar

import "container/heap"

// ranking is a bounded number of keys, each with what it is ranked by; the
// lowest is first, to make room.
type ranking struct {
	room  int
	byKey map[string]*ranked
	heap  rankHeap
}

type ranked struct {
	key string
	by  int64
	at  int // its place in the heap

	over  int64 // how much of by may be another's, whose place it got; not for every ranking
	until int64 // of no interest any more from then on, on Clock; not for every ranking
}

func newRanking(room int) ranking {
	return ranking{room: room, byKey: make(map[string]*ranked)}
}

func (r *ranking) full() bool     { return len(r.heap) >= r.room }
func (r *ranking) first() *ranked { return r.heap[0] }

func (r *ranking) add(key string, by int64) *ranked {
	added := &ranked{key: key, by: by}
	r.byKey[key] = added
	heap.Push(&r.heap, added)
	return added
}

func (r *ranking) rank(known *ranked, by int64) {
	known.by = by
	heap.Fix(&r.heap, known.at)
}

// replace gives another key the place of one.
func (r *ranking) replace(old *ranked, key string, by int64) {
	delete(r.byKey, old.key)
	old.key = key
	r.byKey[key] = old
	r.rank(old, by)
}

func (r *ranking) remove(known *ranked) {
	delete(r.byKey, known.key)
	heap.Remove(&r.heap, known.at)
}

type rankHeap []*ranked

func (h rankHeap) Len() int           { return len(h) }
func (h rankHeap) Less(i, j int) bool { return h[i].by < h[j].by }
func (h rankHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *rankHeap) Push(x any) {
	r := x.(*ranked)
	r.at = len(*h)
	*h = append(*h, r)
}

func (h *rankHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}
