package redistier

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

func TestKilledConnectionsMissNothing(t *testing.T) {
	t.Parallel()
	addr := ownRedis(t)
	a, heard := openEar(t, Config[string]{Client: newClient(t, addr)}, "n")
	other := newClient(t, addr)
	for i := range 5 {
		other.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		other.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "i", "k", fmt.Sprint(i)}})
	}
	heard.await(t, "foreign elsewhere invalidate 4")
	if got := heard.heard(); len(got) != 5 || a.Stats().Gaps != 0 {
		t.Errorf("heard %q, %+v", got, a.Stats())
	}
}

func TestSilentConnectionIsFoundOutAndNothingIsMissed(t *testing.T) {
	t.Parallel()
	stalls, name := newProxy(t, realRedis(t)), newName(t)
	var log logLines
	o, heard := testOptions, new(ear)
	o.Name, o.Events = name, heard
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a := openTier(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: time.Second, MaxDeaf: 7 * time.Second}, o)
	b, _ := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	b.announceAll(t, dewar.AnnounceInvalidate, "before")
	heard.await(t, "foreign invalidate before")
	stalls.mute.Store(true)
	b.announceAll(t, dewar.AnnounceInvalidate, "meanwhile")
	heard.await(t, "deaf 7s")
	if s := a.Stats(); !s.Deaf || s.SilentFor < deafAfter {
		t.Errorf("%+v", s)
	}
	stalls.mute.Store(false)
	heard.await(t, "hearing")
	want := []string{"foreign invalidate before", "deaf 7s", "foreign invalidate meanwhile", "hearing"}
	if got := heard.heard(); !slices.Equal(got, want) {
		t.Errorf("heard %q", got)
	}
	if s := a.Stats(); s.Deaf || s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
	if text := strings.Join(log.lines(), "\n"); strings.Count(text, "stopped coming in") != 1 || strings.Count(text, "come in again") != 1 {
		t.Errorf("logged %s", text)
	}
}

func TestWhatTheStreamHasLostIsAGapAndMovesNoEpoch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(other *redis.Client, stream string)
		want []string
	}{
		"trimmed": {func(other *redis.Client, stream string) {
			other.XTrimMaxLen(t.Context(), stream, 1)
		}, []string{"foreign elsewhere invalidate new"}},
		"deleted": {func(other *redis.Client, stream string) {
			other.Del(t.Context(), stream)
		}, nil},
		"made anew": {func(other *redis.Client, stream string) {
			other.Del(t.Context(), stream)
			other.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: []string{"op", "i", "k", "first"}})
		}, []string{"foreign elsewhere invalidate first"}},
		"made anew with lower ids": {func(other *redis.Client, stream string) {
			other.Del(t.Context(), stream)
			other.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: "5-5", Values: []string{"op", "i", "k", "first"}})
		}, nil},
		"one entry deleted": {func(other *redis.Client, stream string) {
			all, _ := other.XRange(t.Context(), stream, "-", "+").Result()
			for _, e := range all[:len(all)-1] {
				other.XDel(t.Context(), stream, e.ID)
			}
		}, []string{"foreign elsewhere invalidate new"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stalls, name := newProxy(t, realRedis(t)), newName(t)
			a, heard := openEar(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: time.Second}, name)
			a.announceAll(t, dewar.AnnounceInvalidate, "old")
			heard.await(t, "own invalidate old")
			other, epoch := newClient(t, realRedis(t)), a.Stats().Epoch
			stalls.mute.Store(true)
			other.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "i", "k", "new"}})
			c.lose(other, a.stream)
			heard.await(t, "deaf 0s")
			stalls.mute.Store(false)
			heard.await(t, "hearing")
			want := slices.Concat([]string{"own invalidate old", "deaf 0s", "missed"}, c.want, []string{"hearing"})
			if got := heard.heard(); !slices.Equal(got, want) {
				t.Errorf("heard %q, want %q", got, want)
			}
			if s := a.Stats(); s.Gaps != 1 || s.Epoch != epoch {
				t.Errorf("%+v, epoch was %d", s, epoch)
			}
			a.announceAll(t, dewar.AnnounceInvalidate, "later")
			heard.await(t, "own invalidate later")
			time.Sleep(1200 * time.Millisecond)
			if n := a.Stats().Gaps; n != 1 {
				t.Errorf("%d gaps after one", n)
			}
		})
	}
}

// Without the inclusive read this is heard of as one new entry.
func TestStreamMadeAnewWithoutAnyErrorIsAGap(t *testing.T) {
	t.Parallel()
	client, name := newClient(t, realRedis(t)), newName(t)
	a, heard := openEar(t, Config[string]{Client: client}, name)
	time.Sleep(2 * time.Millisecond) // else the new entry may have the id of the hello
	tx := newClient(t, realRedis(t)).TxPipeline()
	tx.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "i", "k", "never heard"}})
	tx.Del(t.Context(), a.stream)
	tx.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "i", "k", "new"}})
	if _, err := tx.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard.await(t, "foreign elsewhere invalidate new")
	if got := heard.heard(); !slices.Equal(got, []string{"missed", "foreign elsewhere invalidate new"}) {
		t.Errorf("heard %q", got)
	}
}

