package dewarprom_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const folder = "../dashboards/"

func TestRulesAndAlertsDoWhatTheySay(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: it comes with Prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "dewar.rules.yml"}, {"test", "rules", "dewar.rules.test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

var alertLine = regexp.MustCompile(`(?m)^\s*- alert: (\w+)$`)

func TestEveryAlertIsTestedToFire(t *testing.T) {
	rules, tests := read(t, folder+"dewar.rules.yml"), read(t, folder+"dewar.rules.test.yml")
	alerts := alertLine.FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatal(len(alerts), "alerts found")
	}
	for _, a := range alerts {
		fires := regexp.MustCompile(`alertname: ` + a[1] + `\n\s*exp_alerts:\n\s*- exp_labels`)
		if !fires.MatchString(tests) {
			t.Errorf("no test lets %s fire", a[1])
		}
	}
}

var metricName = regexp.MustCompile(`\bdewar_[a-z0-9_]+\b`)

// known returns the metrics of a Collector, histograms by their parts too.
func known(t *testing.T) map[string]bool {
	names := make(map[string]bool)
	for name, f := range gather(t, remote("videos")) {
		names[name] = true
		if f.GetMetric()[0].GetHistogram() != nil {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				names[name+part] = true
			}
		}
	}
	return names
}

func TestRulesAndDashboardNameOnlyMetricsThatThereAre(t *testing.T) {
	names := known(t)
	for _, file := range []string{"dewar.rules.yml", "dewar.rules.test.yml", "dewar.json"} {
		text := strings.ReplaceAll(read(t, folder+file), "cache:dewar_", "recorded:")
		found := metricName.FindAllString(text, -1)
		if len(found) == 0 {
			t.Error(file, "names no metric")
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
	}
}

func TestEveryMetricIsExplainedAndDrawn(t *testing.T) {
	metrics, drawn := read(t, "../docs/METRICS.md"), read(t, folder+"dewar.json")
	for name := range gather(t, remote("videos")) {
		if !strings.Contains(metrics, "`"+name+"`") {
			t.Errorf("docs/METRICS.md does not explain %s", name)
		}
		if !strings.Contains(drawn, name) {
			t.Errorf("the dashboard does not draw %s", name)
		}
	}
}

func TestTheDashboardIsWhole(t *testing.T) {
	var d struct {
		SchemaVersion int
		Templating    struct{ List []struct{ Name, Type string } }
		Panels        []struct {
			ID                       int
			Type, Title, Description string
			GridPos                  struct{ H, W, X, Y int }
			FieldConfig              struct{ Defaults struct{ Unit string } }
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, folder+"dewar.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 36 || len(d.Templating.List) != 3 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("version %d, variables %v", d.SchemaVersion, d.Templating.List)
	}
	var ids []int
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s stands outside", p.Title)
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d (%s) lacks a title, description, unit or query", p.ID, p.Title)
		}
		for _, q := range p.Targets {
			if strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "$__rate_interval") {
				t.Errorf("%s has a window of its own: %s", p.Title, q.Expr)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
