package dewartest

import (
	"slices"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

// RemoteTier checks the contract of dewar.RemoteTier. open opens a tier with
// the given options, each time on the same server: two tiers with the same
// options are two processes of a fleet. What open needs to clean up it
// registers with t.Cleanup; the suite closes the tiers.
//
// The tier must take the address of everything from its options, and must let
// a key live for as long as it is told within a few milliseconds. What comes by
// itself, such as announcements, may take up to 5 s. The suite takes about two
// seconds, most of it waiting for expiries.
func RemoteTier(t *testing.T, open func(t *testing.T, o dewar.RemoteOptions) dewar.RemoteTier[string]) {
	for _, c := range slices.Concat(remoteContract, useContract, leaseContract, fleetContract) {
		t.Run(c.name, func(t *testing.T) {
			c.check(&remoteProbe{
				t: t, lease: time.Minute,
				open: func(o dewar.RemoteOptions) dewar.RemoteTier[string] { return open(t, o) },
			})
		})
	}
}

// remoteCheck is one subtest of the suite.
type remoteCheck struct {
	name  string
	check func(*remoteProbe)
}

// remoteContract is about keys, fences and expiry.
var remoteContract = []remoteCheck{
	{"AbsentKeyIsAbsent", func(p *remoteProbe) {
		p = p.start()
		p.wantAbsent("k")
		if got := p.read(); len(got) != 0 {
			p.t.Fatalf("no keys, but answers")
		}
	}},
	{"LeaseIsGrantedOnce", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.granted("k")
		a.wantState(b.takeLease("k")[0], dewar.RemoteLeased)
		a.wantState(a.takeLease("k")[0], dewar.RemoteLeased)
		a.wantState(b.read("k")[0], dewar.RemoteLeased)
	}},
	{"FilledLeaseIsReadByAll", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.put("k", "v")
		f := b.wantValue("k", "v")
		if f.Entry.Due != f.Entry.Fresh || f.Entry.Negative() {
			p.t.Fatalf("entry %+v: Due is not Fresh", f.Entry)
		}
		f = b.takeLease("k")[0] // adopt
		b.wantState(f, dewar.RemoteValue)
		if f.Entry.Value != "v" {
			p.t.Fatalf("adopted %q", f.Entry.Value)
		}
	}},
	{"SchemasAreApart", func(p *remoteProbe) {
		a := p.start()
		a.put("k", "v")
		a.schema = "1"
		a.start().wantAbsent("k")
	}},
	{"FillAfterUnlinkIsFenced", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		fence := a.granted("k")
		b.unlink("k")
		a.wantFenced(a.fill(filling("k", fence, "old")))
		a.wantAbsent("k")
	}},
	{"FillAfterAnothersLeaseIsFenced", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		fence := a.granted("k")
		b.unlink("k")
		theirs := b.granted("k")
		a.wantFenced(a.fill(filling("k", fence, "old")))
		a.wantState(a.read("k")[0], dewar.RemoteLeased)
		a.wantOK(b.fill(filling("k", theirs, "new")))
		a.wantFenced(a.fill(filling("k", fence, "old")))
		a.wantValue("k", "new")
	}},
	{"FillAfterTheLeaseExpiredIsFenced", func(p *remoteProbe) {
		p.lease = 20 * time.Millisecond
		p = p.start()
		fence := p.granted("k")
		time.Sleep(60 * time.Millisecond)
		p.wantFenced(p.fill(filling("k", fence, "old")))
		p.wantAbsent("k")
		p.granted("k")
	}},
	{"FillTwiceIsFenced", func(p *remoteProbe) {
		p = p.start()
		fence := p.granted("k")
		p.wantOK(p.fill(filling("k", fence, "first")))
		p.wantFenced(p.fill(filling("k", fence, "second")))
		p.wantValue("k", "first")
	}},
	{"ZeroFenceGrantsNothing", func(p *remoteProbe) {
		p = p.start()
		p.wantFenced(p.fill(filling("k", dewar.Fence{}, "v")))
		p.wantAbsent("k")
		p.put("k", "v")
		p.wantFenced(p.fill(filling("k", dewar.Fence{}, "w")))
		p.wantFenced(p.release("k", dewar.Fence{}))
		p.wantValue("k", "v")
	}},
	{"FillOfADeadEntryStoresNothing", func(p *remoteProbe) {
		p = p.start()
		f := filling("k", p.granted("k"), "v")
		f.Dead = dewar.Clock()
		p.fill(f)
		p.wantAbsent("k")
	}},
	{"RefreshGoesOverTheFenceSeen", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v1")
		seen := p.wantValue("k", "v1")
		p.wantOK(p.fill(filling("k", seen.Fence, "v2")))
		if now := p.wantValue("k", "v2"); now.Fence == seen.Fence {
			p.t.Fatalf("a new write has the old fence")
		}
	}},
	{"OfTwoRefreshersOneWins", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.put("k", "v")
		mine, theirs := a.wantValue("k", "v"), b.wantValue("k", "v")
		a.wantOK(a.fill(filling("k", mine.Fence, "mine")))
		b.wantFenced(b.fill(filling("k", theirs.Fence, "theirs")))
		b.wantValue("k", "mine")
		if got := b.tier.Stats().Refused; got != 1 {
			p.t.Fatalf("Refused is %d, want 1", got)
		}
	}},
	{"SeizeBeatsALeaseAndItsFill", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		theirs := b.granted("k")
		mine := a.seize("k")
		a.wantState(mine, dewar.RemoteGranted)
		b.wantFenced(b.fill(filling("k", theirs, "loaded")))
		a.wantOK(a.fill(filling("k", mine.Fence, "set")))
		b.wantValue("k", "set")
	}},
	{"SeizeHidesTheValueAtOnce", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "old")
		seen := p.wantValue("k", "old")
		p.wantState(p.seize("k"), dewar.RemoteGranted)
		p.wantState(p.read("k")[0], dewar.RemoteLeased)
		p.wantFenced(p.fill(filling("k", seen.Fence, "refreshed")))
	}},
	{"OfTwoSeizersTheLastWins", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		first, second := a.seize("k"), b.seize("k")
		a.wantFenced(a.fill(filling("k", first.Fence, "first")))
		b.wantOK(b.fill(filling("k", second.Fence, "second")))
		a.wantValue("k", "second")
	}},
	{"SeizedLeaseExpires", func(p *remoteProbe) {
		p.lease = 20 * time.Millisecond
		p = p.start()
		p.seize("k")
		time.Sleep(60 * time.Millisecond)
		p.wantAbsent("k")
	}},
	{"ReleaseDeletesOnlyItsOwn", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		fence := a.granted("k")
		b.unlink("k")
		theirs := b.granted("k")
		a.wantFenced(a.release("k", fence))
		a.wantState(a.read("k")[0], dewar.RemoteLeased)
		b.wantOK(b.release("k", theirs))
		b.wantAbsent("k")
		b.wantFenced(b.release("k", theirs))
		b.put("k", "v")
		b.wantOK(b.release("k", b.wantValue("k", "v").Fence))
		b.wantAbsent("k")
	}},
	{"UnlinkDeletesWhateverIsThere", func(p *remoteProbe) {
		p = p.start()
		p.put("value", "v")
		p.granted("lease")
		p.unlink("value", "lease", "absent", "value")
		for _, key := range []string{"value", "lease", "absent"} {
			p.wantAbsent(key)
		}
	}},
	{"ExpireMakesAValueStale", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v")
		before := p.wantValue("k", "v")
		p.expire(time.Minute, "k", "absent")
		after := p.wantValue("k", "v")
		if now := dewar.Clock(); after.Entry.Fresh > now {
			p.t.Fatalf("fresh for another %v", time.Duration(after.Entry.Fresh-now))
		}
		p.wantFenced(p.fill(filling("k", before.Fence, "loaded before")))
		p.wantOK(p.fill(filling("k", after.Fence, "loaded after")))
		p.wantValue("k", "loaded after")
		p.wantAbsent("absent")
	}},
	{"ExpireFencesRefreshersOfStaleValues", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v")
		p.expire(time.Minute, "k")
		stale := p.wantValue("k", "v")
		p.expire(time.Minute, "k")
		again := p.wantValue("k", "v")
		p.wantFenced(p.fill(filling("k", stale.Fence, "loaded before")))
		if again.Entry.Fresh > stale.Entry.Fresh+int64(5*time.Millisecond) {
			p.t.Fatalf("a second Expire made the value younger")
		}
	}},
	{"ExpiredValueIsKeptForKeep", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v")
		p.expire(20*time.Millisecond, "k")
		time.Sleep(60 * time.Millisecond)
		p.wantAbsent("k")
	}},
	{"ExpireNeverKeepsLonger", func(p *remoteProbe) {
		p = p.start()
		f := filling("k", p.granted("k"), "v")
		f.Dead = dewar.Clock() + int64(40*time.Millisecond)
		p.wantOK(p.fill(f))
		p.expire(time.Hour, "k")
		time.Sleep(80 * time.Millisecond)
		p.wantAbsent("k")
	}},
	{"ExpireDeletesLeasesAndNegatives", func(p *remoteProbe) {
		p = p.start()
		fence := p.granted("lease")
		p.putNegative("negative")
		p.expire(time.Minute, "lease", "negative")
		p.wantAbsent("lease")
		p.wantAbsent("negative")
		p.wantFenced(p.fill(filling("lease", fence, "loaded before")))
	}},
	{"NegativeEntries", func(p *remoteProbe) {
		p = p.start()
		p.putNegative("k")
		f := p.read("k")[0]
		p.wantState(f, dewar.RemoteValue)
		if !f.Entry.Negative() || f.Entry.Value != "" || f.Entry.Fresh <= dewar.Clock() {
			p.t.Fatalf("entry %+v", f.Entry)
		}
		p.wantState(p.takeLease("k")[0], dewar.RemoteValue)
		p.wantOK(p.fill(filling("k", f.Fence, "now it exists")))
		p.wantValue("k", "now it exists")
	}},
	{"TimesSurvive", func(p *remoteProbe) {
		p = p.start()
		now := dewar.Clock()
		f := filling("k", p.granted("k"), "v")
		f.Entry.Loaded = now - int64(3*time.Second)
		f.Entry.Fresh = now + int64(7*time.Second)
		f.Entry.Due = now + int64(5*time.Second)
		f.Took = 1234567 * time.Nanosecond
		p.wantOK(p.fill(f))
		got := p.wantValue("k", "v")
		const tolerance = int64(50 * time.Millisecond) // the clocks are read one after the other
		for _, c := range []struct {
			what      string
			got, want int64
		}{
			{"Loaded", got.Entry.Loaded, f.Entry.Loaded},
			{"Fresh", got.Entry.Fresh, f.Entry.Fresh},
			{"Due", got.Entry.Due, f.Entry.Fresh},
		} {
			if d := c.got - c.want; d > tolerance || d < -tolerance {
				p.t.Errorf("%s is off by %v", c.what, time.Duration(d))
			}
		}
		if got.Took != f.Took {
			p.t.Errorf("Took %v, want %v", got.Took, f.Took)
		}
	}},
	{"HardExpiryRemoves", func(p *remoteProbe) {
		p = p.start()
		f := filling("k", p.granted("k"), "v")
		f.Dead = dewar.Clock() + int64(40*time.Millisecond)
		p.wantOK(p.fill(f))
		time.Sleep(80 * time.Millisecond)
		p.wantAbsent("k")
		p.granted("k")
	}},
}
