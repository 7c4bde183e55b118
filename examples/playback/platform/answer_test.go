package platform

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

func TestAnswersHaveAllPartsInTheOrderOfTheIDs(t *testing.T) {
	p, _ := open(t)
	w, a := ask(t, p, "ids=title-0003,archive-0001,title-0001")
	if w.Code != http.StatusOK || len(a.Titles) != 3 || a.Retry || len(a.Shed)+len(a.Incomplete)+len(a.Unknown) > 0 {
		t.Fatalf("%d %+v", w.Code, a)
	}
	for i, id := range []string{"title-0003", "archive-0001", "title-0001"} {
		if a.Titles[i].ID != id {
			t.Errorf("title %d is %s", i, a.Titles[i].ID)
		}
		equal(t, id, has(a.Titles[i]), wire.Parts)
	}
	if got := w.Header().Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
}

func TestOnlyThePartsThatAreAskedForAreRead(t *testing.T) {
	p, s := open(t)
	_, a := ask(t, p, "ids=title-0001&parts=ads,metadata,ads")
	equal(t, "parts", has(a.Titles[0]), []wire.Part{wire.PartMetadata, wire.PartAds})
	if n := s.Counts()[legacy.Streams].Calls; n != 0 {
		t.Errorf("%d calls for streams", n)
	}
}

func TestIDsThatAreNoGoodAreRefused(t *testing.T) {
	p, s := open(t)
	many := strings.Repeat("x,", maxIDs) // the same one
	distinct := func(n int) string {
		var ids []string
		for i := range n {
			ids = append(ids, legacy.ArchiveID(i))
		}
		return strings.Join(ids, ",")
	}
	for name, tc := range map[string]struct {
		query  string
		status int
		titles int
	}{
		"none":            {"", 400, 0},
		"empty":           {"ids=", 400, 0},
		"empty one":       {"ids=a,,b", 400, 0},
		"comma at end":    {"ids=title-0001,", 400, 0},
		"space":           {"ids=title+0001", 400, 0},
		"slash":           {"ids=../../etc/passwd", 400, 0},
		"new line":        {"ids=a%0d%0aSet-Cookie:x", 400, 0},
		"not ASCII":       {"ids=%C3%A9", 400, 0},
		"NUL":             {"ids=a%00", 400, 0},
		"quote":           {`ids=%22`, 400, 0},
		"long":            {"ids=" + strings.Repeat("a", maxIDLength+1), 400, 0},
		"endless":         {"ids=" + strings.Repeat("a,", 100_000), 400, 0},
		"bad escape":      {"ids=%zz", 400, 0},
		"unknown part":    {"ids=title-0001&parts=soul", 400, 0},
		"one too many":    {"ids=" + distinct(maxIDs+1), 400, 0},
		"as many as may":  {"ids=" + distinct(maxIDs) + "&parts=metadata", 200, maxIDs},
		"one, many times": {"ids=" + many + "x&parts=metadata", 404, 0},
		"twice":           {"ids=title-0001,title-0002,title-0001&parts=metadata", 200, 2},
		"longest":         {"ids=" + strings.Repeat("a", maxIDLength) + "&parts=metadata", 404, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := calls(s)
			w, a := ask(t, p, tc.query)
			if w.Code != tc.status || len(a.Titles) != tc.titles {
				t.Errorf("%d with %d titles: %.200s", w.Code, len(a.Titles), w.Body)
			}
			if tc.status == 400 && (calls(s) != before || w.Body.Len() > 300) {
				t.Errorf("%d calls; %d bytes", calls(s)-before, w.Body.Len())
			}
		})
	}
	if w, _ := ask(t, p, "ids="+strings.Repeat("a,", 100_000)+"a"); !strings.Contains(w.Body.String(), "too long") {
		t.Errorf("an endless list is looked through: %d %.100s", w.Code, w.Body)
	}
	if w := do(t, p, http.MethodPost, "/v1/playback?ids=title-0001", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestTitlesThatDoNotExistAreSaidTo(t *testing.T) {
	p, s := open(t)
	w, a := ask(t, p, "ids=title-9999,title-0001,nothing")
	if w.Code != http.StatusOK || len(a.Titles) != 1 || len(a.Incomplete) > 0 || a.Retry {
		t.Errorf("%d %+v", w.Code, a)
	}
	equal(t, "unknown", a.Unknown, []string{"title-9999", "nothing"})
	before := calls(s)
	if w, a := ask(t, p, "ids=nothing&parts=stream,metadata"); w.Code != http.StatusNotFound || len(a.Unknown) != 1 {
		t.Errorf("%d %+v", w.Code, a)
	}
	if calls(s) != before {
		t.Error("it is not remembered that there is no such title")
	}
}

func TestWhatFailsForOneTitleIsMissingFromIt(t *testing.T) {
	p, s := warmed(t, 1)
	s.Break(legacy.Streams, 1, 0)
	w, a := ask(t, p, "ids=title-0000,title-0001")
	if w.Code != http.StatusOK || !a.Retry {
		t.Errorf("%d %+v", w.Code, a)
	}
	equal(t, "incomplete", a.Incomplete, []wire.Part{wire.PartStream})
	equal(t, "what was there", has(a.Titles[0]), wire.Parts)
	equal(t, "what was not", has(a.Titles[1]), wire.Parts[1:])

	w, a = ask(t, p, "ids=title-0001")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || len(a.Titles) != 1 {
		t.Errorf("nothing to play: %d, Retry-After %q, %+v", w.Code, w.Header().Get("Retry-After"), a)
	}
	if w, _ := ask(t, p, "ids=title-0001&parts=metadata"); w.Code != http.StatusOK {
		t.Errorf("not to be played: %d", w.Code)
	}
}

func TestPlayersMayNotRetryWhenTheDialIsTurnedDown(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Streams, 1, 0)
	for level, want := range map[dewar.Level]bool{dewar.Normal: true, dewar.Elevated: true, dewar.Degraded: false, dewar.Lockdown: false} {
		p.Dial().Set(level)
		w, a := ask(t, p, "ids=title-0001&parts=stream")
		if w.Code != http.StatusServiceUnavailable || a.Retry != want || (w.Header().Get("Retry-After") != "") != want {
			t.Errorf("%v: %d, retry %v, Retry-After %q", level, w.Code, a.Retry, w.Header().Get("Retry-After"))
		}
	}
}

