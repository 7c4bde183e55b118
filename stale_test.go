package dewar

import (
	"math"
	"testing"
	"time"
)

// Instants of the table: an entry that was loaded at 1000 s, is due at 1008 s,
// and fresh until 1010 s.
const (
	sec      = int64(time.Second)
	loadedAt = 1000 * sec
	dueAt    = 1008 * sec
	freshAt  = 1010 * sec
)

func testEntry() *Entry[string] {
	return &Entry[string]{Value: "v", Loaded: loadedAt, Due: dueAt, Fresh: freshAt}
}

func (v verdict) String() string {
	return [...]string{
		verdictLoad: "load", verdictFallback: "fallback", verdictAtOnce: "at once", verdictCheck: "check",
		verdictRevalidate: "revalidate", verdictStale: "stale", verdictStaleOnly: "stale only", verdictDue: "due",
		verdictHit: "hit", verdictNegative: "negative",
	}[v]
}

func TestAtTheExactDeadlineAnEntryHasLeftTheEarlierAge(t *testing.T) {
	plain := Stale{}
	ifError := Stale{IfError: 20 * time.Second}
	revalidate := Stale{WhileRevalidate: 5 * time.Second}
	both := Stale{IfError: 20 * time.Second, WhileRevalidate: 5 * time.Second}
	longRevalidate := Stale{IfError: 5 * time.Second, WhileRevalidate: 20 * time.Second}
	tests := []struct {
		stale  Stale
		at     int64 // the last instant of before, in ns after it begins; after from the next
		before verdict
		after  verdict
	}{
		{plain, dueAt, verdictHit, verdictDue},
		{plain, freshAt, verdictDue, verdictLoad},
		{ifError, dueAt, verdictHit, verdictDue},
		{ifError, freshAt, verdictDue, verdictFallback},
		{ifError, freshAt + 20*sec, verdictFallback, verdictLoad},
		{revalidate, freshAt, verdictDue, verdictRevalidate},
		{revalidate, freshAt + 5*sec, verdictRevalidate, verdictLoad},
		{both, freshAt, verdictDue, verdictRevalidate},
		{both, freshAt + 5*sec, verdictRevalidate, verdictFallback},
		{both, freshAt + 20*sec, verdictFallback, verdictLoad},
		{longRevalidate, freshAt + 5*sec, verdictRevalidate, verdictRevalidate},
		{longRevalidate, freshAt + 20*sec, verdictRevalidate, verdictLoad},
	}
	for _, tt := range tests {
		r := newRules(10*time.Second, 5*time.Second, 0, 0.8, tt.stale)
		for now, want := range map[int64]verdict{tt.at - 1: tt.before, tt.at: tt.after} {
			if got := judge(&r, testEntry(), now, readOptions{}); got != want {
				t.Errorf("%+v: %v after the load began: %v; want %v", tt.stale, time.Duration(now-loadedAt), got, want)
			}
		}
	}
}

func TestNothingCachedIsLoaded(t *testing.T) {
	r := newRules(10*time.Second, 5*time.Second, 0, 0.8, Stale{IfError: time.Hour})
	if got := judge[string](&r, nil, loadedAt, readOptions{}); got != verdictLoad {
		t.Error(got)
	}
	if canFallBack[string](&r, nil, loadedAt, readOptions{}) {
		t.Error("nothing stood in for a failed load")
	}
}

func TestNegativeEntriesAreFreshThenDead(t *testing.T) {
	r := newRules(10*time.Second, 5*time.Second, 0, 0.8, Stale{IfError: time.Hour, WhileRevalidate: time.Hour})
	e := newNegative[string](&r, loadedAt, loadedAt+sec)
	if want := loadedAt + 5*sec; e.Fresh != want || deadAt(&r, &e) != want {
		t.Fatalf("fresh until %d, dead at %d; want both %d", e.Fresh, deadAt(&r, &e), want)
	}
	for now, want := range map[int64]verdict{
		loadedAt:    verdictNegative,
		e.Fresh - 1: verdictNegative,
		e.Fresh:     verdictLoad,
	} {
		if got := judge(&r, &e, now, readOptions{}); got != want {
			t.Errorf("%v after the load began: %v; want %v", time.Duration(now-loadedAt), got, want)
		}
		if canFallBack(&r, &e, now, readOptions{}) {
			t.Error("a negative entry stood in for a failed load")
		}
	}
}

