package platform

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// served is a platform that is being served, until stop.
func served(t *testing.T, p *Platform) (url string, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }() // received by the test
	return "http://" + l.Addr().String(), stop, done
}

func TestServeAnswersWhatIsUnderWayAndThenEnds(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Streams, 0, 300*time.Millisecond)
	url, stop, ended := served(t, p)
	answered := make(chan error, 1)
	go func() { // received below
		resp, err := http.Get(url + "/v1/playback?ids=title-0001")
		if err == nil {
			var a wire.Answer
			err = json.NewDecoder(resp.Body).Decode(&a)
			resp.Body.Close()
			if err == nil && (resp.StatusCode != http.StatusOK || len(has(a.Titles[0])) != len(wire.Parts)) {
				t.Errorf("%d %+v", resp.StatusCode, a)
			}
		}
		answered <- err
	}()
	eventually(t, "asked", func() bool { return s.Counts()[legacy.Streams].Calls == 1 })
	stop()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if resp, err := http.Get(url + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("somebody was let in afterwards")
	}
}

func TestHealthzSaysThatItIsAboutToEnd(t *testing.T) {
	p, _ := open(t, func(cfg *Config) { cfg.Grace = 500 * time.Millisecond })
	url, stop, ended := served(t, p)
	health := func() (int, string) {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := health(); status != http.StatusOK || !strings.Contains(body, `"ok"`) {
		t.Errorf("%d %s", status, body)
	}
	stop()
	eventually(t, "draining", func() bool { return p.draining.Load() })
	if status, body := health(); status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("%d %s", status, body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStatsTellOfEverything(t *testing.T) {
	p, _ := warmed(t, 2)
	ask(t, p, "ids=title-0001,title-0002")
	w := do(t, p, http.MethodGet, "/stats", "")
	var s Stats
	dec := json.NewDecoder(w.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	for _, part := range wire.Parts {
		if c := s.Caches[part]; c.LocalHits+c.Loaded == 0 {
			t.Errorf("%s: %+v", part, c)
		}
	}
	// Two streams are signed with two calls, the other parts take one each.
	if s.Uncached != 6 || s.Percent != 100 || s.Level != 5 || s.Features[5][wire.PartStream].Served != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWarmTellsWhatIsMissing(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Ads, 1, 0)
	if err := p.Warm(t.Context(), titles(3), 2); err == nil {
		t.Error("no error without ads")
	}
	s.Heal(legacy.Ads)
	if err := p.Warm(t.Context(), titles(3), 2); err != nil {
		t.Error(err)
	}
	before := calls(s)
	if _, a := ask(t, p, "ids=title-0000,title-0001,title-0002"); len(a.Incomplete) > 0 || calls(s) != before {
		t.Errorf("%d calls, incomplete: %v", calls(s)-before, a.Incomplete)
	}
	if n := p.Stats().Caches[wire.PartStream].Pinned; n != 2 {
		t.Errorf("%d pinned", n)
	}
}

// A title that a viewer waits for is left to that viewer's load, and that fails:
//
//	viewer: asks for the stream of title-0000
//	warm:   loads all but title-0000
//	viewer: gets an error
func TestWarmTellsOfWhatItHasLeftToAViewer(t *testing.T) {
	p, s := open(t)
	s.Break(legacy.Streams, 1, 600*time.Millisecond)
	asked := make(chan struct{})
	go func() { // waited for below
		defer close(asked)
		ask(t, p, "ids=title-0000&parts=stream")
	}()
	eventually(t, "asked", func() bool { return s.Counts()[legacy.Streams].Calls == 1 })
	s.Heal(legacy.Streams) // for the next
	err := p.Warm(t.Context(), titles(3), 0)
	<-asked
	if err == nil {
		t.Error("no error though title-0000 is missing")
	}
	if err := p.Warm(t.Context(), titles(3), 0); err != nil {
		t.Error(err)
	}
}