func TestWhatPlayersCanDoWithoutIsNotWorthRetrying(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Ads, 1, 0)
	if _, a := ask(t, p, "ids=title-0001"); a.Retry || !slices.Equal(a.Incomplete, []wire.Part{wire.PartAds}) {
		t.Errorf("%+v", a)
	}
}

func TestOptionalPartsDoNotHoldUpAnAnswer(t *testing.T) {
	p, s := warmed(t, 0)
	ask(t, p, "ids=title-0001&parts=stream,metadata,ads")
	s.Break(legacy.Metadata, 0, 5*time.Second)
	begun := time.Now()
	_, a := ask(t, p, "ids=title-0001")
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	equal(t, "incomplete", a.Incomplete, []wire.Part{wire.PartArtwork, wire.PartRecommendations})
}

func TestAURLThatHasExpiredIsNotHandedOut(t *testing.T) {
	p, s := open(t)
	expires := time.Now().Add(30 * time.Millisecond)
	if err := p.streams.Set(t.Context(), "title-0001", wire.Stream{URL: "x", Expires: expires}); err != nil {
		t.Fatal(err)
	}
	s.Break(legacy.Streams, 1, 0)
	time.Sleep(time.Until(expires))
	if r, err := p.streams.GetResult(t.Context(), "title-0001"); r.Status != dewar.StatusStale || err != nil {
		t.Fatalf("the cache has %v, %v", r.Status, err)
	}
	if w, a := ask(t, p, "ids=title-0001&parts=stream"); w.Code != http.StatusServiceUnavailable || a.Titles[0].Stream != nil {
		t.Errorf("%d %+v", w.Code, a)
	}
}

func TestStaleURLsDieBeforeTheyExpire(t *testing.T) {
	for _, times := range []Times{
		DefaultTimes(),
		{Stream: time.Minute, StreamValid: time.Hour, Stale: 24 * time.Hour},
		{Stream: time.Minute, StreamValid: time.Minute, Stale: time.Hour},
		{Stream: time.Minute, StreamValid: time.Hour, Stale: -1},
	} {
		if window := times.streamStale(); window < 0 || window > 0 && times.Stream+window >= times.StreamValid {
			t.Errorf("%+v: %v", times, window)
		}
	}
}
