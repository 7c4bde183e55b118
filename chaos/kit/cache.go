package kit

import (
	"cmp"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// Cache is the cache of these checks.
type Cache = dewar.Cache[string, Value]

// Config describes one.
type Config struct {
	Client redis.UniversalClient
	Origin *Origin
	Log    *Log // nil: none

	Timeout time.Duration // of one round trip to Redis; 0: Timeout

	// Change, unless nil, changes what Open would use.
	Change func(*dewar.Config[string, Value], *redistier.Config[Value])
}

// Timeout is that of one round trip to Redis, the default, spelled out: what
// readers may wait for is measured by it.
const Timeout = 100 * time.Millisecond

// Open opens a cache of both tiers, whose entries live for a minute.
func Open(cfg Config) (*Cache, error) {
	remote := redistier.Config[Value]{Client: cfg.Client, Timeout: cmp.Or(cfg.Timeout, Timeout)}
	c := dewar.Config[string, Value]{
		Name:  "chaos",
		TTL:   time.Minute,
		Local: memory.Config[Value]{MaxEntries: 100_000},
		Load:  cfg.Origin.Load,
	}
	if cfg.Log != nil {
		c.Logger = cfg.Log.Logger()
	}
	if cfg.Change != nil {
		cfg.Change(&c, &remote)
	}
	c.Remote = remote
	return dewar.New(c)
}

// NewCache opens a cache and closes it with the test.
func NewCache(tb testing.TB, cfg Config) *Cache {
	tb.Helper()
	c, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() }) // a server that is gone by now leaves deletions unconfirmed
	return c
}

// AwaitJoined waits until c is one of its fleet, which on a loaded machine it
// may not be at once.
func AwaitJoined(tb testing.TB, c *Cache) {
	tb.Helper()
	Eventually(tb, "the cache has joined its fleet", func() bool { return c.Stats().Remote.Epoch > 0 })
}

// Plain returns a client with nothing set but what the tier insists on.
func Plain(tb testing.TB, addr string, change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: addr, ContextTimeoutEnabled: true}
	for _, f := range change {
		f(o)
	}
	rdb := redis.NewClient(o)
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

// Hardened returns a client with the settings of redistier.Harden: of a
// Cluster if there are several addresses.
func Hardened(tb testing.TB, addrs ...string) redis.UniversalClient {
	rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: addrs}))
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

// HardenedFailover is Hardened for the primary that a Sentinel watches.
func HardenedFailover(tb testing.TB, sentinel string) redis.UniversalClient {
	rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{sentinel}, MasterName: Master}))
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}
