package memory

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/dewarcache/dewar"
)

// shardCount is how many locks the writers of an index share. A bucket belongs
// to one shard whatever the size of the table, which is never smaller.
const shardCount = 256

// maxUses is where a node stops counting its uses. Beyond it a hit stores
// nothing, so that the cache line of a hot entry stays shared between cores.
const maxUses = 3

// index maps keys to entries. It alone answers reads: what it holds is what
// the tier holds.
//
// A node is found by its key. Everything that decides who stays (window,
// ghosts, ristretto) knows it by the hash of its key, of which the index keeps
// at most one: a key whose hash is taken replaces who took it. The seed is
// random, so nobody can aim at that.
type index[V any, W weight] struct {
	seed    maphash.Seed
	table   atomic.Pointer[table[V, W]]
	entries atomic.Int64
	cost    atomic.Int64 // of all nodes
	main    atomic.Int64 // cost of the nodes in the main region
	tickets atomic.Uint32
	shards  [shardCount]shard

	// hash is hashOf, unless a test wants collisions.
	hash func(seed maphash.Seed, key string) uint64
}

type table[V any, W weight] struct {
	// buckets has a power of two of chains. A reader walks them without a
	// lock. Writers of buckets[i] hold the lock of shard i%shardCount.
	buckets []atomic.Pointer[node[V, W]]
}

type shard struct {
	// mu guards the chains of the shard's buckets, the ticket of their nodes,
	// and closed.
	mu     sync.Mutex
	closed bool
	_      [64 - 9]byte // keeps neighbours off the cache line
}

// node is one entry in its chain. With a pointer for V and W of no size it
// fills one cache line. Once it is reachable only mark, ticket and next change.
type node[V any, W weight] struct {
	key    string
	mark   atomic.Uint32 // tag | hits since it was last asked whether to stay, up to maxUses
	ticket uint32        // its place in the window; 0: in the main region
	next   atomic.Pointer[node[V, W]]
	weight W
	entry  dewar.Entry[V]
}

// tagOf returns the upper 30 bits of a hash, where the low two bits of a mark
// or a ghost have their own meaning.
func tagOf(hash uint64) uint32 { return uint32(hash>>32) &^ 3 }

func (n *node[V, W]) tag() uint32  { return n.mark.Load() &^ 3 }
func (n *node[V, W]) uses() uint32 { return n.mark.Load() & 3 }

// weight is what a node counts towards the bound. Where every entry counts 1
// it has no size.
type weight interface{ units() int64 }

type one struct{}

func (one) units() int64 { return 1 }

type cost int64

func (c cost) units() int64 { return int64(c) }

// init makes room for about that many entries.
func (x *index[V, W]) init(entries int64) {
	x.seed = maphash.MakeSeed()
	x.hash = maphash.String
	x.table.Store(newTable[V, W](entries))
}

func newTable[V any, W weight](entries int64) *table[V, W] {
	size := int64(shardCount)
	for size < entries {
		size *= 2
	}
	return &table[V, W]{buckets: make([]atomic.Pointer[node[V, W]], size)}
}

func (t *table[V, W]) bucket(hash uint64) *atomic.Pointer[node[V, W]] {
	return &t.buckets[hash&uint64(len(t.buckets)-1)]
}

// get returns the entry of key and notes its use, or nil.
//
// It takes no lock. A node that is unlinked meanwhile keeps its next, so the
// walk goes on; what it then finds was current when the walk began:
//
//  1. get stands on node X, whose next is Y.
//  2. Set replaces X by X2, then Y by Y2. X.next still is Y.
//  3. get goes on to Y and answers with it: as would a get that ended before
//     2, and the two overlap.
func (x *index[V, W]) get(key string) *dewar.Entry[V] {
	hash := maphash.String(x.seed, key)
	tag := tagOf(hash)
	for n := x.table.Load().bucket(hash).Load(); n != nil; n = n.next.Load() {
		mark := n.mark.Load()
		if mark&^3 == tag && n.key == key {
			// Not an atomic add: a lost use does not matter, a lock on the
			// bus does.
			if mark&3 < maxUses {
				n.mark.Store(mark + 1)
			}
			return &n.entry
		}
	}
	return nil
}

func (x *index[V, W]) shard(hash uint64) *shard { return &x.shards[hash%shardCount] }

