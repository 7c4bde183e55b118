package dewar

// This file changes all keys of a table at once: InvalidateAll, and what keeps
// this process away from all remote copies until that has reached them.

// overwriteAll is overwrite for every key there is: everything local is gone
// when it returns. If barred, this process keeps away from all remote copies
// until unbar. then is called at the end of the section.
func (t *table[K, V]) overwriteAll(bar bool, then func()) error {
	t.lockAll()
	defer t.unlockAll()
	if t.shards[0].closed {
		return ErrClosed
	}
	if bar {
		t.barred++
		t.wg.Add(1)
	}
	defer then()
	gen := t.writes.Add(1)
	for i := range t.shards {
		s := &t.shards[i]
		s.moveAllLocked(gen)
		for key, f := range s.flights {
			f.detached = true
			delete(s.flights, key)
		}
		clear(s.failing)
	}
	t.local.Clear()
	return nil
}

// moveAllLocked moves the generations of all keys of a shard.
func (s *shard[K, V]) moveAllLocked(gen uint64) {
	for i := range s.gens {
		s.gens[i] = gen
	}
	for key, m := range s.marks {
		s.marks[key] = mark{m.writes, gen}
	}
}

// bar, lift and unbar change what keeps this process away from all remote copies.
func (t *table[K, V]) bar() {
	t.lockAll()
	defer t.unlockAll()
	t.barred++
}

func (t *table[K, V]) lift() {
	t.lockAll()
	defer t.unlockAll()
	t.barred--
}

// unbar returns keys that are to be deleted once more, in the epoch into which
// this process has moved.
func (t *table[K, V]) unbar() (again []string) {
	t.lockAll()
	defer t.unlockAll()
	t.barred--
	return t.againLocked()
}

// lockAll locks all shards in their order; nobody else holds two.
func (t *table[K, V]) lockAll() {
	for i := range t.shards {
		t.shards[i].mu.Lock()
	}
}

func (t *table[K, V]) unlockAll() {
	for i := range t.shards {
		t.shards[i].mu.Unlock()
	}
}
