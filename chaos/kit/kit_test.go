package kit

import (
	"context"
	"errors"
	"testing"

	"github.com/dewarcache/dewar"
)

func TestServerKeepsItsPortOverRestarts(t *testing.T) {
	t.Parallel()
	s := StartServer(t)
	Do(t, s.Admin(t), "set", "k", "v")
	s.Kill()
	s.Restart(t)
	if n, err := s.Admin(t).Exists(context.Background(), "k").Result(); err != nil || n != 0 {
		t.Errorf("%d keys, %v; want an empty server", n, err)
	}
}

func TestClusterForms(t *testing.T) {
	t.Parallel()
	c := StartCluster(t)
	slot := c.Slot(t, "foo")
	if slot != 12182 || c.ShardOf(slot) != 2 {
		t.Errorf("foo is in slot %d of shard %d; want 12182 of 2", slot, c.ShardOf(slot))
	}
	Do(t, c.admin[2], "set", "foo", "v")
	c.BeginMove(t, slot, 2, 0)
	c.MoveKeys(t, slot, 2, 0)
	c.EndMove(t, slot, 2, 0)
	if v := Do(t, c.admin[0], "get", "foo"); v != "v" {
		t.Errorf("foo is %v after it was moved", v)
	}
}

func TestSentinelKnowsItsReplica(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	Do(t, s.Primary.Admin(t), "set", "k", "v")
	replica := s.Replica.Admin(t)
	Eventually(t, "the replica has it", func() bool {
		v, err := replica.Get(context.Background(), "k").Result()
		return err == nil && v == "v"
	})
}

func TestNetworkSwallowsSilentlyAndHeals(t *testing.T) {
	t.Parallel()
	n := StartNetwork(t, StartServer(t).Addr)
	rdb := Hardened(t, n.Addr)
	Do(t, rdb, "set", "k", "v")
	n.Swallow(t)
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want silence until the deadline", err)
	}
	n.Heal()
	Eventually(t, "the network works again", func() bool { return rdb.Get(context.Background(), "k").Val() == "v" })
}

func TestReaderTellsWhatMustNotBeServed(t *testing.T) {
	t.Parallel()
	origin := new(Origin)
	c := NewCache(t, Config{Client: Hardened(t, StartServer(t).Addr), Origin: origin})
	r := StartReader(t, c, origin, 2, 0, func(int, int) []string { return []string{"k"} })
	turn := func() Tally {
		for seen := 0; seen < 100; {
			r.mu.Lock()
			seen = len(r.tally.took)
			r.mu.Unlock()
		}
		return r.Cut()
	}
	turn() // two reads of which may end in the next
	if tally := turn(); tally.Failed > 0 || len(tally.Wrong) > 0 || tally.Tiers[dewar.TierLocal] < tally.Reads()-2 {
		t.Errorf("%+v; want hits", tally)
	}
	r.Raise("k", origin.Commit("k")) // nobody invalidates
	turn()
	if tally := turn(); len(tally.Wrong) < tally.Reads()-2 {
		t.Errorf("%d of %d reads were told", len(tally.Wrong), tally.Reads())
	}
}
