package dewarotel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Cache is a *dewar.Cache of any key and value.
type Cache interface {
	Name() string
	Stats() dewar.Stats
}

// Observe registers observable counters and gauges for all of Stats but its
// histograms, which Histograms tells. They are read when metrics are collected,
// and block no reader. Unregister the registration to end it.
func Observe(provider metric.MeterProvider, caches ...Cache) (metric.Registration, error) {
	names := make(map[string]bool, len(caches))
	for _, c := range caches {
		if names[c.Name()] {
			return nil, fmt.Errorf("dewarotel: there are two caches %q: give one another Config.Name", c.Name())
		}
		names[c.Name()] = true
	}
	meter := provider.Meter(scope)
	instruments := make([]metric.Float64Observable, len(metrics.Families))
	all := make([]metric.Observable, len(metrics.Families))
	for i := range metrics.Families {
		f := &metrics.Families[i]
		var err error
		if f.Counts {
			instruments[i], err = meter.Float64ObservableCounter(nameOf(f.Name), metric.WithDescription(f.Help), metric.WithUnit(unitOf(f.Name)))
		} else {
			instruments[i], err = meter.Float64ObservableGauge(nameOf(f.Name), metric.WithDescription(f.Help), metric.WithUnit(unitOf(f.Name)))
		}
		if err != nil {
			return nil, fmt.Errorf("dewarotel: %w", err)
		}
		all[i] = instruments[i]
	}
	caches = slices.Clone(caches)
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for s := range metrics.Snapshots(slices.Values(caches)) {
			for i := range metrics.Families {
				f := &metrics.Families[i]
				if !s.Has(f) {
					continue
				}
				subject := attribute.String("dewar."+f.Of.String()+".name", s.Subject(f))
				for _, series := range f.Series {
					attributes := []attribute.KeyValue{subject}
					for k, word := range series.Words {
						attributes = append(attributes, attribute.String("dewar."+f.Labels[k], word))
					}
					o.ObserveFloat64(instruments[i], series.Value(&s.Stats), metric.WithAttributes(attributes...))
				}
			}
		}
		return nil
	}, all...)
}

// nameOf is a name of Prometheus's form in OpenTelemetry's, which has the unit
// and the kind elsewhere.
func nameOf(name string) string {
	for _, suffix := range []string{"_total", "_seconds", "_timestamp"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return "dewar." + name
}

// unitOf is the unit by the conventions: what is counted stands in braces.
func unitOf(name string) string {
	for _, u := range []struct{ part, unit string }{
		{"_seconds", "s"},
		{"keys", "{key}"},
		{"gets", "{key}"},
		{"refreshes", "{key}"},
		{"fills", "{entry}"},
		{"entries", "{entry}"},
		{"evictions", "{entry}"},
		{"loads", "{call}"},
		{"load_", "{call}"},
		{"calls", "{call}"},
		{"slots", "{call}"},
		{"flights", "{flight}"},
	} {
		if strings.Contains(name, u.part) {
			return u.unit
		}
	}
	return "1"
}