func TestHardExpiryIsFreshPlusTheLongerStaleWindow(t *testing.T) {
	for _, tt := range []struct {
		stale Stale
		keep  time.Duration
	}{
		{Stale{}, 0},
		{Stale{IfError: time.Minute}, time.Minute},
		{Stale{WhileRevalidate: time.Minute}, time.Minute},
		{Stale{IfError: time.Minute, WhileRevalidate: time.Hour}, time.Hour},
		{Stale{IfError: time.Hour, WhileRevalidate: time.Minute}, time.Hour},
	} {
		r := newRules(10*time.Second, 5*time.Second, 0, 0.8, tt.stale)
		want := freshAt + int64(tt.keep)
		if got := deadAt(&r, testEntry()); got != want {
			t.Errorf("%+v: dead %v after fresh; want %v", tt.stale, time.Duration(got-freshAt), tt.keep)
		}
		if dead(&r, testEntry(), want-1) || !dead(&r, testEntry(), want) {
			t.Errorf("%+v: not dead exactly at hard expiry", tt.stale)
		}
	}
}

func TestReadOptionsAtEveryAge(t *testing.T) {
	const fresh, due, stale, late, gone = loadedAt + 7*sec, freshAt - 1, freshAt, freshAt + 10*sec, freshAt + 20*sec
	instants := []int64{fresh, due, stale, late, gone}
	s := Stale{IfError: 20 * time.Second, WhileRevalidate: 5 * time.Second}
	tests := []struct {
		name  string
		stale Stale
		o     readOptions
		want  []verdict // at each of instants
	}{
		{"none", s, readOptions{}, []verdict{verdictHit, verdictDue, verdictRevalidate, verdictFallback, verdictLoad}},
		{"CacheOnly", s, readOptions{cacheOnly: true}, []verdict{verdictHit, verdictHit, verdictStale, verdictStale, verdictLoad}},
		{"CacheOnly", Stale{}, readOptions{cacheOnly: true}, []verdict{verdictHit, verdictHit, verdictLoad, verdictLoad, verdictLoad}},
		{"CacheOnly NoStale", s, readOptions{cacheOnly: true, noStale: true}, []verdict{verdictHit, verdictHit, verdictLoad, verdictLoad, verdictLoad}},
		{"NoStale", s, readOptions{noStale: true}, []verdict{verdictHit, verdictDue, verdictLoad, verdictLoad, verdictLoad}},
		{"Reload", s, readOptions{reload: true}, []verdict{verdictFallback, verdictFallback, verdictFallback, verdictFallback, verdictLoad}},
		{"Reload", Stale{}, readOptions{reload: true}, []verdict{verdictLoad, verdictLoad, verdictLoad, verdictLoad, verdictLoad}},
		{"Reload NoStale", s, readOptions{reload: true, noStale: true}, []verdict{verdictLoad, verdictLoad, verdictLoad, verdictLoad, verdictLoad}},
		{
			"MaxAge(7s)", s,
			readOptions{hasMaxAge: true, maxAge: 7 * sec},
			[]verdict{verdictHit, verdictFallback, verdictFallback, verdictFallback, verdictLoad},
		},
		{
			"MaxAge(7s)",
			Stale{WhileRevalidate: time.Minute},
			readOptions{hasMaxAge: true, maxAge: 7 * sec},
			[]verdict{verdictHit, verdictLoad, verdictLoad, verdictLoad, verdictLoad},
		},
		{
			"MaxAge(1h)", s,
			readOptions{hasMaxAge: true, maxAge: 3600 * sec},
			[]verdict{verdictHit, verdictDue, verdictRevalidate, verdictFallback, verdictLoad},
		},
		{
			"MaxAge(max)", s,
			readOptions{hasMaxAge: true, maxAge: math.MaxInt64},
			[]verdict{verdictHit, verdictDue, verdictRevalidate, verdictFallback, verdictLoad},
		},
	}
	for _, tt := range tests {
		r := newRules(10*time.Second, 5*time.Second, 0, 0.8, tt.stale)
		for i, now := range instants {
			if got := judge(&r, testEntry(), now, tt.o); got != tt.want[i] {
				t.Errorf("%s, %+v: %v after the load began: %v; want %v", tt.name, tt.stale, time.Duration(now-loadedAt), got, tt.want[i])
			}
		}
	}
}

