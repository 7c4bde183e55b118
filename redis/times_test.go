package redistier

import (
	"math"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

func TestTimesAreClampedOnRead(t *testing.T) {
	tier, mini := miniTier(t)
	const minute, hours = int64(time.Minute), int64(5 * time.Hour)
	type times struct{ loaded, fresh, dead int64 } // relative to now
	for _, c := range []struct {
		name string
		in   times
		want times
		dead bool
	}{
		{"plausible", times{-minute, minute, 2 * minute}, times{-minute, minute, 2 * minute}, false},
		{"writer hours ahead", times{hours, hours + minute, hours + 2*minute}, times{0, minute, 2 * minute}, false},
		{"stale", times{-2 * minute, -minute, minute}, times{-2 * minute, -minute, minute}, false},
		{"dead", times{-3 * minute, -2 * minute, -1}, times{}, true},
		{"fresh after it is dead", times{-minute, hours, minute}, times{-minute, minute, minute}, false},
		{"for ever", times{-minute, math.MaxInt64, math.MaxInt64}, times{-minute, math.MaxInt64, math.MaxInt64}, false},
	} {
		now := tier.clock.read(t.Context())
		at := func(d int64) int64 {
			if d == math.MaxInt64 {
				return d
			}
			return now.unix + d
		}
		env := envelope{
			fence: newFence(kindValue), codec: codecCBOR,
			loaded: at(c.in.loaded), fresh: at(c.in.fresh), dead: at(c.in.dead),
		}
		raw := openEnvelope(nil, &env, "k", false)
		raw, _ = tier.codec.Append(raw, "v")
		mini.Set(tier.keys.Load().redisKey("k"), string(tier.reseal(raw, "k")))
		f := tier.readOne(t.Context(), "k")
		if c.dead {
			if f.State != dewar.RemoteAbsent {
				t.Errorf("%s: state %d", c.name, f.State)
			}
			// It is replaced by a lease, as nobody has a use for it.
			if f := tier.leaseOne(t.Context(), "k"); f.State != dewar.RemoteGranted {
				t.Errorf("%s: Lease: state %d", c.name, f.State)
			}
			continue
		}
		const tolerance = int64(5 * time.Second)
		near := func(got, want int64) bool {
			if want == math.MaxInt64 {
				return got == want
			}
			d := got - now.mono - want
			return -tolerance < d && d < tolerance
		}
		if f.State != dewar.RemoteValue || !near(f.Entry.Loaded, c.want.loaded) || !near(f.Entry.Fresh, c.want.fresh) {
			t.Errorf("%s: state %d, loaded %v, fresh %v", c.name, f.State,
				time.Duration(f.Entry.Loaded-now.mono), time.Duration(f.Entry.Fresh-now.mono))
		}
		if f.Entry.Loaded > dewar.Clock() {
			t.Errorf("%s: loaded in the future", c.name)
		}
	}
}

func TestEntriesWithoutEndAreKept(t *testing.T) {
	tier, mini := miniTier(t)
	f := aFill("k", tier.leaseOne(t.Context(), "k").Fence, "v")
	f.Entry.Fresh, f.Dead = math.MaxInt64, math.MaxInt64
	fills := []dewar.Fill[string]{f}
	if tier.Fill(t.Context(), fills); fills[0].Err != nil {
		t.Fatal(fills[0].Err)
	}
	if got := tier.readOne(t.Context(), "k"); got.Entry.Fresh != math.MaxInt64 || got.State != dewar.RemoteValue {
		t.Errorf("%+v", got)
	}
	if ttl := mini.TTL(tier.keys.Load().redisKey("k")); ttl < maxKeep-time.Hour {
		t.Errorf("TTL %v", ttl)
	}
}
