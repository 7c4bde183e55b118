package redistier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar/internal/freeport"
	"github.com/redis/go-redis/v9"
)

// waitFor waits for what others bring about, for long enough on any machine.
func waitFor(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("waited in vain for ", what)
		}
	}
}

// startOwn starts a server that only this test uses, or skips.
func startOwn(tb testing.TB) *redisServer {
	tb.Helper()
	s, err := startServer()
	if err != nil {
		tb.Skip("needs a redis-server: ", err)
	}
	tb.Cleanup(s.stop)
	return s
}

// signal sends sig to the server's process.
func (s *redisServer) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

// kill ends the server's process; stop may still be called.
func (s *redisServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// startIn starts a redis-server in a directory of its own, with a port of its
// own, and waits until it answers.
func startIn(tb testing.TB, mode string, args ...string) *redisServer {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Skip("needs a redis-server: ", err)
	}
	for range 5 {
		var port string
		if port, err = freeport.Pick(); err != nil {
			break
		}
		var s *redisServer
		if s, err = tryIn(tb.TempDir(), path, port, mode, args); err == nil {
			tb.Cleanup(s.kill)
			return s
		}
	}
	tb.Fatal(err)
	return nil
}

func tryIn(dir, path, port, mode string, args []string) (*redisServer, error) {
	config := filepath.Join(dir, "redis.conf") // Sentinel writes into it
	if err := os.WriteFile(config, fmt.Appendf(nil, "bind 127.0.0.1\nport %s\ndir %s\n", port, dir), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, append([]string{config}, args...)...)
	if mode == "--sentinel" {
		f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		for _, line := range args {
			fmt.Fprintln(f, line)
		}
		f.Close()
		cmd = exec.Command(path, config, "--sentinel")
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &redisServer{addr: net.JoinHostPort("127.0.0.1", port), cmd: cmd}
	rdb := redis.NewClient(&redis.Options{Addr: s.addr, Protocol: 2, DisableIdentity: true})
	defer rdb.Close()
	for range 500 {
		info, err := rdb.Info(context.Background(), "server").Result()
		if err == nil && !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)) {
			break // somebody else's
		}
		if err == nil {
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill()
	return nil, fmt.Errorf("%s did not start on %s", path, s.addr)
}

// redisCluster is a Cluster of three primaries, without replicas.
type redisCluster struct {
	nodes []*redisServer
	ids   []string // of the nodes
}

// startCluster starts a Cluster that only this test uses, or skips. A shard
// that is down does not stop the others.
func startCluster(tb testing.TB) *redisCluster {
	tb.Helper()
	c := new(redisCluster)
	for range 3 {
		c.nodes = append(c.nodes, startIn(tb, "", "--save", "", "--appendonly", "no",
			"--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000"))
	}
	ctx := context.Background()
	for i, n := range c.nodes {
		rdb := redis.NewClient(&redis.Options{Addr: n.addr})
		defer rdb.Close()
		start, end := i*slots/3, (i+1)*slots/3-1
		if err := rdb.ClusterAddSlotsRange(ctx, start, end).Err(); err != nil {
			tb.Fatal(err)
		}
		// Two nodes of the same configuration epoch would sort that out later,
		// while tests run.
		if err := rdb.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			tb.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(c.nodes[0].addr)
		if err := rdb.ClusterMeet(ctx, host, port).Err(); i > 0 && err != nil {
			tb.Fatal(err)
		}
		id, err := rdb.ClusterMyID(ctx).Result()
		if err != nil {
			tb.Fatal(err)
		}
		c.ids = append(c.ids, id)
	}
	for _, n := range c.nodes {
		rdb := redis.NewClient(&redis.Options{Addr: n.addr})
		defer rdb.Close()
		waitFor(tb, "the Cluster to form", func() bool {
			info, err := rdb.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_slots_assigned:16384\r\n") && strings.Contains(info, "cluster_size:3\r\n")
		})
	}
	return c
}

// client returns a client that the tier accepts.
func (c *redisCluster) client(tb testing.TB, change ...func(*redis.ClusterOptions)) *redis.ClusterClient {
	tb.Helper()
	opt := &redis.ClusterOptions{ContextTimeoutEnabled: true}
	for _, n := range c.nodes {
		opt.Addrs = append(opt.Addrs, n.addr)
	}
	for _, f := range change {
		f(opt)
	}
	rdb := redis.NewClusterClient(opt)
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

// shardOf returns the number of the node that a slot is on at first.
func (c *redisCluster) shardOf(slot int) int {
	for i := range c.nodes {
		if slot < (i+1)*slots/3 {
			return i
		}
	}
	return -1
}

// move moves a slot with its keys from one node to another, as redis-cli does.
// between is called while the slot is being moved.
func (c *redisCluster) move(tb testing.TB, slot, from, to int, between func()) {
	tb.Helper()
	ctx := context.Background()
	var rdbs []*redis.Client
	for _, n := range c.nodes {
		rdb := redis.NewClient(&redis.Options{Addr: n.addr})
		defer rdb.Close()
		rdbs = append(rdbs, rdb)
	}
	do := func(node int, args ...any) {
		tb.Helper()
		if err := rdbs[node].Do(ctx, args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			tb.Fatal(args, err)
		}
	}
	do(to, "cluster", "setslot", slot, "importing", c.ids[from])
	do(from, "cluster", "setslot", slot, "migrating", c.ids[to])
	between()
	host, port, _ := net.SplitHostPort(c.nodes[to].addr)
	for {
		keys, err := rdbs[from].ClusterGetKeysInSlot(ctx, slot, 100).Result()
		if err != nil {
			tb.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			do(from, "migrate", host, port, key, 0, 5000)
		}
		between()
	}
	for _, node := range []int{to, from, 3 - to - from} {
		do(node, "cluster", "setslot", slot, "node", c.ids[to])
	}
}

// redisSentinel is a primary with a replica, watched by a Sentinel that alone
// decides.
type redisSentinel struct{ primary, replica, sentinel *redisServer }

const sentinelName = "main"

func startSentinel(tb testing.TB) *redisSentinel {
	tb.Helper()
	s := new(redisSentinel)
	s.primary = startIn(tb, "", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(s.primary.addr)
	s.replica = startIn(tb, "", "--save", "", "--appendonly", "no", "--replicaof", host+" "+port)
	rdb := redis.NewClient(&redis.Options{Addr: s.replica.addr})
	defer rdb.Close()
	waitFor(tb, "the replica to be in step", func() bool {
		info, err := rdb.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	s.sentinel = startIn(tb, "--sentinel",
		"sentinel monitor "+sentinelName+" "+host+" "+port+" 1",
		"sentinel down-after-milliseconds "+sentinelName+" 300",
		"sentinel failover-timeout "+sentinelName+" 3000")
	watch := redis.NewSentinelClient(&redis.Options{Addr: s.sentinel.addr})
	defer watch.Close()
	waitFor(tb, "the Sentinel to know the replica", func() bool {
		replicas, err := watch.Replicas(context.Background(), sentinelName).Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	return s
}

// client returns a client that follows the Sentinel.
func (s *redisSentinel) client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: sentinelName, SentinelAddrs: []string{s.sentinel.addr}, ContextTimeoutEnabled: true,
	})
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}
