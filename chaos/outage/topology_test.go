package outage

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/redis/go-redis/v9"
)

// topologies are outages of a Cluster's shards, and of a primary that Sentinel
// watches.
var topologies = []outage{
	{
		name:   "one shard of a Cluster down",
		open:   openCluster,
		begin:  func(_ *testing.T, s *scene) { s.cluster.Nodes[s.otherShard].Kill() },
		during: othersGoOn,
		end:    restartShard,
		shuts:  true,
		works:  true,
	},
	{
		name:  "the shard of the streams down",
		open:  openCluster,
		begin: func(t *testing.T, s *scene) { s.otherShard = s.streamShard; s.cluster.Nodes[s.streamShard].Kill() },
		end:   restartShard,
		shuts: true,
		works: true,
	},
	{
		name: "slots of a Cluster being moved",
		open: openCluster,
		begin: func(t *testing.T, s *scene) {
			for _, slot := range s.moving {
				s.cluster.BeginMove(t, slot, s.streamShard, s.otherShard)
			}
		},
		during: func(t *testing.T, s *scene) {
			for _, slot := range s.moving {
				s.cluster.MoveKeys(t, slot, s.streamShard, s.otherShard)
			}
		},
		end: func(t *testing.T, s *scene) {
			for _, slot := range s.moving {
				s.cluster.EndMove(t, slot, s.streamShard, s.otherShard)
			}
		},
		works: true,
	},
	{
		name:  "primary killed under Sentinel",
		open:  openSentinel,
		begin: func(_ *testing.T, s *scene) { s.sentinel.Primary.Kill() },
		end: func(t *testing.T, s *scene) {
			replica := s.sentinel.Replica.Admin(t)
			kit.Eventually(t, "the replica is promoted", func() bool {
				return kit.Do(t, replica, "role").([]any)[0] == "master"
			})
		},
		lasts:  time.Second, // the Sentinel waits for half of it
		doubts: true,        // the promotion may be over before the outage is
	},
}

// openCluster opens the caches on a Cluster.
func openCluster(t *testing.T, _ outage) *scene {
	s := &scene{origin: new(kit.Origin), cluster: kit.StartCluster(t)}
	plain := redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { plain.Close() })
	s.openCaches(t, plain, kit.Hardened(t, s.cluster.Addrs()...), 0)
	stream := s.cluster.Slot(t, "{dewar}")
	s.streamShard = s.cluster.ShardOf(stream)
	s.otherShard = (s.streamShard + 1) % 3
	s.moving = []int{stream}
	for slot := range 16384 {
		if len(s.moving) < 200 && slot != stream && s.cluster.ShardOf(slot) == s.streamShard {
			s.moving = append(s.moving, slot)
		}
	}
	return s
}

// shardOf returns the shard of one of the caches' keys.
func (s *scene) shardOf(t *testing.T, key string) int {
	t.Helper()
	return s.cluster.ShardOf(s.cluster.Slot(t, s.redisKey(key)))
}

// keyOn returns a key of the caches that nobody has read, on a shard.
func (s *scene) keyOn(t *testing.T, shard int) string {
	t.Helper()
	for {
		s.turn++
		if key := fmt.Sprint("placed", s.turn); s.shardOf(t, key) == shard {
			return key
		}
	}
}

// othersGoOn checks that a shard that is down takes only its own keys with it.
func othersGoOn(t *testing.T, s *scene) {
	ctx := context.Background()
	for shard := range 3 {
		down := shard == s.otherShard
		key := s.keyOn(t, shard)
		if _, err := s.a.Get(ctx, key); err != nil {
			t.Error(err)
		}
		_ = s.a.Wait(ctx) // writes to the shard that is down fail
		got, err := s.b.GetResult(ctx, key)
		if want := map[bool]string{false: dewar.TierRemote, true: dewar.TierOrigin}[down]; err != nil || got.Tier != want {
			t.Errorf("a key of shard %d, down %v: from %s, %v; want it from %s", shard, down, got.Tier, err, want)
		}
		err = s.a.Invalidate(ctx, key)
		if down != errors.Is(err, dewar.ErrInvalidationPending) || !down && err != nil {
			t.Errorf("a key of shard %d, down %v: Invalidate: %v", shard, down, err)
		}
	}
}

// restartShard starts the shard that was killed again, empty, and waits until
// the others take it back.
func restartShard(t *testing.T, s *scene) {
	s.cluster.Nodes[s.otherShard].Restart(t)
	kit.Eventually(t, "the Cluster is whole", func() bool { return s.cluster.Whole(t) })
}

// openSentinel opens the caches on a primary that a Sentinel watches.
func openSentinel(t *testing.T, _ outage) *scene {
	s := &scene{origin: new(kit.Origin), sentinel: kit.StartSentinel(t)}
	watch := []string{s.sentinel.Watch.Addr}
	plain := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: kit.Master, SentinelAddrs: watch, ContextTimeoutEnabled: true})
	t.Cleanup(func() { plain.Close() })
	s.openCaches(t, plain, kit.HardenedFailover(t, s.sentinel.Watch.Addr), 0)
	return s
}
