package expose

import (
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

type fixed struct{ stats dewar.Stats }

func (f *fixed) Name() string       { return "videos" }
func (f *fixed) Stats() dewar.Stats { return f.stats }

func scrape() string {
	f := &fixed{dewar.Stats{HasRemote: true, LocalHits: 3, Level: dewar.Normal, Origin: dewar.OriginStats{Name: "catalog", Breaker: dewar.BreakerOpen}}}
	f.stats.LoadTime.Count, f.stats.LoadTime.Sum, f.stats.LoadTime.Buckets[79] = 2, 1.5, 2 // up to 0.84 s
	rec := httptest.NewRecorder()
	Handler(f).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func TestMetricsAreThoseThatPrometheusReads(t *testing.T) {
	got := scrape()
	for _, line := range []string{
		"# TYPE dewar_gets_total counter",
		`dewar_gets_total{cache="videos",tier="local",outcome="hit"} 3`,
		`dewar_origin_breaker_state{origin="catalog",state="open"} 1`,
		`dewar_load_seconds_bucket{cache="videos",le="0.5"} 0`,
		`dewar_load_seconds_bucket{cache="videos",le="1"} 2`,
		`dewar_load_seconds_bucket{cache="videos",le="+Inf"} 2`,
		`dewar_load_seconds_sum{cache="videos"} 1.5`,
		`dewar_load_seconds_count{cache="videos"} 2`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
}

func TestPromtoolFindsNothingWrong(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: it comes with Prometheus")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