func TestServerThatLosesDeletionsMovesTheEpochOnceForTheFleet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keepDump, write bool // restart with the old dump; somebody announces before anybody looks
		acl             bool // INFO is forbidden
	}{
		"empty": {}, "old dump": {keepDump: true}, "old dump and new entries": {keepDump: true, write: true},
		"old dump without INFO": {keepDump: true, acl: true}, "old dump and new entries without INFO": {keepDump: true, write: true, acl: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newPhoenix(t)
			admin := newClient(t, server.addr)
			if c.acl {
				admin.Do(t.Context(), "acl", "setuser", "default", "-info")
			}
			a, ofA := openEar(t, Config[string]{Client: newClient(t, server.addr)}, "n")
			b, ofB := openEar(t, Config[string]{Client: newClient(t, server.addr)}, "n")
			a.put(t, "k", "old")
			if err := admin.Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			epoch := a.Stats().Epoch
			if err := a.unlinkOne(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			a.announceAll(t, dewar.AnnounceInvalidate, "k")
			ofB.await(t, "foreign invalidate k")
			ofA.await(t, "own invalidate k")
			server.stop()
			if !c.keepDump {
				server.args = append(server.args, "--dbfilename", "other.rdb")
			}
			if c.acl {
				conf := filepath.Join(t.TempDir(), "redis.conf")
				if err := os.WriteFile(conf, []byte("user default on nopass ~* &* +@all -info\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				server.args = slices.Insert(server.args, 1, conf)
			}
			server.riseQuiet(t)
			if c.write {
				admin.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "i", "k", "new"}})
			}
			ofA.await(t, "missed")
			ofB.await(t, "missed")
			eventually(t, "one epoch", func() bool { return a.Stats().Epoch == b.Stats().Epoch })
			for _, tier := range []*tier[string]{a, b} {
				eventually(t, "Redis is asked", func() bool { return tier.readOne(t.Context(), "k").State != dewar.RemoteFailed })
				if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent {
					t.Errorf("state %d, %q: deleted before the server was lost", f.State, f.Entry.Value)
				}
			}
			if got := a.Stats().Epoch; got <= epoch {
				t.Errorf("epoch %d, was %d", got, epoch)
			}
			if ofA.count("all")+ofB.count("all") > 0 {
				t.Errorf("everything was invalidated: %q, %q", ofA.heard(), ofB.heard())
			}
			time.Sleep(1200 * time.Millisecond)
			if n := moves(t, admin, "n", "loss"); n != 1 && !(c.keepDump && n == 2) { // the dump has the first epoch
				t.Errorf("moved %d times", n)
			}
		})
	}
}

func TestServerThatRestartsWithEverythingIsNoLoss(t *testing.T) {
	t.Parallel()
	server := newPhoenix(t)
	admin := newClient(t, server.addr)
	a, heard := openEar(t, Config[string]{Client: newClient(t, server.addr)}, "n")
	a.put(t, "k", "v")
	a.announceAll(t, dewar.AnnounceInvalidate, "l")
	heard.await(t, "own invalidate l")
	epoch := a.Stats().Epoch
	if err := admin.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	server.stop()
	server.rise(t)
	eventually(t, "Redis is back", func() bool { return a.readOne(t.Context(), "k").State == dewar.RemoteValue })
	a.announceAll(t, dewar.AnnounceInvalidate, "m")
	heard.await(t, "own invalidate m")
	if s := a.Stats(); s.Gaps != 0 || s.Epoch != epoch {
		t.Errorf("%+v, epoch was %d", s, epoch)
	}
}

func TestOwnAnnouncementThatWasAnsweredAndLostIsFoundMissing(t *testing.T) {
	t.Parallel()
	a, heard := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, newName(t))
	a.announceAll(t, dewar.AnnounceInvalidate, "k")
	heard.await(t, "own invalidate k")
	a.noteAnnounced(placeID(dewar.Place{Time: uint64(time.Now().Add(time.Hour).UnixMilli())}))
	heard.await(t, "missed")
	time.Sleep(1200 * time.Millisecond)
	if n := heard.count("missed"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestLateJoin(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []bool{false, true} {
		t.Run(fmt.Sprint("announced meanwhile ", meanwhile), func(t *testing.T) {
			t.Parallel()
			stalls, name := newProxy(t, realRedis(t)), newName(t)
			b, _ := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
			b.announceAll(t, dewar.AnnounceInvalidate, "long ago")
			time.Sleep(1500 * time.Millisecond) // beyond doubt
			stalls.mute.Store(true)
			var log logLines
			o, heard := testOptions, new(ear)
			o.Name, o.Events = name, heard
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			began := time.Now()
			a := openTier(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: 200 * time.Millisecond}, o)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("opened after %v", took)
			}
			for op, err := range everyOperation(t.Context(), a) {
				if !errors.Is(err, ErrNotJoined) {
					t.Errorf("%s: %v", op, err)
				}
			}
			heard.await(t, "deaf 0s")
			if meanwhile {
				b.announceAll(t, dewar.AnnounceInvalidate, "k")
			}
			stalls.mute.Store(false)
			heard.await(t, "hearing")
			want := []string{"deaf 0s", "hearing"}
			if meanwhile {
				want = []string{"deaf 0s", "missed", "hearing"}
			}
			if got := heard.heard(); !slices.Equal(got, want) {
				t.Errorf("heard %q, want %q", got, want)
			}
			if f := a.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent || a.Stats().Epoch != b.Stats().Epoch {
				t.Errorf("state %d, %v", f.State, f.Err)
			}
			if text := strings.Join(log.lines(), "\n"); strings.Count(text, "Redis fails") != 1 || strings.Count(text, "joined the fleet") != 1 {
				t.Errorf("logged %s", text)
			}
		})
	}
}
