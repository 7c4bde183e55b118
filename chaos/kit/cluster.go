package kit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is the number of hash slots of a Cluster.
const slots = 16384

// Cluster is a Cluster of three primaries without replicas. A shard that is
// down does not stop the others.
type Cluster struct {
	Nodes []*Server
	admin []*redis.Client
	ids   []string
}

// StartCluster starts a Cluster and stops it with the test.
func StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := new(Cluster)
	for i := range 3 {
		n := StartServer(tb, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000")
		c.Nodes, c.admin = append(c.Nodes, n), append(c.admin, n.Admin(tb))
		Do(tb, c.admin[i], "cluster", "addslotsrange", i*slots/3, (i+1)*slots/3-1)
		// Two nodes of the same configuration epoch would sort that out later,
		// while tests run.
		Do(tb, c.admin[i], "cluster", "set-config-epoch", i+1)
		if i > 0 {
			Do(tb, c.admin[i], "cluster", "meet", c.Nodes[0].Host, c.Nodes[0].Port)
		}
		c.ids = append(c.ids, fmt.Sprint(Do(tb, c.admin[i], "cluster", "myid")))
	}
	Eventually(tb, "the Cluster forms", func() bool { return c.Whole(tb) })
	return c
}

// Whole reports whether every node sees all three serve all slots.
func (c *Cluster) Whole(tb testing.TB) bool {
	tb.Helper()
	for _, rdb := range c.admin {
		info := fmt.Sprint(Do(tb, rdb, "cluster", "info"))
		for _, want := range []string{"cluster_state:ok", "cluster_slots_ok:16384\r\n", "cluster_size:3\r\n"} {
			if !strings.Contains(info, want) {
				return false
			}
		}
	}
	return true
}

// Addrs returns the addresses of the nodes.
func (c *Cluster) Addrs() (addrs []string) {
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

// Slot returns the hash slot of a Redis key.
func (c *Cluster) Slot(tb testing.TB, key string) int {
	tb.Helper()
	return int(Do(tb, c.admin[0], "cluster", "keyslot", key).(int64))
}

// ShardOf returns the number of the node that a slot is on at first.
func (c *Cluster) ShardOf(slot int) int {
	for i := range c.Nodes {
		if slot < (i+1)*slots/3 {
			return i
		}
	}
	return -1
}

// BeginMove begins to move a slot from one node to another, as redis-cli does:
// what is there stays reachable on the one, what is new goes to the other.
func (c *Cluster) BeginMove(tb testing.TB, slot, from, to int) {
	tb.Helper()
	Do(tb, c.admin[to], "cluster", "setslot", slot, "importing", c.ids[from])
	Do(tb, c.admin[from], "cluster", "setslot", slot, "migrating", c.ids[to])
}

// MoveKeys moves what is there.
func (c *Cluster) MoveKeys(tb testing.TB, slot, from, to int) {
	tb.Helper()
	for {
		keys := Do(tb, c.admin[from], "cluster", "getkeysinslot", slot, 100).([]any)
		if len(keys) == 0 {
			return
		}
		for _, key := range keys {
			Do(tb, c.admin[from], "migrate", c.Nodes[to].Host, c.Nodes[to].Port, key, 0, 5000)
		}
	}
}

// EndMove gives the slot to its new node.
func (c *Cluster) EndMove(tb testing.TB, slot, from, to int) {
	tb.Helper()
	for _, node := range []int{to, from, 3 - to - from} {
		Do(tb, c.admin[node], "cluster", "setslot", slot, "node", c.ids[to])
	}
}
