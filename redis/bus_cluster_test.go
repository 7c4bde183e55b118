package redistier

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// newPair returns a Cluster of two primaries, of which the first has the lower
// half of the slots, and a client.
func newPair(tb testing.TB) (nodes [2]*phoenix, client *redis.ClusterClient) {
	tb.Helper()
	ctx := context.Background()
	for i, slots := range [2][2]int{{0, 8191}, {8192, 16383}} {
		nodes[i] = newPhoenix(tb, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
		if err := newClient(tb, nodes[i].addr).ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err(); err != nil {
			tb.Skip("the bus port of the Cluster may be taken: ", err)
		}
	}
	host, port, _ := net.SplitHostPort(nodes[1].addr)
	first := newClient(tb, nodes[0].addr)
	if err := first.ClusterMeet(ctx, host, port).Err(); err != nil {
		tb.Fatal(err)
	}
	for _, n := range nodes {
		rdb := newClient(tb, n.addr)
		eventually(tb, "the nodes have met", func() bool {
			info := rdb.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_slots_assigned:16384") && strings.Contains(info, "cluster_state:ok")
		})
	}
	client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr, nodes[1].addr}, ContextTimeoutEnabled: true})
	tb.Cleanup(func() { client.Close() })
	return nodes, client
}

func TestShardThatLosesDeletionsMovesTheEpochThoughTheStreamIsWhole(t *testing.T) {
	t.Parallel()
	nodes, client := newPair(t)
	a, ofA := openEar(t, Config[string]{Client: client}, "n")
	b, ofB := openEar(t, Config[string]{Client: client}, "m")
	a.announceAll(t, dewar.AnnounceInvalidate, "x")
	ofA.await(t, "own invalidate x")
	slot, err := client.ClusterKeySlot(t.Context(), a.stream).Result()
	if err != nil {
		t.Fatal(err)
	}
	other := nodes[1] // the shard without the streams
	if slot > 8191 {
		other = nodes[0]
	}
	key := ""
	for i := 0; key == ""; i++ {
		k := fmt.Sprint("k", i)
		if s := client.ClusterKeySlot(t.Context(), a.keys.Load().redisKey(k)).Val(); (s > 8191) != (slot > 8191) {
			key = k
		}
	}
	a.put(t, key, "old")
	admin := newClient(t, other.addr)
	if err := admin.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the nodes are known", func() bool { return a.hub.Load().looked.Load() > 0 })
	if err := a.unlinkOne(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	a.announceAll(t, dewar.AnnounceInvalidate, key)
	ofA.await(t, "own invalidate "+key)
	before, beforeB := a.Stats().Epoch, b.Stats().Epoch
	other.stop()
	a.readOne(t.Context(), key) // fails, and makes suspect
	other.rise(t)
	ofA.await(t, "missed")
	ofB.await(t, "missed")
	eventually(t, "Redis is asked", func() bool { return a.readOne(t.Context(), key).State != dewar.RemoteFailed })
	if f := a.readOne(t.Context(), key); f.State != dewar.RemoteAbsent {
		t.Errorf("state %d, %q: deleted before the shard was lost", f.State, f.Entry.Value)
	}
	if a.Stats().Epoch <= before || b.Stats().Epoch <= beforeB {
		t.Errorf("epochs %d and %d, were %d and %d", a.Stats().Epoch, b.Stats().Epoch, before, beforeB)
	}
}

func TestWhichNodesAreReplaced(t *testing.T) {
	t.Parallel()
	was := identity{run: "r", repl: "h"}
	for name, c := range map[string]struct {
		was, now identity
		want     bool
	}{
		"the same":                {was, was, false},
		"started again":           {was, identity{run: "r2", repl: "h2"}, true},
		"demoted and promoted":    {was, identity{run: "r", repl: "h2", heir: true}, true},
		"without replicas for 1h": {was, identity{run: "r", repl: "h2"}, false},
		"joins empty":             {identity{}, identity{run: "r", repl: "h"}, false},
		"promoted":                {identity{}, identity{run: "r", repl: "h", heir: true}, true},
	} {
		if got := replaced(c.was, c.now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	n := parseIdentity("# Server\r\nrun_id:abc\r\n# Replication\r\nmaster_replid:def\r\nmaster_replid2:0000\r\nsecond_repl_offset:-1\r\n")
	if n != (identity{run: "abc", repl: "def"}) {
		t.Errorf("parsed %+v", n)
	}
}

func TestBusOnACluster(t *testing.T) {
	t.Parallel()
	_, client := newPair(t)
	a, ofA := openEar(t, Config[string]{Client: client}, "n")
	b, ofB := openEar(t, Config[string]{Client: client}, "m")
	if a.hub.Load() != b.hub.Load() {
		t.Error("two readers for one client")
	}
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	a.announceAll(t, dewar.AnnounceInvalidate, keys...)
	b.announceAll(t, dewar.AnnounceSet, "b")
	ofB.await(t, "own set b")
	eventually(t, "all keys", func() bool { return len(ofA.heard()) == 16 })
	if err := a.NextEpoch(t.Context()); err != nil {
		t.Error(err)
	}
	if s := a.Stats(); s.Gaps != 0 || s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}
