package platform

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// member is one cache of a Cache-Status, by the grammar of RFC 9211 and what it
// says of the parameters.
type member map[string]string

var (
	sfToken  = regexp.MustCompile(`^[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_|~:/` + "`" + `]*$`)
	sfInt    = regexp.MustCompile(`^-?[0-9]{1,15}$`)
	sfString = regexp.MustCompile(`^"([ !#-\[\]-~]|\\["\\])*"$`)
	sfKey    = regexp.MustCompile(`^[a-z*][a-z0-9_.*-]*$`)
)

// parseStatus returns the members by their names. Strings in it hold no comma
// and no semicolon.
func parseStatus(t *testing.T, header string) map[string]member {
	t.Helper()
	members := make(map[string]member)
	for item := range strings.SplitSeq(header, ",") {
		fields := strings.Split(strings.Trim(item, " "), ";")
		if !sfToken.MatchString(fields[0]) {
			t.Errorf("%q is no token in %q", fields[0], header)
		}
		m := make(member)
		for _, field := range fields[1:] {
			name, value, valued := strings.Cut(strings.TrimLeft(field, " "), "=")
			if _, twice := m[name]; twice || !sfKey.MatchString(name) {
				t.Errorf("parameter %q in %q", name, header)
			}
			if !valued {
				value = "?1"
			}
			m[name] = value
		}
		members[fields[0]] = m
		checkMember(t, m, item)
	}
	return members
}

func checkMember(t *testing.T, m member, item string) {
	t.Helper()
	_, hit := m["hit"]
	_, fwd := m["fwd"]
	if hit && fwd {
		t.Errorf("hit and fwd in %q", item)
	}
	for name, value := range m {
		good, needsFwd := false, false
		switch name {
		case "hit":
			good = value == "?1"
		case "stored", "collapsed":
			good, needsFwd = value == "?1", true
		case "fwd":
			switch value {
			case "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial":
				good = true
			}
		case "fwd-status":
			good, needsFwd = sfInt.MatchString(value) && len(value) == 3, true
		case "ttl":
			good = sfInt.MatchString(value)
		case "key":
			good = sfString.MatchString(value)
		case "detail":
			good = sfToken.MatchString(value) || sfString.MatchString(value)
		}
		if !good || needsFwd && !fwd {
			t.Errorf("%s=%s in %q", name, value, item)
		}
	}
}

func TestCacheStatusTellsHowEachPartWasComeBy(t *testing.T) {
	const one = "ids=title-0000&parts=stream"
	// shut opens the breaker of a service, and heals that.
	shut := func(t *testing.T, p *Platform, s *legacy.Legacy) {
		s.Break(legacy.Streams, 1, 0)
		for i := range 40 {
			ask(t, p, fmt.Sprintf("ids=%s&parts=stream", legacy.ArchiveID(100+i)))
		}
		s.Heal(legacy.Streams)
	}
	expire := func(t *testing.T, p *Platform) {
		if err := p.streams.Expire(t.Context(), "title-0000"); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		begin func(*testing.T, *Platform, *legacy.Legacy)
		query string
		want  member // "" is: not there; "*" is: whatever it is
	}{
		"hit": {
			nil, one,
			member{"hit": "?1", "ttl": "*", "key": `"title-0000"`, "detail": ""},
		},
		"several hits": {
			nil, "ids=title-0000,title-0001&parts=stream",
			member{"hit": "?1", "ttl": "*", "key": "", "detail": ""},
		},
		"miss": {
			nil, "ids=title-0009&parts=stream",
			member{"fwd": "miss", "fwd-status": "200", "ttl": "*", "stored": "?1", "collapsed": ""},
		},
		"partial": {
			nil, "ids=title-0000,title-0009&parts=stream",
			member{"fwd": "partial", "fwd-status": "200", "ttl": "*", "stored": "?1"},
		},
		"no such title": {
			nil, "ids=nothing&parts=stream",
			member{"fwd": "miss", "fwd-status": "404", "ttl": "*", "stored": "?1"},
		},
		"no such title, remembered": {
			func(t *testing.T, p *Platform, _ *legacy.Legacy) { ask(t, p, "ids=nothing&parts=stream") },
			"ids=nothing&parts=stream",
			member{"hit": "?1", "ttl": "*"},
		},
		"stale, the service fails": {
			func(t *testing.T, p *Platform, s *legacy.Legacy) { expire(t, p); s.Break(legacy.Streams, 1, 0) },
			one,
			member{"fwd": "stale", "fwd-status": "503", "ttl": "-1", "detail": "error", "stored": ""},
		},
		"stale, the service is slow": {
			func(t *testing.T, p *Platform, s *legacy.Legacy) {
				expire(t, p)
				s.Break(legacy.Streams, 0, 2*time.Second)
			},
			one,
			member{"fwd": "stale", "fwd-status": "", "ttl": "-1", "detail": "timeout"},
		},
		"stale, the breaker is open": {
			func(t *testing.T, p *Platform, s *legacy.Legacy) { expire(t, p); shut(t, p, s) },
			one,
			member{"hit": "?1", "ttl": "-1", "detail": "breaker-open", "fwd-status": ""},
		},
		"stale, locked down": {
			func(t *testing.T, p *Platform, _ *legacy.Legacy) { expire(t, p); p.Dial().Set(dewar.Lockdown) },
			one,
			member{"hit": "?1", "ttl": "-1", "detail": "defcon"},
		},
		"nothing, the service fails": {
			func(_ *testing.T, _ *Platform, s *legacy.Legacy) { s.Break(legacy.Streams, 1, 0) },
			"ids=title-0009&parts=stream",
			member{"fwd": "miss", "fwd-status": "503", "ttl": "", "detail": "error", "stored": ""},
		},
		"nothing, the breaker is open": {
			shut, "ids=title-0009&parts=stream",
			member{"hit": "", "fwd": "", "ttl": "", "detail": "breaker-open"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := warmed(t, 2)
			if tc.begin != nil {
				tc.begin(t, p, s)
			}
			w, _ := ask(t, p, tc.query)
			header := w.Header().Get("Cache-Status")
			got := parseStatus(t, header)
			if len(got) != 1 {
				t.Fatalf("%d members in %q", len(got), header)
			}
			for name, want := range tc.want {
				value, there := got["dewar-streams"][name]
				if want == "*" && !there || want != "*" && value != want {
					t.Errorf("%s=%s, want %q, in %q", name, value, want, header)
				}
			}
		})
	}
}

