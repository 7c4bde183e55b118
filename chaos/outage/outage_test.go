package outage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
)

func TestMain(m *testing.M) {
	kit.SilenceClients()
	os.Exit(m.Run())
}

// outage is one way in which Redis fails, and what is expected of the caches
// besides what is expected of them in every outage.
type outage struct {
	name  string
	open  func(t *testing.T, o outage) *scene // nil: openScene
	serve []string                            // arguments of the server
	user  string                              // by which the first cache logs in; "": none
	pool  int                                 // PoolSize of its client; 0: the default
	slack time.Duration                       // Timeout of both caches; 0: kit.Timeout

	begin  func(t *testing.T, s *scene)
	during func(t *testing.T, s *scene) // unless nil: does or checks more half-way through
	end    func(t *testing.T, s *scene)
	lasts  time.Duration // 0: 2.5s

	shuts  bool // breakers must open
	denied bool // refused for want of a right: told as such, and no breaker opens
	doubts bool // announcements may be missed meanwhile: local copies are compared
	works  bool // Redis must be of use all the while
}

// TestOutage puts two caches of a fleet through each outage, with a healthy
// origin. Each row is one of the table in docs/OPERATIONS.md.
func TestOutage(t *testing.T) {
	for _, o := range slices.Concat(processes, networks, refusals, topologies) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			open := openScene
			if o.open != nil {
				open = o.open
			}
			open(t, o).play(t, o)
		})
	}
}

// hotKeys are read all the time, and fresh in both caches.
var hotKeys = func() (keys []string) {
	for i := range 20 {
		keys = append(keys, fmt.Sprint("hot", i))
	}
	return keys
}()

// changed is invalidated by the first cache while Redis fails.
const changed = "changed"

// Both caches read the same cold keys, at the same time, each once: one of
// them loads it, the other finds it in Redis while that is of use.
const (
	coldReaders = 4
	coldPause   = 2 * time.Millisecond
	missWithin  = time.Second     // p99 of local misses, for a Timeout of a tenth of it
	backWithin  = 5 * time.Second // after the end of an outage
)

func coldKeys(reader, turn int) []string { return []string{fmt.Sprintf("cold%d-%d", reader, turn)} }

