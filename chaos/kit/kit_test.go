package kit

import (
	"context"
	"testing"
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
	if slot := c.Slot(t, "foo"); slot != 12182 || c.ShardOf(slot) != 2 {
		t.Errorf("foo is in slot %d of shard %d; want 12182 of 2", slot, c.ShardOf(slot))
	}
	moved := 0
	c.Move(t, 12182, 2, 0, func() { moved++ })
	if Do(t, c.admin[0], "set", "foo", "v"); moved == 0 {
		t.Error("moved without a moment in between")
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
