package outage

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// foundWithin is when a cache must have found out that it was deaf: 2s, and
// slack for a loaded machine.
const foundWithin = 3 * time.Second

// invalidate commits new versions of keys and invalidates them in c, which
// returns the versions.
func (s *scene) invalidate(t *testing.T, c *kit.Cache, keys ...string) map[string]int64 {
	t.Helper()
	versions := make(map[string]int64)
	for _, key := range keys {
		versions[key] = s.origin.Commit(key)
	}
	if err := c.Invalidate(context.Background(), keys...); err != nil && !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Fatal(err)
	}
	return versions
}

// serves reports whether c serves nothing older than versions.
func serves(t *testing.T, c *kit.Cache, versions map[string]int64) bool {
	t.Helper()
	for key, version := range versions {
		v, err := c.Get(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		if v.Version < version {
			return false
		}
	}
	return true
}

// Of connections that die all at once, as when a firewall forgets them, the
// ones that lie idle in the pool must not be found out one after another.
func TestConnectionsThatSwallowAllAreFound(t *testing.T) {
	t.Parallel()
	s := &scene{server: kit.StartServer(t), origin: new(kit.Origin)}
	line := new(kit.Line)
	client := kit.Plain(t, s.server.Addr, func(o *redis.Options) { o.Dialer, o.PoolSize = line.Dial, 20 })
	s.openCaches(t, client, kit.Hardened(t, s.server.Addr), 0)
	s.warm(t)
	gaps := s.a.Stats().Remote.Gaps
	for range 3 {
		var conns []*redis.Conn
		for range 12 {
			conn := client.Conn()
			if err := conn.Ping(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			conn.Close() // gives it back
		}
		if n := line.Mute(); n < len(conns) {
			t.Fatalf("there were %d connections to mute", n)
		}
		muted := time.Now()
		versions := s.invalidate(t, s.b, hotKeys[:10]...)
		kit.Within(t, foundWithin, "the cache behind mute connections hears, or knows that it does not", func() bool {
			return s.a.Stats().Remote.Deaf || serves(t, s.a, versions)
		})
		kit.Within(t, backWithin-foundWithin, "it hears", func() bool { return serves(t, s.a, versions) })
		t.Logf("heard after %v", time.Since(muted).Round(time.Millisecond))
	}
	if n := s.a.Stats().Remote.Gaps - gaps; n > 0 {
		t.Errorf("%d gaps; the stream was whole, and nothing missed", n)
	}
}

func TestNetworkThatSwallowsAllIsToldAndWhatWasMissedIsNotServed(t *testing.T) {
	t.Parallel()
	s := openScene(t, outage{})
	s.warm(t)
	gaps := s.a.Stats().Remote.Gaps
	s.network.Swallow(t)
	kit.Within(t, foundWithin, "the cache knows that it is deaf", func() bool { return s.a.Stats().Remote.Deaf })
	if s.b.Stats().Remote.Deaf {
		t.Error("the other cache thinks that it is deaf")
	}
	versions := s.invalidate(t, s.b, hotKeys[:10]...)
	if serves(t, s.a, versions) {
		t.Error("the cache has heard through a network that passes nothing on")
	}
	loads := s.origin.Loads(hotKeys[10:]...)
	s.network.Heal()
	kit.Within(t, backWithin, "the cache hears again", func() bool { return !s.a.Stats().Remote.Deaf })
	if !serves(t, s.a, versions) {
		t.Error("the cache hears again, and serves as fresh what it has missed the invalidation of")
	}
	if r := s.a.Stats().Remote; r.Gaps > gaps || r.SilentFor > foundWithin {
		t.Errorf("%+v; want no gap, as the stream was whole", r)
	}
	if n := s.origin.Loads(hotKeys[10:]...) - loads; n > 0 {
		t.Errorf("%d loads of what nobody has invalidated", n)
	}
}

func TestKilledConnectionsMissNothing(t *testing.T) {
	t.Parallel()
	s := openScene(t, outage{})
	s.warm(t)
	loads, gaps := s.origin.Loads(hotKeys...), s.gaps()
	for turn := range 20 {
		kit.Do(t, s.admin, "client", "kill", "type", "normal", "skipme", "yes")
		from, to := s.a, s.b
		if turn%2 > 0 {
			from, to = to, from
		}
		versions := s.invalidate(t, from, changed)
		kit.Within(t, foundWithin, "the other cache hears", func() bool { return serves(t, to, versions) })
	}
	if n := s.gaps() - gaps; n > 0 {
		t.Errorf("%d gaps; the stream was whole", n)
	}
	for _, c := range []*kit.Cache{s.a, s.b} {
		allLocal(t, c)
	}
	if n := s.origin.Loads(hotKeys...) - loads; n > 0 {
		t.Errorf("%d loads of what nobody has invalidated", n)
	}
}

// gaps counts those of both caches.
func (s *scene) gaps() uint64 { return s.a.Stats().Remote.Gaps + s.b.Stats().Remote.Gaps }

// allLocal checks that the hot keys are answered locally.
func allLocal(t *testing.T, c *kit.Cache) {
	t.Helper()
	for _, key := range hotKeys {
		if got, err := c.GetResult(context.Background(), key); err != nil || got.Tier != dewar.TierLocal {
			t.Errorf("%s: from %s, %v; want it from the local tier", key, got.Tier, err)
		}
	}
}

// stream is that of the caches.
const stream = "{dewar}:stream:chaos"

// lose makes an invalidation of key that no cache can hear, as a writer in
// another language would make it: the stream loses it at once, by how.
func (s *scene) lose(t *testing.T, key string, how ...[]any) int64 {
	t.Helper()
	ctx := context.Background()
	version := s.origin.Commit(key)
	_, err := s.admin.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Unlink(ctx, s.redisKey(key))
		p.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"op", "i", "k", key}})
		for _, args := range how {
			p.Do(ctx, args...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// redisKey is where the caches keep key.
func (s *scene) redisKey(key string) string {
	return fmt.Sprintf("dewar:1:chaos:0:%d:%s", s.a.Stats().Remote.Epoch, key)
}

func TestWhatAStreamLosesIsNoticed(t *testing.T) {
	for name, how := range map[string][][]any{
		"trimmed":    {{"xtrim", stream, "maxlen", 0}},
		"deleted":    {{"del", stream}},
		"re-created": {{"del", stream}, {"xadd", stream, "*", "op", "h"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openScene(t, outage{})
			s.warm(t)
			if n := kit.Do(t, s.admin, "exists", s.redisKey(changed), stream); n != int64(2) {
				t.Fatal("the value or the stream is not where it was looked for")
			}
			loads, gaps := s.origin.Loads(hotKeys...), s.gaps()
			version := s.lose(t, changed, how...)
			for _, c := range []*kit.Cache{s.a, s.b} {
				kit.Within(t, foundWithin, "what was lost is missed", func() bool { return serves(t, c, map[string]int64{changed: version}) })
				// All is compared with Redis once, which has it, and trusted again.
				for _, key := range hotKeys {
					if _, err := c.Get(context.Background(), key); err != nil {
						t.Error(err)
					}
				}
				allLocal(t, c)
			}
			if n := s.gaps() - gaps; n != 2 {
				t.Errorf("%d gaps; want one for each cache", n)
			}
			if n := s.origin.Loads(hotKeys...) - loads; n > 0 {
				t.Errorf("%d loads of what Redis has", n)
			}
		})
	}
}

func TestNothingIsDoubtedWhenNothingWasMissed(t *testing.T) {
	t.Parallel()
	s := openScene(t, outage{slack: 5 * time.Second}) // a machine that stalls is no outage
	s.warm(t)
	loads, gaps := s.origin.Loads(hotKeys...), s.gaps()
	hot := func(int, int) []string { return hotKeys }
	readers := []*kit.Reader{
		kit.StartReader(t, s.a, s.origin, 1, 5*time.Millisecond, hot),
		kit.StartReader(t, s.b, s.origin, 1, 5*time.Millisecond, hot),
	}
	time.Sleep(2500 * time.Millisecond) // nobody announces anything
	for turn := range 300 {
		key := fmt.Sprint("busy", turn%10)
		s.invalidate(t, s.a, key)
		s.invalidate(t, s.b, key, key+"b")
		if err := s.a.Set(context.Background(), key, kit.Value{Key: key, Version: 1}); err != nil {
			t.Error(err)
		}
	}
	for i, c := range []*kit.Cache{s.a, s.b} {
		readers[i].Stop()
		tally := readers[i].Cut()
		tally.Check(t, "hot reads")
		if tally.Tiers[dewar.TierLocal] != tally.Reads() {
			t.Errorf("reads were answered from %v; all were fresh locally", tally.Tiers)
		}
		if r := c.Stats().Remote; r.Deaf || r.Heard == 0 {
			t.Errorf("%+v; want announcements heard", r)
		}
	}
	if n := s.gaps() - gaps; n > 0 {
		t.Errorf("%d gaps; nothing was missed", n)
	}
	if n := s.origin.Loads(hotKeys...) - loads; n > 0 {
		t.Errorf("%d loads of what nobody has invalidated", n)
	}
}

func TestWithoutRedisFreshEntriesCostTheOriginNothing(t *testing.T) {
	for name, c := range map[string]struct {
		localTTL time.Duration
		doubt    bool
	}{
		"whose LocalTTL is over":   {localTTL: 200 * time.Millisecond},
		"that are in doubt":        {doubt: true},
		"that are in doubt and so": {localTTL: 200 * time.Millisecond, doubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openScene(t, outage{})
			lone := kit.NewCache(t, kit.Config{Client: s.client, Origin: s.origin, Change: func(cfg *dewar.Config[string, kit.Value], _ *redistier.Config[kit.Value]) {
				cfg.LocalTTL = c.localTTL
			}})
			kit.AwaitJoined(t, lone)
			s.a = lone
			s.warm(t)
			if gaps := lone.Stats().Remote.Gaps; c.doubt {
				kit.Do(t, s.admin, "del", stream)
				kit.Eventually(t, "the stream is missed", func() bool { return lone.Stats().Remote.Gaps > gaps })
			}
			s.server.Pause(t)
			loads := s.origin.Loads(hotKeys...)
			r := kit.StartReader(t, lone, s.origin, 2, 5*time.Millisecond, func(int, int) []string { return hotKeys })
			kit.Eventually(t, "the cache knows that Redis is away", func() bool { return lone.Stats().Remote.Deaf })
			time.Sleep(500 * time.Millisecond)
			r.Stop()
			tally := r.Cut()
			tally.Check(t, "reads without Redis")
			if n := s.origin.Loads(hotKeys...) - loads; n > 0 || tally.Reads() == 0 {
				t.Errorf("%d loads for %d reads of fresh entries", n, tally.Reads())
			}
			if p99 := tally.Percentile(99); p99 > missWithin {
				t.Errorf("p99 is %v", p99)
			}
			s.server.Resume(t)
			kit.Within(t, backWithin, "Redis is used again", func() bool { return s.hands(lone, s.b) && s.hands(s.b, lone) && calm(lone) })
		})
	}
}

func TestServerThatComesBackFromAnOldDumpBringsNothingBack(t *testing.T) {
	t.Parallel()
	s := openScene(t, outage{})
	s.warm(t)
	kit.Do(t, s.admin, "save")
	versions := s.invalidate(t, s.a, changed)
	kit.Eventually(t, "both have heard", func() bool { return serves(t, s.a, versions) && serves(t, s.b, versions) })
	epoch := s.a.Stats().Remote.Epoch
	old := s.redisKey(changed)
	s.server.Kill()
	s.server.Restart(t)
	if n := kit.Do(t, s.admin, "exists", old); n != int64(1) {
		t.Fatal("the dump has not brought the deleted value back")
	}
	kit.Within(t, backWithin, "the fleet leaves all that the dump has brought back", func() bool {
		return s.a.Stats().Remote.Epoch > epoch && s.b.Stats().Remote.Epoch == s.a.Stats().Remote.Epoch
	})
	late := kit.NewCache(t, kit.Config{Client: kit.Plain(t, s.server.Addr), Origin: s.origin})
	kit.AwaitJoined(t, late)
	for _, c := range []*kit.Cache{s.a, s.b, late} {
		if !serves(t, c, versions) {
			t.Error("what was deleted is served")
		}
	}
}
