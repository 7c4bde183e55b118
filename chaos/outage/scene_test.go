package outage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/redis/go-redis/v9"
)

// scene is a fleet of two caches on one Redis. The first reaches it through a
// network that can fail, by a client with nothing set but what the tier insists
// on; the second straight, by a hardened one.
type scene struct {
	server  *kit.Server
	network *kit.Network
	admin   *redis.Client
	client  redis.UniversalClient // of a
	origin  *kit.Origin
	a, b    *kit.Cache
	log     *kit.Log // of a
	turn    int      // of both

	cluster     *kit.Cluster
	streamShard int   // that has the streams
	otherShard  int   // that is down, or that slots are moved to
	moving      []int // slots of streamShard
	sentinel    *kit.Sentinel

	undo func() // for the end of some outages
}

// user and password are those of outages that take rights away.
const (
	user     = "app"
	password = "secret"
)

func openScene(t *testing.T, o outage) *scene {
	s := &scene{server: kit.StartServer(t, o.serve...), origin: new(kit.Origin)}
	// One connection, kept: outages of connections are not for it.
	s.admin = redis.NewClient(&redis.Options{Addr: s.server.Addr, PoolSize: 1, Protocol: 2, DisableIdentity: true, ReadTimeout: 10 * time.Second})
	t.Cleanup(func() { s.admin.Close() })
	s.network = kit.StartNetwork(t, s.server.Addr)
	if o.user != "" {
		kit.Do(t, s.admin, "acl", "setuser", user, "on", ">"+password, "~*", "&*", "+@all")
	}
	s.client = kit.Plain(t, s.network.Addr, func(opt *redis.Options) {
		opt.PoolSize = o.pool
		if o.user != "" {
			opt.Username, opt.Password = o.user, password
		}
	})
	s.openCaches(t, s.client, kit.Hardened(t, s.server.Addr), o.slack)
	return s
}

func (s *scene) openCaches(t *testing.T, a, b redis.UniversalClient, slack time.Duration) {
	s.log = new(kit.Log)
	s.a = kit.NewCache(t, kit.Config{Client: a, Origin: s.origin, Log: s.log, Timeout: slack})
	s.b = kit.NewCache(t, kit.Config{Client: b, Origin: s.origin, Timeout: slack})
	kit.AwaitJoined(t, s.a)
	kit.AwaitJoined(t, s.b)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of a:\n%s", s.log)
		}
	})
}

// warm makes both caches have all keys that are to be fresh locally, and trust
// them: a cache that was slow to reach Redis compares what it has once.
func (s *scene) warm(t *testing.T) {
	t.Helper()
	for _, c := range []*kit.Cache{s.a, s.b} {
		kit.Eventually(t, "all is local", func() bool {
			all := true
			for _, key := range append([]string{changed}, hotKeys...) {
				got, err := c.GetResult(context.Background(), key)
				if err != nil {
					t.Fatal(err)
				}
				all = all && got.Tier == dewar.TierLocal
			}
			return all
		})
		_ = c.Wait(context.Background()) // a write may have come too late
	}
}

// settle waits until what c has to write is written.
func (s *scene) settle(t *testing.T, c *kit.Cache) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// fills counts those of both caches.
func (s *scene) fills() (done, failed uint64) {
	a, b := s.a.Stats(), s.b.Stats()
	return a.Filled + b.Filled, a.WritesFailed + b.WritesFailed
}

// both returns what reports whether both caches write to Redis, find there
// what the other has written, and say that all is well.
func (s *scene) both() func() bool {
	var fromA, fromB bool
	return func() bool {
		fromA = fromA || s.hands(s.a, s.b)
		fromB = fromB || s.hands(s.b, s.a)
		return fromA && fromB && calm(s.a) && calm(s.b)
	}
}

// hands reports whether what one cache loads gets to the other through Redis.
func (s *scene) hands(from, to *kit.Cache) bool {
	s.turn++
	key := fmt.Sprint("handed", s.turn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := from.Get(ctx, key); err != nil || from.Wait(ctx) != nil {
		return false
	}
	got, err := to.GetResult(ctx, key)
	return err == nil && got.Tier == dewar.TierRemote
}

func calm(c *kit.Cache) bool {
	s := c.Stats()
	return s.Remote.OpenBreakers == 0 && !s.Remote.Deaf && s.PendingInvalidations == 0
}

// within waits for what must be so soon after an outage has ended.
func (s *scene) within(t *testing.T, ended time.Time, what string, done func() bool) {
	t.Helper()
	for !done() {
		if time.Since(ended) > backWithin {
			t.Fatalf("not within %v: %s\na: %+v\nb: %+v", backWithin, what, s.a.Stats(), s.b.Stats())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
