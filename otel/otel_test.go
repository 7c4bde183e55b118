package dewarotel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/internal/metrics"
	dewarotel "github.com/dewarcache/dewar/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// tracing returns a provider whose spans end up in the recorder at once.
func tracing(t *testing.T) (*sdktrace.TracerProvider, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider, recorder
}

// named returns the ended spans of a name.
func named(r *tracetest.SpanRecorder, name string) []sdktrace.ReadOnlySpan {
	return slices.DeleteFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != name })
}

// of returns an attribute as text; "" when it is not there.
func of(attributes []attribute.KeyValue, key string) string {
	for _, a := range attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

func TestALoadIsASpanOfItsCallerLinkedToItsWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, recorder := tracing(t)
		tracer := provider.Tracer("test")
		var inside trace.SpanContext
		cache := dewartest.New(t, dewar.Config[string, string]{
			Name: "videos", TTL: time.Hour, Trace: dewarotel.Trace(provider),
			Load: func(ctx context.Context, k string) (string, error) {
				inside = trace.SpanContextFromContext(ctx)
				time.Sleep(time.Second)
				return k, nil
			},
		})
		var readers []trace.SpanContext
		for i := range 4 {
			ctx, span := tracer.Start(t.Context(), "reader")
			readers = append(readers, span.SpanContext())
			go func() {
				defer span.End()
				_, _ = cache.Get(ctx, "secret-key")
			}()
			time.Sleep(time.Duration(1+i) * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		loads := named(recorder, "dewar.load")
		if len(loads) != 1 {
			t.Fatal(len(loads), "spans")
		}
		load := loads[0]
		if load.Parent().SpanID() != readers[0].SpanID() || inside.SpanID() != load.SpanContext().SpanID() {
			t.Error("it is not a child of its caller's span, or not the loader's")
		}
		var linked []trace.SpanID
		for _, l := range load.Links() {
			linked = append(linked, l.SpanContext.SpanID())
		}
		for _, r := range readers[1:] {
			if !slices.Contains(linked, r.SpanID()) {
				t.Errorf("not linked to %v, but to %v", r.SpanID(), linked)
			}
		}
		for key, want := range map[string]string{
			"dewar.cache.name": "videos", "dewar.origin.name": "videos", "dewar.keys": "1", "dewar.background": "false",
			"dewar.repeated": "false", "dewar.outcome": "loaded", "dewar.waiters": "3", "dewar.tier": "origin",
		} {
			if got := of(load.Attributes(), key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		events := 0
		for _, reader := range named(recorder, "reader") {
			for _, e := range reader.Events() {
				if e.Name == "dewar.read" && of(e.Attributes, "dewar.keys.loaded") == "1" && of(e.Attributes, "dewar.cache.name") == "videos" {
					events++
				}
			}
		}
		if events != 4 {
			t.Error(events, "readers have the event of their read")
		}
		if strings.Contains(fmt.Sprint(load.Attributes(), load.Events(), load.Name()), "secret-key") {
			t.Error("a key is told")
		}
	})
}

func TestAFailedLoadIsToldByTheTypeOfItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, recorder := tracing(t)
		for name, load := range map[string]func(context.Context, string) (string, error){
			"*errors.errorString": func(context.Context, string) (string, error) { return "", errors.New("no row for secret-key") },
			"*dewar.PanicError":   func(context.Context, string) (string, error) { panic("secret-key") },
		} {
			recorder.Reset()
			cache := dewartest.New(t, dewar.Config[string, string]{Name: "videos", TTL: time.Hour, Trace: dewarotel.Trace(provider), Load: load})
			_, _ = cache.Get(t.Context(), "secret-key")
			loads := named(recorder, "dewar.load")
			if len(loads) != 1 || loads[0].Status().Code != codes.Error || of(loads[0].Attributes(), "error.type") != name ||
				of(loads[0].Attributes(), "dewar.outcome") != "error" {
				t.Errorf("%s: %+v", name, loads)
			}
			if strings.Contains(fmt.Sprint(loads[0].Attributes(), loads[0].Events(), loads[0].Status()), "secret-key") {
				t.Error("a key is told")
			}
		}
	})
}

func TestABackgroundLoadIsASpanOfItsOwnTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, recorder := tracing(t)
		cache := dewartest.New(t, dewar.Config[string, string]{
			Name: "videos", TTL: time.Hour, Trace: dewarotel.Trace(provider),
			LoadMany: func(_ context.Context, ks []string) (map[string]string, error) {
				return map[string]string{ks[0]: "v"}, nil
			},
		})
		ctx, span := provider.Tracer("test").Start(t.Context(), "deploy")
		if err := cache.Preload(ctx, slices.Values([]string{"a", "b"})); err != nil {
			t.Fatal(err)
		}
		span.End()
		loads := named(recorder, "dewar.load")
		if len(loads) != 1 || loads[0].Parent().IsValid() || of(loads[0].Attributes(), "dewar.background") != "true" || of(loads[0].Attributes(), "dewar.keys") != "2" {
			t.Errorf("%+v", loads)
		}
	})
}

// fixed is a cache whose stats are given.
type fixed struct {
	name  string
	stats dewar.Stats
}

func (f *fixed) Name() string       { return f.name }
func (f *fixed) Stats() dewar.Stats { return f.stats }