// play lets the outage begin and end under readers, and checks what every
// outage must keep:
//
//	(a) no reader sees an error, nor a value that was not written for its key,
//	    nor on the cache that invalidates one older than that
//	(b) what is fresh locally is answered locally, and costs the origin nothing
//	(c) a local miss is bounded, and soon does not wait for Redis any more
//	(d) within 5s of the end Redis is used again
//	(e) an invalidation during it is accepted, and within 5s of the end is
//	    everywhere
func (s *scene) play(t *testing.T, o outage) {
	ctx := context.Background()
	s.warm(t)
	hot := func(int, int) []string { return hotKeys }
	readers := map[string]*kit.Reader{
		"hot reads of a":  kit.StartReader(t, s.a, s.origin, 2, 5*time.Millisecond, hot),
		"hot reads of b":  kit.StartReader(t, s.b, s.origin, 1, 5*time.Millisecond, hot),
		"cold reads of a": kit.StartReader(t, s.a, s.origin, coldReaders, coldPause, coldKeys),
		"cold reads of b": kit.StartReader(t, s.b, s.origin, coldReaders, coldPause, coldKeys),
		"reads of a of what is changed": kit.StartReader(t, s.a, s.origin, 1, 5*time.Millisecond,
			func(int, int) []string { return []string{changed} }),
	}
	cut := func(phase string) map[string]kit.Tally {
		tallies := make(map[string]kit.Tally)
		for who, r := range readers {
			tally := r.Cut()
			tally.Check(t, who+" "+phase)
			tallies[who] = tally
		}
		return tallies
	}
	time.Sleep(300 * time.Millisecond)
	calm := cut("before")
	if n := calm["cold reads of a"].Tiers[dewar.TierRemote] + calm["cold reads of b"].Tiers[dewar.TierRemote]; n == 0 {
		t.Error("neither cache found anything of the other's in Redis before the outage")
	}

	fills, failures := s.fills()
	before, loads := s.a.Stats(), s.origin.Loads(hotKeys...)
	o.begin(t, s)
	began := time.Now()
	lasts := o.lasts
	if lasts == 0 {
		lasts = 2500 * time.Millisecond
	}
	time.Sleep(lasts / 2)

	version := s.origin.Commit(changed)
	if err := s.a.Invalidate(ctx, changed); err != nil && !errors.Is(err, dewar.ErrInvalidationPending) {
		t.Errorf("Invalidate during the outage: %v", err)
	} else {
		t.Logf("Invalidate during the outage: %v", err)
	}
	readers["reads of a of what is changed"].Raise(changed, version)

	if o.during != nil {
		o.during(t, s)
	}

	first := cut("in the first half")
	half := s.a.Stats()
	shut, opened := false, 0
	for time.Since(began) < lasts {
		n := s.a.Stats().Remote.OpenBreakers
		shut, opened = shut || n > 0, max(opened, n)
		time.Sleep(20 * time.Millisecond)
	}
	late := s.a.Stats()
	second := cut("in the second half")
	if !o.doubts {
		for _, tally := range []kit.Tally{first["hot reads of a"], second["hot reads of a"], first["hot reads of b"], second["hot reads of b"]} {
			if tally.Tiers[dewar.TierLocal] != tally.Reads() {
				t.Errorf("hot reads were answered from %v; all were fresh locally", tally.Tiers)
			}
		}
		if n := s.origin.Loads(hotKeys...) - loads; n > 0 {
			t.Errorf("%d loads of keys that were fresh locally", n)
		}
	}
	misses := second["cold reads of a"]
	errs := late.Remote.Errors - half.Remote.Errors
	if o.shuts {
		if !shut {
			t.Errorf("no breaker of the cache that cannot reach Redis opened: %+v", late.Remote)
		}
		if int(errs) > misses.Reads()/2 {
			t.Errorf("%d commands failed in %d reads of the second half; breakers should have spared most", errs, misses.Reads())
		}
	}
	if o.denied {
		if late.Remote.Denied == before.Remote.Denied || !s.log.Has(slog.LevelError, "denies access") {
			t.Errorf("Denied is %d; want it told, and logged as an error:\n%s", late.Remote.Denied, s.log)
		}
		if shut {
			t.Error("a breaker opened; a lost right is for people to mend")
		}
	}
	if o.works && !o.shuts {
		if shut {
			t.Error("a breaker opened, but Redis is of use")
		}
		if done, failed := s.fills(); failed-failures > (done-fills)/10 {
			t.Errorf("%d fills failed, %d did not; Redis is of use", failed-failures, done-fills)
		}
	}
	if found := misses.Tiers[dewar.TierRemote] + second["cold reads of b"].Tiers[dewar.TierRemote]; o.works && found == 0 {
		t.Error("nothing was found in Redis, which should be of use meanwhile")
	}

	o.end(t, s)
	ended := time.Now()
	s.within(t, ended, "the other cache serves what was changed", func() bool {
		v, err := s.b.Get(ctx, changed)
		return err == nil && v.Version >= version
	})
	t.Logf("b has heard after %v", time.Since(ended).Round(time.Millisecond))
	s.within(t, ended, "both caches use Redis again", s.both())
	t.Logf("Redis is used again after %v", time.Since(ended).Round(time.Millisecond))
	for _, r := range readers {
		r.Stop()
	}
	cut("after")

	for _, phase := range []struct {
		name    string
		tallies map[string]kit.Tally
	}{{"before", calm}, {"first half", first}, {"second half", second}} {
		hit, miss := phase.tallies["hot reads of a"], phase.tallies["cold reads of a"]
		t.Logf("%-11s  hits %5d p50 %8v p99 %8v   misses %5d p50 %8v p99 %8v %v", phase.name,
			hit.Reads(), hit.Percentile(50), hit.Percentile(99),
			miss.Reads(), miss.Percentile(50), miss.Percentile(99), miss.Tiers)
		for _, who := range []string{"cold reads of a", "cold reads of b"} {
			tally := phase.tallies[who]
			if p99 := tally.Percentile(99); p99 > missWithin {
				t.Errorf("%s, %s: p99 is %v", who, phase.name, p99)
			}
		}
	}
	t.Logf("errors %d, then %d in the second half; breakers open %d; denied %d; gaps %d", half.Remote.Errors-before.Remote.Errors, errs, opened,
		late.Remote.Denied-before.Remote.Denied, s.a.Stats().Remote.Gaps-before.Remote.Gaps)
}
