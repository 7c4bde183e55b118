package memory

import (
	"math"
)

const (
	// The border between window and main, as shares of the capacity that are
	// main's. Zipf's law likes a large main region, recorded traces of
	// databases and web sites a large window; none likes the extremes.
	leastBorder = 0.5
	firstBorder = 0.7
	mostBorder  = 0.8

	// overfull is the share of the capacity above which main is swept by hand.
	// ristretto keeps main below mostBorder plus what is pending, except where
	// costs grow; see put.
	overfull = 0.95

	// maxRounds bounds how many used entries are spared to find an unused one.
	maxRounds = 16
)

// patience is how many offers may be pending: few against what the tier holds.
func (t *tier[V, W]) patience() int64 {
	return max(1, min(t.entries.Load()/16, mostPending))
}

// moveBorderLocked gives room to the region that a returning ghost was evicted
// from, at the expense of the other. It moves further for a ghost of the rarer
// kind (as ARC does: Megiddo and Modha, FAST 2003), by the root of the ratio so
// that the border stays calm.
func (t *tier[V, W]) moveBorderLocked(from uint32) {
	window, main := float64(t.ghosts.count[fromWindow]+1), float64(t.ghosts.count[fromMain]+1)
	step := -0.5 * math.Sqrt(main/window)
	if from == fromMain {
		step = 0.5 * math.Sqrt(window/main)
	}
	step *= float64(t.cost.Load()) / float64(max(1, t.entries.Load())) // entries to cost
	whole := float64(t.capacity)
	t.border = min(max(t.border+step, leastBorder*whole), mostBorder*whole)
	if t.ristretto != nil {
		t.ristretto.UpdateMaxCost(int64(t.border))
	}
}

// makeRoomLocked evicts until the bound holds. mu must be held.
//
// It takes from the head of the window, whatever main's share: an unused entry
// is evicted; a used one is offered to ristretto, which will let go of another,
// or, when ristretto is behind, goes round the window once more.
func (t *tier[V, W]) makeRoomLocked() {
	for spared := 0; t.cost.Load() > t.capacity; {
		if float64(t.main.Load()) > overfull*float64(t.capacity) {
			t.sweepLocked()
			continue
		}
		place, ok := t.window.pop()
		if !ok {
			// What is over is of Sets that are not here yet, each of which
			// makes room for itself.
			return
		}
		s := t.shard(place.hash)
		s.mu.Lock()
		switch n, link := t.findLocked(place.hash); {
		case n == nil || n.ticket != place.ticket:
			// Deleted since.
		case n.uses() == 0 || spared == maxRounds:
			t.unlinkLocked(n, link)
			t.evicted.Add(1)
			t.ghosts.add(place.hash, fromWindow)
		case t.offerLocked(place.hash, n):
			spared++
		default:
			n.mark.Store(n.tag())
			t.window.push(place)
			spared++
		}
		s.mu.Unlock()
	}
	if int64(t.window.length) > 2*t.entries.Load()+chunkSize {
		t.tidyLocked()
	}
}

// tidyLocked throws the stale tickets out of the window: a tier whose entries
// are deleted as fast as they are set never takes from its head. mu must be
// held.
func (t *tier[V, W]) tidyLocked() {
	for range t.window.length {
		place, _ := t.window.pop()
		s := t.shard(place.hash)
		s.mu.Lock()
		n, _ := t.findLocked(place.hash)
		stays := n != nil && n.ticket == place.ticket
		s.mu.Unlock()
		if stays {
			t.window.push(place)
		}
	}
}

// sweepLocked evicts one entry of main, the next that was not used since the
// hand passed it. mu must be held.
func (t *tier[V, W]) sweepLocked() {
	for range 2 * len(t.table.Load().buckets) {
		hash := t.hand // any hash of that bucket will do
		t.hand++
		s := t.shard(hash)
		s.mu.Lock()
		link := t.table.Load().bucket(hash)
		for n := link.Load(); n != nil; n = link.Load() {
			if n.ticket == 0 {
				if n.uses() == 0 {
					t.unlinkLocked(n, link)
					t.evicted.Add(1)
					t.ghosts.add(t.hash(t.seed, n.key), fromMain)
					s.mu.Unlock()
					return
				}
				n.mark.Store(n.tag())
			}
			link = &n.next
		}
		s.mu.Unlock()
	}
}

// offerLocked moves n to main, tells ristretto how often it was used and
// leaves it to it whether n stays. It returns false when n had better wait.
// The shard of n must be locked; ristretto calls us back on another goroutine,
// later.
func (t *tier[V, W]) offerLocked(hash uint64, n *node[V, W]) bool {
	units := n.weight.units()
	if n.ticket == 0 {
		units = 0 // it is counted already
	}
	if t.ristretto == nil || t.pending.Load() >= t.patience() || t.main.Load()+units > t.capacity {
		return false
	}
	for range n.uses() {
		t.ristretto.Get(hash)
	}
	// In main before ristretto has it: if it were to let go of an earlier
	// record of the same hash just now, that means n.
	n.mark.Store(n.tag())
	n.ticket = 0
	t.main.Add(units)
	t.pending.Add(1)
	t.ristretto.Set(hash, n.weight, 0)
	return true
}

// dismissed is called by ristretto, on its goroutine, when it lets go of a
// hash: as a victim, or because it did not let it in. Whoever was used since is
// offered again, or goes through the window again.
func (t *tier[V, W]) dismissed(hash uint64, rejected bool) {
	if t.closing.Load() {
		return
	}
	ghost, again := t.judge(hash, rejected)
	if ghost == nowhere && again == (seat{}) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ghost != nowhere {
		t.ghosts.add(hash, ghost)
	} else if !t.closing.Load() {
		t.window.push(again)
	}
}

// judge evicts the node of a dismissed hash and returns which ghost it leaves,
// or, if it shall stay, the seat it takes in the window, or neither.
func (t *tier[V, W]) judge(hash uint64, rejected bool) (ghost uint32, again seat) {
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, link := t.findLocked(hash)
	if n == nil || n.ticket != 0 {
		return nowhere, seat{} // deleted since, and perhaps set again
	}
	used := n.uses() > 0
	if used && !rejected && t.offerLocked(hash, n) {
		return nowhere, seat{}
	}
	// A rejected newcomer lost against the hashes that ristretto holds. If most
	// of those have no entry any more, that says nothing.
	if used || rejected && 2*t.main.Load() < t.ristretto.MaxCost() {
		t.main.Add(-n.weight.units())
		t.enterLocked(n)
		n.mark.Store(n.tag())
		return nowhere, seat{hash, n.ticket}
	}
	t.unlinkLocked(n, link)
	t.evicted.Add(1)
	if rejected {
		return fromWindow, seat{}
	}
	return fromMain, seat{}
}