// collect returns what a reader collects, by name.
func collect(t *testing.T, caches ...dewarotel.Cache) map[string]metricdata.Metrics {
	t.Helper()
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(dewarotel.Histograms(caches...)))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	registration, err := dewarotel.Observe(provider, caches...)
	if err != nil {
		t.Fatal(err)
	}
	var out metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]metricdata.Metrics)
	for _, scope := range out.ScopeMetrics {
		for _, m := range scope.Metrics {
			if _, twice := byName[m.Name]; twice {
				t.Error("two metrics of the name", m.Name)
			}
			byName[m.Name] = m
		}
	}
	if err := registration.Unregister(); err != nil {
		t.Error(err)
	}
	return byName
}

func TestEveryFamilyHasAnInstrument(t *testing.T) {
	cache := &fixed{"videos", dewar.Stats{HasRemote: true, Origin: dewar.OriginStats{Name: "videos"}}}
	got := collect(t, cache)
	if want := len(metrics.Families) + len(metrics.Histograms); len(got) != want {
		t.Errorf("%d metrics, want %d", len(got), want)
	}
	for name, m := range got {
		if m.Description == "" || m.Unit == "" || !strings.HasPrefix(name, "dewar.") {
			t.Errorf("%+v", m)
		}
	}
}

func TestCountsAndGaugesAreObserved(t *testing.T) {
	videos := &fixed{"videos", dewar.Stats{LocalHits: 7, Level: dewar.Protect, Origin: dewar.OriginStats{Name: "catalog", Calls: 3}}}
	ads := &fixed{"ads", dewar.Stats{Origin: videos.stats.Origin}}
	got := collect(t, videos, ads)
	gets := got["dewar.gets"].Data.(metricdata.Sum[float64])
	if !gets.IsMonotonic || got["dewar.gets"].Unit != "{key}" {
		t.Errorf("%+v", got["dewar.gets"])
	}
	hits := slices.IndexFunc(gets.DataPoints, func(p metricdata.DataPoint[float64]) bool {
		cache, _ := p.Attributes.Value("dewar.cache.name")
		tier, _ := p.Attributes.Value("dewar.tier")
		outcome, _ := p.Attributes.Value("dewar.outcome")
		return cache.AsString() == "videos" && tier.AsString() == "local" && outcome.AsString() == "hit" && p.Value == 7
	})
	if hits < 0 {
		t.Errorf("%+v", gets.DataPoints)
	}
	level := got["dewar.defcon_level"].Data.(metricdata.Gauge[float64])
	if len(level.DataPoints) != 2 {
		t.Errorf("%+v", level)
	}
	calls := got["dewar.origin_calls"].Data.(metricdata.Gauge[float64])
	if len(calls.DataPoints) != 1 || calls.DataPoints[0].Value != 3 { // shared: told once
		t.Errorf("%+v", calls)
	}
	if _, there := got["dewar.bus_deaf"]; there {
		t.Error("told of a remote tier that there is not")
	}
}

// An exponential histogram of the SDK that saw the same is the reference.
func TestHistogramsAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithView(sdkmetric.NewView(
			sdkmetric.Instrument{Name: "reference"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 2}},
		)))
		reference, err := provider.Meter("test").Float64Histogram("reference")
		if err != nil {
			t.Fatal(err)
		}
		took := time.Duration(0)
		cache := dewartest.New(t, dewar.Config[int, int]{
			Name: "videos", TTL: time.Hour, Flight: dewar.Flight{Timeout: time.Hour},
			Load: func(_ context.Context, k int) (int, error) { time.Sleep(took); return k, nil },
		})
		for k := range 200 {
			took = time.Duration(1+k) * time.Duration(1+k) * 37 * time.Microsecond
			if k == 7 {
				took = time.Second // on a border
			}
			if _, err := cache.Get(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			reference.Record(t.Context(), took.Seconds())
		}
		var out metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		want := out.ScopeMetrics[0].Metrics[0].Data.(metricdata.ExponentialHistogram[float64]).DataPoints[0]
		got := collect(t, cache)["dewar.load.duration"].Data.(metricdata.ExponentialHistogram[float64]).DataPoints[0]
		if got.Scale != want.Scale || got.Count != want.Count || got.PositiveBucket.Offset != want.PositiveBucket.Offset ||
			!slices.Equal(got.PositiveBucket.Counts, want.PositiveBucket.Counts) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestTwoCachesOfOneNameAreNotObserved(t *testing.T) {
	provider := sdkmetric.NewMeterProvider()
	cache := func(name string) dewarotel.Cache {
		return dewartest.New(t, dewar.Config[string, string]{
			Name: name, Load: func(_ context.Context, k string) (string, error) { return k, nil },
		})
	}
	if _, err := dewarotel.Observe(provider, cache("videos"), cache("ads"), cache("videos")); err == nil || !strings.Contains(err.Error(), "Config.Name") {
		t.Error(err)
	}
	if _, err := dewarotel.Observe(provider, cache("videos"), cache("ads")); err != nil {
		t.Error(err)
	}
}

func TestHistogramsBeginNoLaterThanWhatTheyHaveCounted(t *testing.T) {
	cache := dewartest.New(t, dewar.Config[string, string]{
		Name: "videos", Load: func(_ context.Context, k string) (string, error) { return k, nil },
	})
	if _, err := cache.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	counted := time.Now()
	time.Sleep(time.Millisecond)
	scopes, err := dewarotel.Histograms(cache).Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range scopes[0].Metrics {
		if p := m.Data.(metricdata.ExponentialHistogram[float64]).DataPoints[0]; p.StartTime.After(counted) {
			t.Errorf("%s begins at %v, after %v", m.Name, p.StartTime, counted)
		}
	}
}
