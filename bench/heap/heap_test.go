package main

import "testing"

// bar is how much more heap an entry may take than the peer's does.
const bar = 1.15

func TestHeapPerEntryMeetsTheBars(t *testing.T) {
	entries := 1_000_000
	if raced {
		entries = 20_000
	}
	measured := map[string]result{}
	for _, c := range contenders {
		r := measure(c, entries)
		measured[c.name] = r
		t.Logf("%-27s %7d entries, %.0f bytes each, %.0f after evictions", c.name, r.held, r.filled, r.churned)
		if c.peer == "" {
			continue
		}
		peer := measured[c.peer]
		if raced {
			continue
		}
		if r.filled > bar*peer.filled || r.churned > bar*peer.churned {
			t.Errorf("%s takes more than %.2f of %s", c.name, bar, c.peer)
		}
	}
}
