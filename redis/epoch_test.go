package redistier

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

func TestNextEpochReachesTheFleetAlsoWhoIsDeafMeanwhile(t *testing.T) {
	t.Parallel()
	stalls, name := newProxy(t, realRedis(t)), newName(t)
	a, ofA := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	b, ofB := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	deaf, ofDeaf := openEar(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: time.Second}, name)
	a.put(t, "k", "v")
	if f := b.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Fatalf("state %d", f.State)
	}
	stalls.mute.Store(true)
	ofDeaf.await(t, "deaf 0s")
	for range 3 {
		if err := a.NextEpoch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := a.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent {
			t.Errorf("state %d after NextEpoch", f.State)
		}
	}
	eventually(t, "three moves", func() bool { return ofB.count("all") == 3 })
	if f := b.readOne(t.Context(), "k"); f.State != dewar.RemoteAbsent {
		t.Errorf("state %d after AnnouncedAll", f.State)
	}
	stalls.mute.Store(false)
	ofDeaf.await(t, "hearing")
	if n := ofDeaf.count("all"); n != 3 {
		t.Errorf("told %d times: %q", n, ofDeaf.heard())
	}
	if a, b, d := a.Stats().Epoch, b.Stats().Epoch, deaf.Stats().Epoch; a != b || a != d {
		t.Errorf("epochs %d, %d, %d", a, b, d)
	}
	a.announceAll(t, dewar.AnnounceSet, "end")
	eventually(t, "the echo", func() bool { return ofA.count("own set end") == 1 })
	if ofA.count("all")+ofA.count("missed") > 0 {
		t.Errorf("told of its own moves: %q", ofA.heard())
	}
}

func TestLostEpochIsMadeOrWrittenBackAndAllMeet(t *testing.T) {
	t.Parallel()
	client, name := newClient(t, realRedis(t)), newName(t)
	a, ofA := openEar(t, Config[string]{Client: client}, name)
	first := a.Stats().Epoch
	eventually(t, "nobody looks at the epoch", a.hub.Load().waits)
	client.Del(t.Context(), a.epochKey)
	b, _ := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	eventually(t, "one epoch", func() bool { return a.Stats().Epoch == b.Stats().Epoch && a.Stats().Epoch > first })
	ofA.await(t, "missed")

	for _, stored := range []string{"", "1", "nonsense", "99999999999999999999", "4503599627370497"} {
		if client.Del(t.Context(), a.epochKey); stored != "" {
			client.Set(t.Context(), a.epochKey, stored, 0)
		}
		a.kept.Store(0) // an hour later
		b.kept.Store(0)
		if stored == "" {
			eventually(t, "written back", func() bool { return parseEpoch(client.Get(t.Context(), a.epochKey).Val()) == a.Stats().Epoch })
			continue
		}
		before := a.Stats().Epoch
		if err := b.NextEpoch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.Stats().Epoch; got != before+1 {
			t.Errorf("%q stored: epoch %d follows %d", stored, got, before)
		}
		eventually(t, "one epoch", func() bool { return a.Stats().Epoch == b.Stats().Epoch })
	}
}

func TestStoredEpochIsComparedAfterAnError(t *testing.T) {
	t.Parallel()
	stalls, admin := newProxy(t, realRedis(t)), newClient(t, realRedis(t))
	a, heard := openEar(t, Config[string]{Client: newClient(t, stalls.addr()), Timeout: time.Second}, newName(t))
	stall := func() {
		stalls.mute.Store(true)
		eventually(t, "a silence", a.deaf.Load)
		stalls.mute.Store(false)
	}
	mine := a.Stats().Epoch
	admin.Set(t.Context(), a.epochKey, mine-1, 0)
	stall()
	eventually(t, "written back", func() bool { return parseEpoch(admin.Get(t.Context(), a.epochKey).Val()) == mine })
	admin.Set(t.Context(), a.epochKey, mine+10, 0)
	eventually(t, "announcements again", func() bool { return !a.deaf.Load() })
	stall()
	heard.await(t, "all")
	if got := a.Stats().Epoch; got != mine+10 {
		t.Errorf("epoch %d, want %d", got, mine+10)
	}
}

