package redistier

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// access says which of a node's breakers commands go through.
type access bool

const (
	reading access = false
	writing access = true
)

func (n *node) breaker(to access) *breaker {
	if to == writing {
		return n.writes
	}
	return n.reads
}

// carry carries out cmds in one round trip per node, past the breakers. The
// same number of them, one after the other, is about each of dks. With a
// single node dks may be nil. Every command that was not answered has an
// error afterwards. ctx is the caller's, bounded that of the round trip.
func (w *wire) carry(ctx, bounded context.Context, to access, dks []string, cmds []redis.Cmder) {
	w.carryThen(ctx, bounded, to, dks, cmds, nil)
}

// carryThen is carry that calls then, unless it is nil, for the keys of each
// node when that is done with: with their indexes, or nil for all. The calls
// may run at the same time.
func (w *wire) carryThen(ctx, bounded context.Context, to access, dks []string, cmds []redis.Cmder, then func(which []int)) {
	if len(cmds) == 0 {
		return
	}
	table := w.nodes.table.Load()
	if table != nil && len(dks) > 1 {
		w.visitAll(ctx, bounded, to, *table, dks, cmds, then)
	} else {
		n := w.nodes.only
		if len(dks) > 0 {
			n = w.nodes.of(dks[0])
		}
		w.visit(ctx, bounded, n.breaker(to), cmds)
		if then != nil {
			then(nil)
		}
	}
	if table != nil {
		w.nodes.lookSoon(lookAgain)
	}
}

// visitAll is carryThen for several nodes: each is sent its commands, in
// their order, and none waits for another.
func (w *wire) visitAll(ctx, bounded context.Context, to access, table slotTable, dks []string, cmds []redis.Cmder, then func(which []int)) {
	var visited []*node
	var ends []int // at first the number of keys of each node, then where they end in order
	place := make([]uint16, len(dks))
	for i, dk := range dks {
		n := table.of(slotOf(dk), w.nodes.only)
		k := slices.Index(visited, n)
		if k < 0 {
			k = len(visited)
			visited, ends = append(visited, n), append(ends, 0)
		}
		place[i] = uint16(k)
		ends[k]++
	}
	if len(visited) == 1 {
		w.visit(ctx, bounded, visited[0].breaker(to), cmds)
		if then != nil {
			then(nil)
		}
		return
	}
	start := 0
	for k, n := range ends {
		ends[k] = start
		start += n
	}
	per := len(cmds) / len(dks)
	order := make([]int, len(dks)) // indexes of dks, node by node
	sorted := make([]redis.Cmder, len(cmds))
	for i, k := range place {
		at := ends[k]
		order[at] = i
		copy(sorted[at*per:], cmds[i*per:(i+1)*per])
		ends[k]++
	}
	var wg sync.WaitGroup
	var panicked atomic.Pointer[any]
	start = 0
	for k, n := range visited {
		from, end := start, ends[k]
		start = end
		wg.Go(func() { // waited for below
			defer func() {
				if r := recover(); r != nil {
					panicked.Store(&r)
				}
			}()
			w.visit(ctx, bounded, n.breaker(to), sorted[from*per:end*per:end*per])
			if then != nil {
				then(order[from:end])
			}
		})
	}
	wg.Wait()
	if r := panicked.Load(); r != nil {
		panic(*r) // a hook of the client's; where the caller can recover
	}
}

// visit is one round trip to one node, if its breaker lets it through.
func (w *wire) visit(ctx, bounded context.Context, b *breaker, cmds []redis.Cmder) {
	v, err := b.allow()
	if err != nil {
		setErrs(cmds, err)
		w.nodes.lookSoon(lookAtMost)
		return
	}
	verdict := errUncounted // if a hook panics
	defer func() { w.ended(v, verdict) }()
	w.send(bounded, cmds)
	verdict = blameAny(ctx, cmds)
}

// ended ends a visit. After a failure another node may have the keys.
func (w *wire) ended(v visit, verdict error) {
	v.end(verdict)
	if verdict != nil {
		w.nodes.lookSoon(lookAtMost)
	}
}
