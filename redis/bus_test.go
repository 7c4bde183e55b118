package redistier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

func TestAnnouncementsComeInOrderAndEcho(t *testing.T) {
	for name, addr := range map[string]string{"redis": realRedis(t), "miniredis": startMini(t).Addr()} {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprint(name, protocol), func(t *testing.T) {
				name := newName(t)
				cfg := func() Config[string] {
					return Config[string]{Client: newClient(t, addr, func(o *redis.Options) { o.Protocol = protocol })}
				}
				a, ofA := openEar(t, cfg(), name)
				_, ofB := openEar(t, cfg(), name)
				var places []dewar.Place
				places = append(places, a.announceAll(t, dewar.AnnounceInvalidate, "k", "\xff\x00:{}")...)
				places = append(places, a.announceAll(t, dewar.AnnounceSet, "")...)
				places = append(places, a.announceAll(t, dewar.AnnounceExpire, "l")...)
				ofA.await(t, "own expire l")
				ofB.await(t, "foreign expire l")
				if got := ofA.heard(); !slices.Equal(got, []string{"own invalidate k,\xff\x00:{}", "own set ", "own expire l"}) {
					t.Errorf("own: %q", got)
				}
				if got := ofB.heard(); !slices.Equal(got, []string{"foreign invalidate k,\xff\x00:{}", "foreign set ", "foreign expire l"}) {
					t.Errorf("foreign: %q", got)
				}
				if places[0] != places[1] || !places[1].Before(places[2]) || !places[2].Before(places[3]) {
					t.Errorf("places %v", places)
				}
				for i, at := range []int{0, 2, 3} {
					if ofB.anns[i].Place != places[at] {
						t.Errorf("heard at %v, announced at %v", ofB.anns[i].Place, places[at])
					}
				}
				if s := a.Stats(); s.Announced != 4 || s.Heard != 0 || s.Epoch == 0 || s.Deaf {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestCachesOfOneNameInOneProcessAreStrangers(t *testing.T) {
	cfg, name := Config[string]{Client: newClient(t, realRedis(t))}, newName(t)
	a, ofA := openEar(t, cfg, name)
	b, ofB := openEar(t, cfg, name)
	if a.hub.Load() != b.hub.Load() {
		t.Error("two readers for one client")
	}
	other, _ := openEar(t, Config[string]{Client: cfg.Client, Prefix: "other"}, name)
	if other.hub.Load() == a.hub.Load() {
		t.Error("one reader for two slots")
	}
	a.announceAll(t, dewar.AnnounceInvalidate, "k")
	ofB.await(t, "foreign invalidate k")
	ofA.await(t, "own invalidate k")
	b.Close()
	a.announceAll(t, dewar.AnnounceInvalidate, "l")
	ofA.await(t, "own invalidate l")
	if ofB.count("foreign invalidate l") > 0 {
		t.Error("told after Close")
	}
}

// counter counts round trips that carry a command of the given name.
type counter struct {
	name string
	n    atomic.Int64
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == c.name {
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == c.name }) {
			c.n.Add(1)
		}
		return next(ctx, cmds)
	}
}

func TestThousandKeysAreOneRoundTripAndBoundedEntries(t *testing.T) {
	client, name := newClient(t, realRedis(t)), newName(t)
	a, ofA := openEar(t, Config[string]{Client: client}, name)
	trips := &counter{name: "xadd"}
	client.AddHook(trips)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%d:%s", i, strings.Repeat("x", i%150))
	}
	keys[500] = strings.Repeat("long", 5000) // an entry of its own
	a.announceAll(t, dewar.AnnounceInvalidate, keys...)
	if n := trips.n.Load(); n != 1 {
		t.Errorf("%d round trips", n)
	}
	var heard []string
	eventually(t, "all keys", func() bool {
		ofA.mu.Lock()
		defer ofA.mu.Unlock()
		heard = nil
		for _, a := range ofA.anns {
			heard = append(heard, a.Keys...)
		}
		return len(heard) == len(keys)
	})
	if !slices.Equal(heard, keys) {
		t.Error("not the keys, in order")
	}
	for _, a := range ofA.anns {
		if n := len(strings.Join(a.Keys, "")); len(a.Keys) > maxEntryKeys || n > maxEntryBytes && len(a.Keys) > 1 {
			t.Errorf("%d keys of %d bytes in one entry", len(a.Keys), n)
		}
	}
	for _, key := range []string{a.stream, a.epochKey} {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl < 6*24*time.Hour || ttl > 7*24*time.Hour {
			t.Errorf("%s lives %v", key, ttl)
		}
	}
}

// calls returns how many commands the server was sent, but those that ask.
func calls(tb testing.TB, rdb *redis.Client) (n int) {
	tb.Helper()
	info, err := rdb.Info(context.Background(), "commandstats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(info) {
		var calls int
		name, rest, _ := strings.Cut(line, ":calls=")
		if _, err := fmt.Sscanf(rest, "%d,", &calls); err == nil && name != "cmdstat_info" {
			n += calls
		}
	}
	return n
}

func TestIdleProcessSendsTwoCommandsASecondForAllItsCaches(t *testing.T) {
	t.Parallel()
	for _, caches := range []int{1, 10} {
		addr := ownRedis(t)
		cfg, watch := Config[string]{Client: newClient(t, addr)}, newClient(t, addr)
		var last *ear
		for i := range caches {
			var tier *tier[string]
			tier, last = openEar(t, cfg, fmt.Sprint("n", i))
			tier.announceAll(t, dewar.AnnounceInvalidate, "k")
		}
		last.await(t, "own invalidate k")
		eventually(t, "everything is kept on", func() bool { return cfg.Client.PTTL(t.Context(), epochKey("dewar", "n0")).Val() > 0 })
		time.Sleep(time.Second)
		before, began := calls(t, watch), time.Now()
		time.Sleep(5 * time.Second)
		n, took := calls(t, watch)-before, time.Since(began)
		t.Logf("%d caches: %d commands in %v", caches, n, took)
		if most := int(2*took.Seconds()) + 2; n > most || n < 2 {
			t.Errorf("%d caches: %d commands in %v", caches, n, took)
		}
	}
}

func TestNewCacheHearsAtOnceWhileTheReaderWaits(t *testing.T) {
	client, other := newClient(t, realRedis(t)), newClient(t, realRedis(t))
	first, _ := openEar(t, Config[string]{Client: client}, newName(t))
	best := time.Hour
	for range 3 {
		h := first.hub.Load()
		eventually(t, "the wait is over", func() bool { return !h.waits() })
		eventually(t, "a wait has begun", h.waits)
		name := newName(t)
		_, heard := openEar(t, Config[string]{Client: client}, name)
		began := time.Now()
		other.XAdd(t.Context(), &redis.XAddArgs{Stream: streamKey("dewar", name), Values: []string{"op", "i", "k", "x"}})
		heard.await(t, "foreign elsewhere invalidate x")
		best = min(best, time.Since(began))
	}
	if best > busBlock/2 {
		t.Errorf("heard after %v: when the reader came round", best)
	}
}

func TestCloseDoesNotWaitForAnnouncements(t *testing.T) {
	best := time.Hour
	for range 3 {
		tier, _ := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, newName(t))
		h := tier.hub.Load()
		eventually(t, "a wait has begun", h.waits)
		began := time.Now()
		tier.Close()
		best = min(best, time.Since(began))
		if h.back.start(func(context.Context) {}) {
			t.Error("the reader goes on after the last Close")
		}
	}
	if best > busBlock/2 {
		t.Errorf("closed after %v", best)
	}
}