func TestReadOptionsOfNegativeEntries(t *testing.T) {
	r := newRules(10*time.Second, 5*time.Second, 0, 0.8, Stale{IfError: time.Hour})
	e := NegativeEntry[string](loadedAt, loadedAt+5*sec)
	for _, tt := range []struct {
		o    readOptions
		want verdict
	}{
		{readOptions{cacheOnly: true}, verdictNegative},
		{readOptions{noStale: true}, verdictNegative},
		{readOptions{reload: true}, verdictLoad},
		{readOptions{hasMaxAge: true, maxAge: sec}, verdictLoad},
		{readOptions{hasMaxAge: true, maxAge: 5 * sec}, verdictNegative},
	} {
		if got := judge(&r, &e, loadedAt+2*sec, tt.o); got != tt.want {
			t.Errorf("%+v: %v; want %v", tt.o, got, tt.want)
		}
	}
}

func TestTheLongestDurationsNeverOverflow(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	r := newRules(forever, forever, 0.5, 0.8, Stale{IfError: forever, WhileRevalidate: forever, RetryAfter: forever, SoftTimeout: forever})
	now := Clock()
	for range 1000 {
		e := newEntry(&r, "v", now, now+sec, int64(forever))
		if e.Fresh <= now || e.Due <= now || e.Due > e.Fresh || deadAt(&r, &e) < e.Fresh {
			t.Fatalf("now %d: %+v, dead at %d", now, e, deadAt(&r, &e))
		}
		if got := judge(&r, &e, now+sec, readOptions{}); got != verdictHit {
			t.Fatal(got)
		}
		if got := judge(&r, &e, now+sec, readOptions{hasMaxAge: true, maxAge: math.MaxInt64}); got != verdictHit {
			t.Fatal(got)
		}
		n := newNegative[string](&r, now, now+sec)
		if got := judge(&r, &n, now+sec, readOptions{}); got != verdictNegative {
			t.Fatal(got)
		}
		if at := pinDue(&r, &e); at <= now {
			t.Fatal(at)
		}
	}
	stale := Entry[string]{Loaded: loadedAt, Due: dueAt, Fresh: freshAt}
	if got := judge(&r, &stale, math.MaxInt64-1, readOptions{}); got != verdictRevalidate {
		t.Error("inside an endless window:", got)
	}
	if later(math.MaxInt64-1, 1) != math.MaxInt64 || later(math.MaxInt64, 1) != math.MaxInt64 ||
		later(1, math.MaxInt64) != math.MaxInt64 || later(5, -3) != 2 {
		t.Error("later overflows")
	}
}

func TestFreshCountsFromTheBeginOfTheLoadButLeavesAQuarterAfterItsEnd(t *testing.T) {
	r := newRules(8*time.Second, 4*time.Second, 0, -1, Stale{})
	for _, tt := range []struct{ took, fresh, negative int64 }{
		{0, 8 * sec, 4 * sec},
		{3*sec - 1, 8 * sec, 4 * sec},
		{3 * sec, 8 * sec, 4 * sec},
		{3*sec + 1, 8 * sec, 4*sec + 1},
		{6 * sec, 8 * sec, 7 * sec},
		{6*sec + 1, 8*sec + 1, 7*sec + 1},
		{100 * sec, 102 * sec, 101 * sec},
	} {
		e := newEntry(&r, "v", loadedAt, loadedAt+tt.took, r.ttl)
		if e.Loaded != loadedAt || e.Fresh != loadedAt+tt.fresh {
			t.Errorf("a load of %v: fresh for %v; want %v", time.Duration(tt.took), time.Duration(e.Fresh-loadedAt), time.Duration(tt.fresh))
		}
		n := newNegative[string](&r, loadedAt, loadedAt+tt.took)
		if n.Fresh != loadedAt+tt.negative {
			t.Errorf("a load of %v: negative for %v; want %v", time.Duration(tt.took), time.Duration(n.Fresh-loadedAt), time.Duration(tt.negative))
		}
	}
}

func TestJitterShortensTheTTLUniformly(t *testing.T) {
	const n, ttl = 20_000, 100 * sec
	r := newRules(time.Duration(ttl), time.Second, 0.2, -1, Stale{})
	var sum float64
	shortest, longest := int64(math.MaxInt64), int64(0)
	for range n {
		e := newEntry(&r, "v", loadedAt, loadedAt, ttl)
		fresh := e.Fresh - loadedAt
		sum += float64(fresh)
		shortest, longest = min(shortest, fresh), max(longest, fresh)
	}
	if shortest < 80*sec || shortest > 81*sec || longest > 100*sec || longest < 99*sec {
		t.Errorf("from %v to %v; want 80s to 100s", time.Duration(shortest), time.Duration(longest))
	}
	if mean := sum / n; math.Abs(mean-90*float64(sec)) > 0.3*float64(sec) {
		t.Errorf("mean %v; want 90s", time.Duration(mean))
	}
	none := newRules(time.Duration(ttl), time.Second, 0, -1, Stale{})
	if e := newEntry(&none, "v", loadedAt, loadedAt, ttl); e.Fresh != loadedAt+ttl {
		t.Error("a TTL was shortened without Jitter")
	}
}

