package redistier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

func TestSlotsAreThoseOfTheClusterSpecification(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 0x31C3, // the specification's own check
		"":          0, "foo": 12182, "{user1000}.following": slotOf("user1000"),
		"{user1000}.followers": slotOf("user1000"), "foo{{bar}}zap": slotOf("{bar"), "foo{bar}{zap}": slotOf("bar"),
	} {
		if got := slotOf(key); got != want {
			t.Errorf("%q is in slot %d, want %d", key, got, want)
		}
	}
	if slotOf("foo{}{bar}") == slotOf("bar") { // empty braces count for nothing
		t.Error("foo{}{bar} is hashed by bar")
	}
	for i := range 100 {
		dk := fmt.Sprint("dewar:1:videos:0:0:", i)
		if slotOf(refreshKey(dk)) != slotOf(dk) {
			t.Errorf("%s is not where its refresh lease is", dk)
		}
	}
}

func TestContractOnCluster(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, startCluster(t).client(t))
}

// clusterTier opens a tier that knows the nodes.
func clusterTier(t *testing.T, client redis.UniversalClient, timeout time.Duration) *tier[string] {
	t.Helper()
	tier := openTier(t, Config[string]{Client: client, Timeout: timeout}, testOptions)
	waitFor(t, "the table of slots", func() bool { return tier.nodes.table.Load() != nil })
	return tier
}

func TestSlotsAgreeWithTheServerAndTheClient(t *testing.T) {
	cluster := startCluster(t)
	client := cluster.client(t)
	tier := clusterTier(t, client, 0)
	for i := range 300 {
		dk := tier.keys.Load().redisKey(fmt.Sprint("k", i))
		want, err := client.ClusterKeySlot(t.Context(), dk).Result()
		if err != nil || int(want) != slotOf(dk) {
			t.Fatalf("%s is in slot %d, %v, not %d", dk, want, err, slotOf(dk))
		}
		primary, err := client.MasterForKey(t.Context(), dk)
		if err != nil {
			t.Fatal(err)
		}
		if n := tier.nodes.byAddr[primary.Options().Addr]; n == nil || n != tier.nodes.of(dk) {
			t.Fatalf("%s is not thought to be on %s", dk, primary.Options().Addr)
		}
	}
}

// shards sorts n keys by the node that they are on.
func (c *redisCluster) shards(ks keyspace, n int) (keys []string, shard []int) {
	for i := range n {
		key := fmt.Sprint("k", i)
		keys = append(keys, key)
		shard = append(shard, c.shardOf(slotOf(ks.redisKey(key))))
	}
	return keys, shard
}

func TestKeysOfADeadShardFailAloneAndSoonAtOnce(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			cluster := startCluster(t)
			const timeout = 300 * time.Millisecond
			tier := clusterTier(t, cluster.client(t), timeout)
			keys, shard := cluster.shards(*tier.keys.Load(), 60)
			for _, key := range keys {
				tier.put(t, key, key)
			}
			found := make([]dewar.Found[string], len(keys))
			errs := make([]error, len(keys))
			check := func() (atOnce bool) {
				t.Helper()
				atOnce = true
				tier.Read(t.Context(), keys, found)
				for i, f := range found {
					switch {
					case shard[i] == 1:
						if f.State != dewar.RemoteFailed {
							t.Fatalf("%s of the dead shard: state %d", keys[i], f.State)
						}
						atOnce = atOnce && errors.Is(f.Err, ErrBreakerOpen)
					case f.State != dewar.RemoteValue || f.Entry.Value != keys[i]:
						t.Fatalf("%s of a healthy shard: state %d, error %v", keys[i], f.State, f.Err)
					}
				}
				tier.Unlink(t.Context(), keys[50:], errs[50:])
				for i, key := range keys[50:] {
					if f := found[50+i]; (errs[50+i] == nil) != (shard[50+i] != 1) {
						t.Fatalf("Unlink of %s of shard %d: %v", key, shard[50+i], errs[50+i])
					} else if f.State == dewar.RemoteValue {
						tier.put(t, key, key)
					}
				}
				return atOnce
			}
			cluster.nodes[1].signal(t, sig)
			waitFor(t, "the breaker to open", check)
			// From now on the dead shard costs nothing but its probes.
			fast := 0
			for range 20 {
				began := time.Now()
				if check() && time.Since(began) < timeout {
					fast++
				}
			}
			if fast < 10 {
				t.Errorf("%d of 20 reads were answered at once", fast)
			}
			if n := tier.Stats().OpenBreakers; n < 1 || n > 2 {
				t.Errorf("%d breakers open", n)
			}
			if sig == syscall.SIGSTOP {
				cluster.nodes[1].signal(t, syscall.SIGCONT)
				waitFor(t, "the shard to be back", func() bool {
					tier.Read(t.Context(), keys[:50], found)
					for i := range keys[:50] {
						if found[i].State != dewar.RemoteValue {
							return false
						}
					}
					return true
				})
			}
		})
	}
}