func TestCacheStatusHasAMemberForEachCacheThatWasAsked(t *testing.T) {
	p, _ := warmed(t, 1)
	w, _ := ask(t, p, "ids=title-0000")
	got := parseStatus(t, w.Header().Get("Cache-Status"))
	for _, cache := range []string{"dewar-streams", "dewar-metadata", "dewar-ads", "dewar-artwork", "dewar-recommendations"} {
		if got[cache]["hit"] == "" {
			t.Errorf("%s: %v", cache, got[cache])
		}
	}
	if key := got["dewar-ads"]["key"]; key != fmt.Sprintf("%q", wire.PodOf("title-0000")) {
		t.Errorf("the key of the ads is %s", key)
	}
	p.Dial().Set(dewar.Degraded)
	w, _ = ask(t, p, "ids=title-0000")
	if got := parseStatus(t, w.Header().Get("Cache-Status")); len(got) != 3 {
		t.Errorf("at Degraded: %v", got)
	}
	_ = p.Rollout().Set(0)
	w, _ = ask(t, p, "ids=title-0000")
	if got := parseStatus(t, w.Header().Get("Cache-Status")); got["dewar"]["fwd"] != "bypass" || got["dewar"]["fwd-status"] != "200" {
		t.Errorf("on the old path: %v", got)
	}
}

func TestALoadThatSomebodyElseBeganIsCollapsed(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Streams, 0, 300*time.Millisecond)
	statuses := make(chan string, 2)
	for range 2 {
		go func() { // received from below
			w, _ := ask(t, p, "ids=title-0001&parts=stream")
			statuses <- w.Header().Get("Cache-Status")
		}()
	}
	collapsed := 0
	for range 2 {
		m := parseStatus(t, <-statuses)["dewar-streams"]
		if m["fwd"] != "miss" {
			t.Errorf("%v", m)
		}
		if m["collapsed"] != "" {
			collapsed++
		}
	}
	if n := s.Counts()[legacy.Streams].Calls; collapsed != 1 || n != 1 {
		t.Errorf("%d collapsed, %d calls", collapsed, n)
	}
}

func TestAgeIsThatOfTheOldestInWholeSeconds(t *testing.T) {
	for want, readings := range map[string][]reading{
		"":  {{}, {}},
		"0": {{hits: 1, oldest: 999 * time.Millisecond}},
		"7": {{hits: 1, oldest: time.Second}, {stale: 1, oldest: 7900 * time.Millisecond}, {loaded: 1, oldest: 3 * time.Second}},
	} {
		if got := age(readings); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	p, _ := warmed(t, 1)
	if w, _ := ask(t, p, "ids=title-0000"); w.Header().Get("Age") != "0" {
		t.Errorf("Age: %q", w.Header().Get("Age"))
	}
	p.Dial().Set(dewar.Lockdown)
	if w, _ := ask(t, p, "ids=title-0009&parts=stream"); w.Header().Values("Age") != nil || w.Code != http.StatusServiceUnavailable {
		t.Errorf("Age of nothing: %q", w.Header().Get("Age"))
	}
}

func TestWholeSecondsRoundTowardsTheOlder(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, 999 * time.Millisecond: 0, time.Second: 1, -time.Second: -1, -time.Millisecond: -1, -1500 * time.Millisecond: -2,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}
