package platform

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

func TestEachLevelShedsItsFeatures(t *testing.T) {
	p, _ := warmed(t, 2)
	all := wire.Parts
	for level, keeps := range map[dewar.Level]int{ // of wire.Parts: those that matter most are first
		dewar.Normal: 5, dewar.Elevated: 4, dewar.Degraded: 3, dewar.Protect: 3, dewar.Lockdown: 2,
	} {
		t.Run(level.String(), func(t *testing.T) {
			p.Dial().Set(level)
			before := p.Stats().Features[level]
			w, a := ask(t, p, "ids=title-0000,title-0001")
			if w.Code != http.StatusOK {
				t.Error(w.Code)
			}
			for _, title := range a.Titles {
				equal(t, title.ID, has(title), all[:keeps])
			}
			equal(t, "shed", a.Shed, all[keeps:])
			for i, part := range all {
				now, was := p.Stats().Features[level][part], before[part]
				served, shed := now.Served-was.Served, now.Shed-was.Shed
				if want := int64(2); i < keeps && (served != want || shed != 0) || i >= keeps && (served != 0 || shed != want) {
					t.Errorf("%s: counted %d served, %d shed", part, served, shed)
				}
			}
		})
	}
}

func TestPlaybackIsNeverShedAndAdsLast(t *testing.T) {
	for level := dewar.Lockdown; level <= dewar.Normal; level++ {
		if !On(wire.PartStream, level) {
			t.Errorf("%v: no playback", level)
		}
		for _, part := range []wire.Part{wire.PartArtwork, wire.PartRecommendations, ClientRetries} {
			if On(part, level) && !On(wire.PartAds, level) {
				t.Errorf("%v: %s, but no ads", level, part)
			}
		}
	}
	if On("nothing", dewar.Normal) {
		t.Error("what is no feature is on")
	}
}

func TestAtLockdownViewersPlayAndNothingIsCalled(t *testing.T) {
	p, s := warmed(t, 3)
	if err := p.ScheduleChanged(t.Context(), titles(3)...); err != nil {
		t.Fatal(err)
	}
	p.Dial().Set(dewar.Lockdown)
	before := calls(s)
	w, a := ask(t, p, "ids=title-0000,title-0001,title-0002,title-0007")
	if w.Code != http.StatusOK || len(a.Titles) != 4 {
		t.Fatalf("%d %+v", w.Code, a)
	}
	for _, title := range a.Titles[:3] {
		equal(t, title.ID, has(title), []wire.Part{wire.PartStream, wire.PartMetadata})
	}
	equal(t, "what nobody had asked for", has(a.Titles[3]), nil)
	if status := w.Header().Get("Cache-Status"); !strings.Contains(status, "detail=defcon") || strings.Contains(status, "fwd") {
		t.Errorf("Cache-Status: %s", status)
	}
	if n := calls(s) - before; n != 0 {
		t.Errorf("%d calls", n)
	}
}

// At Protect stale metadata stays as it is, and ads are still reloaded.
func TestAdsAreKeptUpToDateForLongerThanTheRest(t *testing.T) {
	p, s := warmed(t, 2)
	p.Dial().Set(dewar.Protect)
	if err := p.ScheduleChanged(t.Context(), titles(2)...); err != nil {
		t.Fatal(err)
	}
	if err := p.ads.Expire(t.Context(), wire.PodOf("title-0000")); err != nil {
		t.Fatal(err)
	}
	before := s.Counts()
	if _, a := ask(t, p, "ids=title-0000"); len(a.Titles[0].Ads) == 0 || a.Titles[0].Metadata == nil {
		t.Fatalf("%+v", a)
	}
	eventually(t, "reloaded the ads", func() bool { return s.Counts()[legacy.Ads].Calls > before[legacy.Ads].Calls })
	if _, a := ask(t, p, "ids=title-0009"); len(a.Titles[0].Ads) == 0 {
		t.Errorf("no ads of a pod that nobody has asked for: %+v", a)
	}
	if n := p.Stats().Caches[wire.PartMetadata].Refreshed; n != 2 { // by Warm
		t.Errorf("metadata refreshed: %d", n)
	}
}

func TestTheDialIsTurnedOverHTTP(t *testing.T) {
	p, _ := open(t)
	r := strings.NewReader(`{"level":"degraded","who":"test","why":"to see"}`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "/defcon", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusOK || p.Dial().Level() != dewar.Degraded {
		t.Errorf("%d %s; at %v", w.Code, w.Body, p.Dial().Level())
	}
	if w := do(t, p, http.MethodGet, "/healthz", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "degraded") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
