// Command fleet shows what adding processes costs the origin and Redis: the
// same keys are read by 1, 2, 4, 8 and 16 caches, each with a client of its own,
// on one Redis. Flat loads per second are what a fleet is for.
//
//	go run ./fleet
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar/internal/freeport"
	"github.com/redis/go-redis/v9"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
)

const (
	keyCount = 50
	ttl      = time.Second
	loadTook = 5 * time.Millisecond
	pause    = 20 * time.Millisecond // between two reads of a key by a process
)

func main() {
	addr := flag.String("redis", "", "address of a Redis to use; without it, one is started")
	measured := flag.Duration("for", 10*time.Second, "how long each fleet is measured")
	flag.Parse()
	if err := run(*addr, *measured); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(addr string, measured time.Duration) error {
	if addr == "" {
		var stop func()
		var err error
		if addr, stop, err = startRedis(); err != nil {
			return err
		}
		defer stop()
	}
	ctx := context.Background()
	watch := redis.NewClient(&redis.Options{Addr: addr})
	defer watch.Close()
	fmt.Printf("%d keys, TTL %v, refresh-ahead 0.8, each key read every %v by every process, a load takes %v\n\n", keyCount, ttl, pause, loadTook)
	fmt.Println("processes  loads/s  loads per key and TTL  readers that waited  Redis commands/s: all, each, each when idle  connections")
	first := 0.0
	for _, n := range []int{1, 2, 4, 8, 16} {
		r, err := measure(ctx, addr, watch, n, measured)
		if err != nil {
			return err
		}
		if first == 0 {
			first = r.loads
		}
		fmt.Printf("%9d  %7.1f  %21.3f  %19d  %21.0f %5.0f %14.1f  %11d   (%+.1f %%)\n", n, r.loads, r.loads*ttl.Seconds()/keyCount,
			r.waited, r.commands, r.commands/float64(n), r.idle, r.connections, 100*(r.loads/first-1))
	}
	return announcements(ctx, addr, watch)
}

type result struct {
	loads, commands, idle float64 // a second; idle: of each process
	waited                uint64
	connections           int
}

func measure(ctx context.Context, addr string, watch *redis.Client, n int, measured time.Duration) (r result, err error) {
	var loads atomic.Int64
	caches, stop, err := open(addr, fmt.Sprint("fleet-", n, "-", time.Now().UnixNano()), n, &loads)
	if err != nil {
		return r, err
	}
	defer stop()
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i, c := range caches {
		readers.Go(func() {
			time.Sleep(pause * time.Duration(i) / time.Duration(n))
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				for k := range keyCount {
					_, _ = c.Get(ctx, key(k))
				}
				select {
				case <-tick.C:
				case <-done:
					return
				}
			}
		})
	}
	time.Sleep(2 * ttl) // the cold start
	loadsBefore, commandsBefore, waitedBefore := loads.Load(), commands(ctx, watch), waited(caches)
	begun := time.Now()
	time.Sleep(measured)
	took := time.Since(begun).Seconds()
	r.loads = float64(loads.Load()-loadsBefore) / took
	r.commands = float64(commands(ctx, watch)-commandsBefore) / took
	r.waited = waited(caches) - waitedBefore
	r.connections = info(ctx, watch, "clients", "connected_clients:") - 1
	close(done)
	readers.Wait()
	time.Sleep(100 * time.Millisecond)
	before, begun := commands(ctx, watch), time.Now()
	time.Sleep(5 * time.Second)
	r.idle = float64(commands(ctx, watch)-before-1) / time.Since(begun).Seconds() / float64(n)
	return r, nil
}

func key(k int) string { return fmt.Sprint("title-", k) }

// waited is how many reads waited for a load.
func waited(caches []*dewar.Cache[string, string]) (n uint64) {
	for _, c := range caches {
		n += c.Stats().Loaded
	}
	return n
}

func open(addr, name string, n int, loads *atomic.Int64) (caches []*dewar.Cache[string, string], stop func(), err error) {
	var clients []redis.UniversalClient
	stop = func() {
		for _, c := range caches {
			_ = c.Close()
		}
		for _, c := range clients {
			_ = c.Close()
		}
	}
	for range n {
		rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{addr}}))
		clients = append(clients, rdb)
		c, err := dewar.New(dewar.Config[string, string]{
			Name: name, TTL: ttl,
			Local:  memory.Otter[string]{MaxEntries: 1000},
			Remote: redistier.Config[string]{Client: rdb, Timeout: time.Second},
			LoadMany: func(_ context.Context, keys []string) (map[string]string, error) {
				loads.Add(int64(len(keys)))
				time.Sleep(loadTook)
				m := make(map[string]string, len(keys))
				for _, k := range keys {
					m[k] = "The title of " + k
				}
				return m, nil
			},
		})
		if err != nil {
			stop()
			return nil, nil, err
		}
		caches = append(caches, c)
	}
	return caches, stop, nil
}

// announcements shows what invalidations cost on the stream.
func announcements(ctx context.Context, addr string, watch *redis.Client) error {
	var loads atomic.Int64
	caches, stop, err := open(addr, fmt.Sprint("stream-", time.Now().UnixNano()), 4, &loads)
	if err != nil {
		return err
	}
	defer stop()
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("title-%018d", i)
	}
	out := info(ctx, watch, "stats", "total_net_output_bytes:")
	before := commands(ctx, watch)
	if err := caches[0].Invalidate(ctx, keys...); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	fmt.Printf("\n1000 keys of 24 bytes invalidated, 4 processes: %d commands in all, %.1f bytes to each process a key\n",
		commands(ctx, watch)-before-1, float64(info(ctx, watch, "stats", "total_net_output_bytes:")-out)/4/float64(len(keys)))
	return nil
}

func commands(ctx context.Context, rdb *redis.Client) int {
	return info(ctx, rdb, "stats", "total_commands_processed:")
}

func info(ctx context.Context, rdb *redis.Client, section, field string) int {
	for line := range strings.Lines(rdb.Info(ctx, section).Val()) {
		if v, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}

func startRedis() (addr string, stop func(), err error) {
	port, err := freeport.Pick()
	if err != nil {
		return "", nil, err
	}
	addr = net.JoinHostPort("127.0.0.1", port)
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("needs redis-server, or -redis: %w", err)
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	for range 200 {
		if rdb.Ping(context.Background()).Err() == nil {
			return addr, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("redis-server did not start on %s", addr)
}