// findLocked returns the node with that hash, or nil, and the link to it.
// The hash's shard must be locked.
func (x *index[V, W]) findLocked(hash uint64) (*node[V, W], *atomic.Pointer[node[V, W]]) {
	tag := tagOf(hash)
	link := x.table.Load().bucket(hash)
	for n := link.Load(); n != nil; n = link.Load() {
		if n.tag() == tag {
			return n, link
		}
		link = &n.next
	}
	return nil, nil
}

// placed says what put did with a node.
type placed int

const (
	refused  placed = iota // the index is closed
	replaced               // it took over the place of its predecessor
	entered                // it has a new ticket, and is to enter the window with it
)

// put links n, whose key has that hash, in place of whoever is there.
//
// A node that costs more than the one it replaces in the main region enters
// the window anew, since ristretto made room for less. ristretto's record of
// its hash stays behind and is let go, or taken up again, as any other.
func (x *index[V, W]) put(hash uint64, n *node[V, W]) placed {
	n.mark.Store(tagOf(hash))
	s := x.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refused
	}
	old, link := x.findLocked(hash)
	if old == nil {
		x.enterLocked(n)
		link = x.table.Load().bucket(hash)
		n.next.Store(link.Load())
		link.Store(n)
		x.entries.Add(1)
		x.cost.Add(n.weight.units())
		return entered
	}
	growth := n.weight.units() - old.weight.units()
	how := replaced
	if old.ticket == 0 && growth > 0 {
		x.main.Add(-old.weight.units())
		x.enterLocked(n)
		how = entered
	} else {
		n.ticket = old.ticket
		if n.ticket == 0 {
			x.main.Add(growth)
		}
	}
	if n.key == old.key {
		n.mark.Store(old.mark.Load())
	}
	n.next.Store(old.next.Load())
	link.Store(n)
	x.cost.Add(growth)
	return how
}

// enterLocked gives n a place in the window. The shard of n must be locked.
func (x *index[V, W]) enterLocked(n *node[V, W]) {
	n.ticket = x.tickets.Add(1)
	if n.ticket == 0 { // the count has gone round; 0 is taken
		n.ticket = x.tickets.Add(1)
	}
}

// unlinkLocked removes n, found at link. Its shard must be locked.
func (x *index[V, W]) unlinkLocked(n *node[V, W], link *atomic.Pointer[node[V, W]]) {
	link.Store(n.next.Load())
	x.entries.Add(-1)
	x.cost.Add(-n.weight.units())
	if n.ticket == 0 {
		x.main.Add(-n.weight.units())
	}
}

// remove removes the entry of key.
func (x *index[V, W]) remove(key string) {
	hash := x.hash(x.seed, key)
	s := x.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, link := x.findLocked(hash); n != nil && n.key == key {
		x.unlinkLocked(n, link)
	}
}

// crowded reports whether chains have become long.
func (x *index[V, W]) crowded() bool {
	return x.entries.Load() > int64(len(x.table.Load().buckets))
}

// grow doubles the table, under all locks. A reader that stands on a node
// while it moves goes on in a chain of the new table and may miss its key,
// which is a miss like any other; it never finds another version of it.
func (x *index[V, W]) grow() {
	for i := range x.shards {
		x.shards[i].mu.Lock()
		defer x.shards[i].mu.Unlock()
	}
	if !x.crowded() {
		return // somebody else did
	}
	old := x.table.Load()
	bigger := newTable[V, W](2 * int64(len(old.buckets)))
	for i := range old.buckets {
		for n := old.buckets[i].Load(); n != nil; {
			next := n.next.Load()
			link := bigger.bucket(x.hash(x.seed, n.key))
			n.next.Store(link.Load())
			link.Store(n)
			n = next
		}
	}
	x.table.Store(bigger)
}

// clear empties the index, shard by shard under its lock. A Set that runs at
// the same time may come before or after it.
func (x *index[V, W]) clear() { x.empty(false) }

// close empties the index for good.
func (x *index[V, W]) close() { x.empty(true) }

func (x *index[V, W]) empty(forGood bool) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		s.closed = s.closed || forGood
		buckets := x.table.Load().buckets
		for b := i; b < len(buckets); b += shardCount {
			for link := &buckets[b]; link.Load() != nil; {
				x.unlinkLocked(link.Load(), link)
			}
		}
		s.mu.Unlock()
	}
}