func TestDueOfFastLoadsIsSpreadAroundAhead(t *testing.T) {
	const n = 20_000
	r := newRules(100*time.Second, time.Second, 0, 0.8, Stale{})
	var sum, square float64
	earliest, latest := math.Inf(1), 0.0
	for range n {
		e := newEntry(&r, "v", loadedAt, loadedAt, 100*sec)
		due := float64(e.Due-loadedAt) / float64(sec)
		sum, square = sum+due, square+due*due
		earliest, latest = min(earliest, due), max(latest, due)
	}
	mean := sum / n
	if math.Abs(mean-80) > 1 {
		t.Errorf("mean %.2f s; want 80", mean)
	}
	if deviation := math.Sqrt(square/n - mean*mean); deviation < 1 {
		t.Errorf("deviation %.2f s: processes would march in step", deviation)
	}
	if earliest < 60 || latest >= 100 {
		t.Errorf("from %.2f to %.2f s", earliest, latest)
	}
}

func TestDueOfSlowLoadsComesEarlierByAnExponentialOfTheirDuration(t *testing.T) {
	const n, delta, fresh = 50_000, 5 * sec, loadedAt + 1_000_000*sec
	r := newRules(1000*time.Second, time.Second, 0, 2, Stale{}) // an Ahead so late that it never decides
	var sum float64
	beyond := 0 // draws more than twice the load's duration before fresh
	for range n {
		var due int64
		r.drawDue(&due, loadedAt, fresh, delta, -aheadSpread)
		early := float64(fresh-due) / float64(delta)
		if early < 0 {
			t.Fatal("due after fresh")
		}
		sum += early
		if early > 2 {
			beyond++
		}
	}
	if mean := sum / n; math.Abs(mean-1) > 0.03 {
		t.Errorf("on average %.3f times the load's duration before fresh; want 1", mean)
	}
	if part := float64(beyond) / n; math.Abs(part-math.Exp(-2)) > 0.01 {
		t.Errorf("%.3f of the draws were more than twice the duration early; want %.3f", part, math.Exp(-2))
	}
}

func TestDueIsNeverEarlierThanTheLoadsEndNorLaterThanFresh(t *testing.T) {
	for _, ahead := range []float64{0.01, 0.5, 0.8, 0.99} {
		for _, took := range []int64{0, sec, 9 * sec, 10 * sec, 1000 * sec} {
			r := newRules(10*time.Second, time.Second, 0.3, ahead, Stale{})
			for range 2000 {
				e := newEntry(&r, "v", loadedAt, loadedAt+took, r.ttl)
				if e.Due > e.Fresh || e.Due < loadedAt {
					t.Fatalf("ahead %v, load of %v: due %v, fresh %v", ahead, time.Duration(took),
						time.Duration(e.Due-loadedAt), time.Duration(e.Fresh-loadedAt))
				}
			}
		}
	}
}

func TestWithoutAheadNothingIsDue(t *testing.T) {
	r := newRules(10*time.Second, time.Second, 0, -1, Stale{})
	for range 1000 {
		if e := newEntry(&r, "v", loadedAt, loadedAt+5*sec, r.ttl); e.Due != e.Fresh {
			t.Fatalf("due %v before fresh", time.Duration(e.Fresh-e.Due))
		}
	}
}

func TestPinsAreDueAtTheirDueTimeAndAtFourFifthsWithoutAhead(t *testing.T) {
	on := newRules(10*time.Second, time.Second, 0, 0.8, Stale{})
	off := newRules(10*time.Second, time.Second, 0, -1, Stale{})
	negative := NegativeEntry[string](loadedAt, loadedAt+5*sec)
	notDue := Entry[string]{Loaded: loadedAt, Due: freshAt, Fresh: freshAt}
	for _, tt := range []struct {
		r    *rules
		e    *Entry[string]
		want int64
	}{
		{&on, testEntry(), dueAt},
		{&on, &negative, loadedAt + 5*sec},
		{&off, &notDue, loadedAt + 8*sec},
		{&off, &negative, loadedAt + 5*sec},
	} {
		if got := pinDue(tt.r, tt.e); got != tt.want {
			t.Errorf("%+v: %v; want %v", tt.e, time.Duration(got-loadedAt), time.Duration(tt.want-loadedAt))
		}
	}
}