// A deletion under the old epoch says nothing of the copies under the new one.
func TestAnnouncementsFromAnotherEpochAreElsewhere(t *testing.T) {
	t.Parallel()
	client, name := newClient(t, realRedis(t)), newName(t)
	a, ofA := openEar(t, Config[string]{Client: client}, name)
	b, ofB := openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	if err := b.NextEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	ofA.await(t, "all")
	client.XAdd(t.Context(), &redis.XAddArgs{Stream: a.stream, Values: []string{"op", "s", "k", "m", "from", a.from, "as", "1:0:1"}})
	ofA.await(t, "own set m")
	ofB.await(t, "foreign elsewhere set m")
	a.announceAll(t, dewar.AnnounceInvalidate, "k")
	ofB.await(t, "foreign invalidate k")
	ofA.await(t, "own invalidate k")
	if got := ofA.heard(); !slices.Equal(got, []string{"all", "own set m", "own invalidate k"}) {
		t.Errorf("heard %q", got)
	}
}

func TestMovesOfOthersAreToldAlsoWhenBehindOurOwn(t *testing.T) {
	t.Parallel()
	heard := new(ear)
	f := &follower{w: &wire{log: testOptions.Logger}, from: "me", events: heard, told: 5}
	ks := newKeyspace("dewar", "n", "0", 5)
	f.keys.Store(&ks)
	f.adopt(7) // our own move
	for _, e := range []entry{
		{op: "e", from: "other", epoch: 6, why: whyAll}, // before ours
		{op: "e", from: "me", epoch: 7, why: whyAll},
		{op: "e", from: "other", why: whyAll}, // a writer that knows no numbers
		{op: "e", from: "other", epoch: 8, why: whyLoss},
		{op: "e", from: "me", epoch: 9, why: whyAll}, // a NextEpoch that has failed
		{op: "e", from: "other", epoch: 4, why: whyAll},
	} {
		f.hear(e)
	}
	if got := heard.heard(); !slices.Equal(got, []string{"all", "all", "missed", "all", "all"}) || f.keys.Load().epoch != 9 {
		t.Errorf("heard %q, epoch %d", got, f.keys.Load().epoch)
	}
	f.moving = 1
	f.hear(entry{op: "e", from: "me", epoch: 10, why: whyAll})
	if got := fmt.Sprint(len(heard.heard()), f.keys.Load().epoch, f.echoed); got != "5 10 10" {
		t.Errorf("own move under way: %s", got)
	}
	// Found stored while our own move is under way: it is told if it was another's.
	if err := f.followStored(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(len(heard.heard()), f.keys.Load().epoch); got != "5 11" {
		t.Errorf("own move found stored: %s", got)
	}
	f.hear(entry{op: "e", from: "other", epoch: 11, why: whyAll})
	f.moving = 0
	// Found stored before it is heard of: told once. But the number may come again.
	if err := f.followStored(t.Context(), 12); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.hear(entry{op: "e", from: "other", epoch: 12, why: whyAll})
	}
	if got := fmt.Sprint(len(heard.heard()), f.keys.Load().epoch); got != "8 12" {
		t.Errorf("found stored, and heard twice: %s", got)
	}
}

func TestFleetMovesOnceForOneLoss(t *testing.T) {
	t.Parallel()
	name := newName(t)
	var fleet [3]*tier[string]
	for i := range fleet {
		fleet[i], _ = openEar(t, Config[string]{Client: newClient(t, realRedis(t))}, name)
	}
	move := func(server string) (moved [3]uint64) {
		var cmds [3]*redis.SliceCmd
		for i, tier := range fleet { // before one hears of another's move
			cmds[i] = tier.epochCmd(t.Context(), epochLoss, whyLoss, server)
		}
		for i, tier := range fleet {
			err := tier.client.Process(t.Context(), cmds[i])
			if err != nil {
				t.Fatal(err)
			}
			if moved[i], err = tier.epochReply(cmds[i]); err != nil {
				t.Fatal(err)
			}
		}
		for i, tier := range fleet {
			tier.adopt(moved[i])
		}
		return moved
	}
	last := fleet[0].Stats().Epoch
	// The servers' names are remembered side by side; nameless ones count by
	// who is behind.
	for _, c := range []struct {
		server string
		by     uint64
	}{{"a", 1}, {"b", 1}, {"a", 0}, {"", 1}, {"", 1}, {"b", 0}, {"c", 1}} {
		if got := move(c.server); got != [3]uint64{last + c.by, last + c.by, last + c.by} {
			t.Errorf("%q: %d, epoch was %d", c.server, got, last)
		}
		last += c.by
	}
}
