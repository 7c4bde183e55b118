package dewar

import (
	"fmt"
	"math"
	"testing"
)

func TestWhatIsTrackedIsBoundedHoweverManyKeysThereAre(t *testing.T) {
	const keep = 20
	c := &Cache[string, string]{local: noLocal[string]{}, lone: true}
	c.track = newTrack(keep, c.staysStale)
	for i := range 1_000_000 {
		key := fmt.Sprint("key", i)
		c.track.touch(key)
		loaded := int64(i) // by turns younger and older than all before
		if i%2 == 1 {
			loaded = -loaded
		}
		c.track.stale(key, loaded, math.MaxInt64)
		if i%2 == 0 {
			c.track.brought(key+"'", SourceReader)
		}
	}
	tr := c.track
	for what, n := range map[string][2]int{
		"hot keys":       {len(tr.hot.heap), keep * trackRoom},
		"hot, by key":    {len(tr.hot.byKey), keep * trackRoom},
		"stale keys":     {len(tr.aged.heap), keep * trackRoom},
		"stale, by key":  {len(tr.aged.byKey), keep * trackRoom},
		"sources":        {len(tr.source), 16 * keep * trackRoom},
		"sources' order": {len(tr.order), 16 * keep * trackRoom},
		"HotKeys":        {len(c.HotKeys()), keep},
		"StaleKeys":      {len(c.StaleKeys()), keep},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d, want %d", what, n[0], n[1])
		}
	}
	if first := c.StaleKeys()[0]; first.Key != "key999999" {
		t.Errorf("the oldest is %+v", first)
	}
}

func TestARankingKeepsItsOrder(t *testing.T) {
	r := newRanking(4)
	for i, k := range []string{"c", "a", "d", "b"} {
		r.add(k, int64(10*(i+1)))
	}
	want := func(key string, by int64) {
		t.Helper()
		if got := r.first(); got.key != key || got.by != by || r.byKey[key] != got {
			t.Errorf("first is %+v, not %s", got, key)
		}
	}
	want("c", 10)
	r.rank(r.byKey["c"], 25)
	want("a", 20)
	r.replace(r.byKey["a"], "e", 50)
	want("c", 25)
	r.remove(r.byKey["c"])
	want("d", 30)
	if _, still := r.byKey["a"]; still || r.full() || len(r.byKey) != 3 {
		t.Error(r.byKey)
	}
}

// A key that becomes hot late finds all places taken. It stays there since it is
// counted on from the count of the one whose place it got, as Space-Saving has it.
func TestAKeyThatBecomesHotIsFoundAmongKeysThatAreReadOnce(t *testing.T) {
	c := &Cache[string, string]{local: noLocal[string]{}, lone: true}
	c.track = newTrack(2, c.staysStale)
	for i := range 2 * trackRoom { // all places are taken by what was read a lot
		for range 40 * trackSample {
			c.track.touch(fmt.Sprint("old", i))
		}
	}
	for i := range 40_000 {
		c.track.touch(fmt.Sprint("once", i))
		if i%4 == 0 {
			c.track.touch("hot")
		}
	}
	if keys := c.HotKeys(); keys[0].Key != "hot" {
		t.Errorf("the hottest are %+v", keys)
	}
}
