package platform

import (
	"fmt"
	"net/http"
	"testing"
)

func TestAPercentageOfTheViewersIsOnTheNewPath(t *testing.T) {
	const viewers = 20_000
	for _, percent := range []int{0, 1, 10, 50, 99, 100} {
		var r Rollout
		if err := r.Set(percent); err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range viewers {
			if r.New(fmt.Sprintf("viewer-%d", i)) {
				n++
			}
		}
		got := 100 * float64(n) / viewers
		if got < float64(percent)-1 || got > float64(percent)+1 || (percent == 0 || percent == 100) && got != float64(percent) {
			t.Errorf("%d %%: %.2f %% are", percent, got)
		}
	}
}

func TestAViewerStaysOnTheNewPath(t *testing.T) {
	var r Rollout
	for i := range 1000 {
		viewer := fmt.Sprintf("viewer-%d", i)
		was := false
		for percent := range 101 {
			_ = r.Set(percent)
			now := r.New(viewer)
			if was && !now {
				t.Fatalf("%s was moved back at %d %%", viewer, percent)
			}
			if now != r.New(viewer) {
				t.Fatalf("%s is on both paths at %d %%", viewer, percent)
			}
			was = now
		}
	}
}

func TestViewersAreAnsweredOnTheirPath(t *testing.T) {
	p, s := open(t, func(cfg *Config) { cfg.Percent = 50 })
	for i := range 40 {
		viewer := fmt.Sprintf("viewer-%d", i)
		for range 2 {
			w, a := askAs(t, p, viewer, "ids=title-0001&parts=metadata")
			bypassed := parseStatus(t, w.Header().Get("Cache-Status"))["dewar"]["fwd"] == "bypass"
			if w.Code != http.StatusOK || a.Titles[0].Metadata == nil || bypassed == p.Rollout().New(viewer) {
				t.Errorf("%s: %d %v", viewer, w.Code, w.Header())
			}
		}
	}
	if n := s.Counts(); n["metadata"].Old == 0 || n["metadata"].Calls != 1 {
		t.Errorf("%+v", n)
	}
}

func TestThePercentageIsSetOverHTTP(t *testing.T) {
	p, _ := open(t)
	for target, want := range map[string]int{
		"/rollout?percent=25": http.StatusOK, "/rollout?percent=101": http.StatusBadRequest, "/rollout?percent=-1": http.StatusBadRequest,
		"/rollout?percent=all": http.StatusBadRequest, "/rollout": http.StatusBadRequest,
	} {
		if w := do(t, p, http.MethodPut, target, ""); w.Code != want {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if w := do(t, p, http.MethodGet, "/rollout", ""); w.Body.String() != "{\"percent\":25}\n" {
		t.Errorf("%s", w.Body)
	}
}

func TestAnOldPathThatIsGoneIsABadGateway(t *testing.T) {
	p, s := open(t, func(cfg *Config) { cfg.Percent = 0 })
	s.Break("streams", 1, 0)
	if w, _ := ask(t, p, "ids=title-0001"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the old path fails: %d", w.Code)
	}
	gone, err := New(Config{Legacy: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if w, _ := ask(t, gone, "ids=title-0001"); w.Code != http.StatusBadGateway {
		t.Errorf("nobody there: %d", w.Code)
	}
}

func TestAConfigurationThatIsNoGoodIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"percent": {Percent: 101}, "name": {Name: "a b"}, "URL": {Legacy: "http://[::1"},
		"TTL": {Times: Times{Metadata: -1}},
	} {
		if p, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
			p.Close()
		}
	}
}