func TestOneWriterInAnotherLanguageNeedsOneXADD(t *testing.T) {
	client, name := newClient(t, realRedis(t)), newName(t)
	tier, heard := openEar(t, Config[string]{Client: client}, name)
	add := func(fields ...any) {
		t.Helper()
		if err := client.Do(t.Context(), append([]any{"xadd", "{dewar}:stream:" + name, "*"}, fields...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add("op", "i", "k", "a", "k", "b")
	add("op", "i", "k", "c", "as", "1:9:1", "from", "somebody", "new", "field")
	add("k", "d", "op", "x")
	add("op", "future", "k", "e")
	add("op", "future")
	add("k", "f")
	add("op", "s", "k", "g", "as", tier.keys.Load().as)
	add("op", "h", "k", "no")
	add("op", "e")
	add("op", "e", "n", "18446744073709551615")
	add("op", "e", "n", "-1")
	add("op", "e", "n", "1")
	add("op", "i", "k", "end")
	heard.await(t, "foreign elsewhere invalidate end")
	want := []string{
		"foreign elsewhere invalidate a,b", "foreign elsewhere invalidate c", "foreign elsewhere expire d",
		"foreign elsewhere invalidate e", "foreign elsewhere invalidate f", "foreign set g",
		"foreign elsewhere invalidate end",
	}
	if got := heard.heard(); !slices.Equal(got, want) {
		t.Errorf("heard %q", got)
	}
	if s := tier.Stats(); s.Heard != 8 || s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTrafficIsNoGap(t *testing.T) {
	t.Parallel()
	client, name := newClient(t, realRedis(t)), newName(t)
	a, ofA := openEar(t, Config[string]{Client: client}, name)
	b, ofB := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	for i := range 60 {
		a.announceAll(t, dewar.AnnounceInvalidate, fmt.Sprint(i))
		b.announceAll(t, dewar.AnnounceInvalidate, fmt.Sprint(i))
		if i%20 == 0 {
			time.Sleep(1100 * time.Millisecond)
		}
	}
	keys := make([]string, 1000) // more entries than one reply holds
	for i := range keys {
		keys[i] = strings.Repeat("x", maxEntryBytes)
	}
	a.announceAll(t, dewar.AnnounceSet, keys...)
	a.announceAll(t, dewar.AnnounceInvalidate, "end")
	ofA.await(t, "own invalidate end")
	ofB.await(t, "foreign invalidate end")
	if a, b := a.Stats(), b.Stats(); a.Gaps+b.Gaps > 0 || a.Heard != 60 || b.Heard != 1061 {
		t.Errorf("%+v, %+v", a, b)
	}
	if n := ofB.count("missed") + ofB.count("all"); n > 0 || len(ofB.heard()) != 60+60+1001 {
		t.Errorf("heard %d events", len(ofB.heard()))
	}
}

func TestPollsWhereNoConnectionMayWait(t *testing.T) {
	client := newClient(t, realRedis(t), func(o *redis.Options) { o.PoolSize = 1 })
	a, heard := openEar(t, Config[string]{Client: client}, newName(t))
	if !a.hub.Load().polls {
		t.Error("waits on the only connection")
	}
	a.announceAll(t, dewar.AnnounceInvalidate, "k")
	heard.await(t, "own invalidate k")
}

func TestTierWithoutEventsAnnouncesAndFollowsEpochs(t *testing.T) {
	client, name := newClient(t, realRedis(t)), newName(t)
	o := testOptions
	o.Name = name
	mute := openTier(t, Config[string]{Client: client}, o)
	other, heard := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	mute.announceAll(t, dewar.AnnounceInvalidate, "k")
	heard.await(t, "foreign invalidate k")
	if err := other.NextEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other's epoch", func() bool { return mute.Stats().Epoch == other.Stats().Epoch })
}

func FuzzEntriesOfStrangers(f *testing.F) {
	f.Add("1-1", "op", "i", "k", "x", uint8(0))
	f.Add("1-1", "op", "e", "n", "99", uint8(1))
	f.Add("18446744073709551615-18446744073709551615", "as", "", "from", "x", uint8(2))
	f.Add("-", "k", "\xff", "op", "\x00", uint8(3))
	f.Fuzz(func(t *testing.T, id, n1, v1, n2, v2 string, shape uint8) {
		heard := new(ear)
		w := &wire{log: testOptions.Logger, clock: newRedisClock(nil, time.Now, testOptions.Logger)}
		fo := &follower{w: w, from: "me", events: heard}
		ks := newKeyspace("dewar", "videos", "0", 5)
		fo.keys.Store(&ks)
		fields := []any{n1, v1, n2, v2}
		switch shape % 4 {
		case 1:
			fields = fields[:3]
		case 2:
			fields[1] = int64(7)
		case 3:
			fields[2] = nil
		}
		entries := []any{[]any{id, fields}, []any{id}, "x", nil, []any{nil, nil}}
		for _, reply := range []any{map[any]any{"s": entries, 1: entries}, []any{[]any{"s", entries}, []any{entries}, nil}} {
			for _, e := range parseStreams(reply)["s"] {
				fo.hear(e)
				if back, ok := parsePlace(placeID(e.place)); !ok || back != e.place {
					t.Errorf("%v is read back as %v", e.place, back)
				}
				if before, ok := parsePlace(justBefore(e.place)); !ok || e.place.Before(before) {
					t.Errorf("%v is before %v", before, e.place)
				}
			}
		}
		if fo.keys.Load().epoch < 5 || fo.keys.Load().epoch >= maxEpoch {
			t.Errorf("epoch %d", fo.keys.Load().epoch)
		}
	})
}