func TestReadersNoticeNothingOfASlotThatMoves(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	tier := clusterTier(t, cluster.client(t), 0)
	// Keys of one slot have to be looked for.
	var keys []string
	slot := slotOf(tier.keys.Load().redisKey("k0"))
	for i := 0; len(keys) < 6; i++ {
		if key := fmt.Sprint("k", i); slotOf(tier.keys.Load().redisKey(key)) == slot {
			keys = append(keys, key)
		}
	}
	written := keys[5]
	others, _ := cluster.shards(*tier.keys.Load(), 20)
	keys = append(keys[:5], others...)
	for _, key := range keys {
		tier.put(t, key, key)
	}
	var rounds atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { // waited for below
			found := make([]dewar.Found[string], len(keys))
			for ctx.Err() == nil {
				tier.Read(t.Context(), keys, found)
				for i, f := range found {
					if f.State != dewar.RemoteValue || f.Entry.Value != keys[i] {
						t.Errorf("%s: state %d, %q, error %v", keys[i], f.State, f.Entry.Value, f.Err)
						cancel()
					}
				}
				if f := tier.readOne(t.Context(), keys[1]); f.State != dewar.RemoteValue {
					t.Errorf("alone: state %d, error %v", f.State, f.Err)
				}
				rounds.Add(1)
			}
		})
	}
	load := func() {
		for from := rounds.Load(); rounds.Load() < from+20 && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	load()
	from := cluster.shardOf(slot)
	for range 2 { // there and back
		to := (from + 1) % 3
		cluster.move(t, slot, from, to, load)
		load()
		// Writes find their way as well, and the fence holds.
		fence := tier.seizeOne(t.Context(), written).Fence
		tier.put(t, written, "new")
		if err := tier.fillOne(t.Context(), written, fence, "late"); !errors.Is(err, dewar.ErrFenced) {
			t.Errorf("a late fill: %v", err)
		}
		from = to
	}
	cancel()
	wg.Wait()
	if got := tier.Stats(); got.Errors != 0 || got.OpenBreakers != 0 {
		t.Errorf("%+v", got)
	}
}

func TestForgottenScriptsAreNoticedByNobody(t *testing.T) {
	cluster := startCluster(t)
	client := cluster.client(t)
	tier := clusterTier(t, client, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // waited for below
		for ctx.Err() == nil {
			_ = client.ForEachMaster(ctx, func(ctx context.Context, rdb *redis.Client) error {
				return rdb.ScriptFlush(ctx).Err()
			})
		}
	})
	keys := benchKeys(30)
	found := make([]dewar.Found[string], len(keys))
	fills := make([]dewar.Fill[string], len(keys))
	for range 20 {
		tier.Seize(ctx, keys, found)
		for i, key := range keys {
			fills[i] = aFill(key, found[i].Fence, key)
		}
		tier.Fill(ctx, fills)
		for _, f := range fills {
			// Between being sent in full and run nothing is forgotten: the
			// second try cannot fail for that.
			if f.Err != nil {
				t.Errorf("%s: %v", f.Key, f.Err)
			}
		}
	}
	cancel()
	wg.Wait()
}

func TestScriptsAreKnownBeforeTheFirstFill(t *testing.T) {
	cluster := startCluster(t)
	client := cluster.client(t)
	clusterTier(t, client, 0)
	waitFor(t, "the scripts to be loaded", func() bool {
		var missing atomic.Bool
		err := client.ForEachMaster(t.Context(), func(ctx context.Context, rdb *redis.Client) error {
			known, err := rdb.ScriptExists(ctx, putScript.sha, dropScript.sha, renewScript.sha).Result()
			for _, k := range known {
				if !k {
					missing.Store(true)
				}
			}
			return err
		})
		return err == nil && !missing.Load()
	})
}

func TestTierGoesOnAfterAFailover(t *testing.T) {
	t.Parallel()
	s := startSentinel(t)
	client := s.client(t)
	tier := openTier(t, Config[string]{Client: client, Timeout: 300 * time.Millisecond}, testOptions)
	tier.put(t, "k", "v")
	if err := client.Wait(t.Context(), 1, 5*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	s.primary.kill()
	waitFor(t, "reads to go on", func() bool { return tier.readOne(t.Context(), "k").State == dewar.RemoteValue })
	waitFor(t, "writes to go on", func() bool { return tier.unlinkOne(t.Context(), "k") == nil })
	tier.put(t, "k", "after")
	if f := tier.readOne(t.Context(), "k"); f.Entry.Value != "after" {
		t.Errorf("state %d, %q", f.State, f.Entry.Value)
	}
	waitFor(t, "the breakers to close", func() bool {
		tier.readOne(t.Context(), "k")
		return tier.Stats().OpenBreakers == 0
	})
}

func TestOneNodeThatIsNoClusterIsServedByOnePipeline(t *testing.T) {
	tier := openTier(t, Config[string]{Client: oneNode{newClient(t, realRedis(t))}}, testOptions)
	waitFor(t, "a look at the slots", func() bool { return tier.nodes.looked.Load() != 0 && !tier.nodes.looking.Load() })
	tier.put(t, "one-node", "v")
	if tier.nodes.table.Load() != nil {
		t.Error("a table of slots")
	}
	if f := tier.readOne(t.Context(), "one-node"); f.State != dewar.RemoteValue {
		t.Errorf("state %d", f.State)
	}
}

// panicking panics in every pipeline of GETs while it is told to: nobody could
// recover what it does to the bus.
type panicking struct{ on atomic.Bool }

func (*panicking) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*panicking) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *panicking) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if p.on.Load() && cmds[0].Name() == "get" {
			panic("hook")
		}
		return next(ctx, cmds)
	}
}

func TestPanicOfAHookReachesTheCallerAndOpensNothing(t *testing.T) {
	client := startCluster(t).client(t)
	hook := &panicking{}
	client.AddHook(hook)
	tier := clusterTier(t, client, 0)
	keys := benchKeys(30)
	found := make([]dewar.Found[string], len(keys))
	hook.on.Store(true)
	for range 2 * tripInRow {
		func() {
			defer func() {
				if r := recover(); r != "hook" {
					t.Errorf("recovered %v", r)
				}
			}()
			tier.Read(t.Context(), keys, found)
		}()
	}
	hook.on.Store(false)
	tier.Read(t.Context(), keys, found)
	for i, f := range found {
		if f.State != dewar.RemoteAbsent {
			t.Errorf("%s: state %d, error %v", keys[i], f.State, f.Err)
		}
	}
}
