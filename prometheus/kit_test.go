package dewarprom_test

import (
	"bytes"
	"testing"

	"github.com/dewarcache/dewar"
	dewarprom "github.com/dewarcache/dewar/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// fixed is a cache whose stats are given.
type fixed struct {
	name  string
	stats dewar.Stats
}

func (f *fixed) Name() string       { return f.name }
func (f *fixed) Stats() dewar.Stats { return f.stats }

func remote(name string) *fixed {
	return &fixed{name, dewar.Stats{HasRemote: true, Level: dewar.Normal, Origin: dewar.OriginStats{Name: name}}}
}

// gather returns what a scrape of the caches brings, by name.
func gather(t testing.TB, caches ...dewarprom.Cache) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(dewarprom.NewCollector(caches...))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily, len(families))
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// text is a scrape as Prometheus reads it, native buckets left out.
func text(t testing.TB, caches ...dewarprom.Cache) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(dewarprom.NewCollector(caches...))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
