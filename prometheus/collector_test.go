package dewarprom_test

import (
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	dewarprom "github.com/dewarcache/dewar/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fields calls each for every number, flag and time of stats.
func fields(path string, v reflect.Value, each func(path string, set func())) {
	switch x := v.Addr().Interface().(type) {
	case *dewar.Histogram:
		each(path, func() { x.Count, x.Sum, x.Buckets[90] = 1, 5, 1 })
		return
	case *time.Time:
		each(path, func() { *x = time.Unix(1e9, 0) })
		return
	}
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fields(path+"."+v.Type().Field(i).Name, v.Field(i), each)
		}
	case v.CanInt():
		each(path, func() { v.SetInt(v.Int() - 1 + 2*(1-v.Int()%2)) })
	case v.CanUint():
		each(path, func() { v.SetUint(v.Uint() + 1) })
	case v.Kind() == reflect.Bool:
		each(path, func() { v.SetBool(!v.Bool()) })
	case v.Kind() == reflect.String:
		each(path, func() { v.SetString("other") })
	default:
		each(path, func() { panic("what is " + path + "?") })
	}
}

func TestEveryStatIsTold(t *testing.T) {
	plain := text(t, remote("videos"))
	met := 0
	fields("Stats", reflect.ValueOf(&remote("videos").stats).Elem(), func(path string, _ func()) {
		met++
		changed := remote("videos")
		fields("Stats", reflect.ValueOf(&changed.stats).Elem(), func(p string, set func()) {
			if p == path {
				set()
			}
		})
		if text(t, changed) == plain {
			t.Errorf("%s changes nothing in a scrape", path)
		}
	})
	if met < 50 {
		t.Errorf("only %d fields found", met)
	}
}

func TestMetricsPassTheLinter(t *testing.T) {
	problems, err := testutil.CollectAndLint(dewarprom.NewCollector(remote("videos"), remote("ads")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p.Metric, p.Text)
	}
}

func TestDescribeTellsEveryMetric(t *testing.T) {
	// A pedantic registry refuses what was not described.
	if got := gather(t, remote("videos")); len(got) < 40 {
		t.Error(len(got), "families")
	}
}

func TestASharedOriginIsToldOnce(t *testing.T) {
	videos, ads := remote("videos"), remote("ads")
	videos.stats.Origin = dewar.OriginStats{Name: "catalog", Calls: 3, Breaker: dewar.BreakerOpen}
	ads.stats.Origin = videos.stats.Origin
	got := text(t, videos, ads)
	for _, line := range []string{`dewar_origin_calls{origin="catalog"} 3`, `dewar_origin_breaker_state{origin="catalog",state="open"} 1`, `dewar_origin_breaker_state{origin="catalog",state="closed"} 0`} {
		if strings.Count(got, line+"\n") != 1 {
			t.Errorf("%d times: %s", strings.Count(got, line+"\n"), line)
		}
	}
}

func TestACacheWithoutRemoteTierHasNoSeriesOfOne(t *testing.T) {
	local := remote("local")
	local.stats.HasRemote = false
	for name := range gather(t, local) {
		if strings.Contains(name, "remote") || strings.Contains(name, "bus") || strings.Contains(name, "fill") && !strings.Contains(name, "seconds") {
			t.Error(name)
		}
	}
}

func TestCachesComeAndGo(t *testing.T) {
	videos, ads := remote("videos"), remote("ads")
	c := dewarprom.NewCollector(videos)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	series := func(name string) int {
		n, err := testutil.GatherAndCount(r, name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := c.Add(ads); err != nil || series("dewar_loads_total") != 2 {
		t.Error(err, series("dewar_loads_total"))
	}
	if err := c.Add(remote("ads")); err == nil {
		t.Error("two caches of one name would have the same series")
	}
	if err := c.Add(ads); err != nil {
		t.Error("the same cache again:", err)
	}
	c.Remove(videos)
	c.Remove(videos)
	if n := series("dewar_loads_total"); n != 1 {
		t.Error(n, "series")
	}
}

func TestReadsOfARealCacheAreTold(t *testing.T) {
	var fails atomic.Bool
	videos, err := dewar.New(dewar.Config[string, string]{
		Name: "videos", TTL: time.Hour, Local: memory.Config[string]{},
		Load: func(_ context.Context, k string) (string, error) {
			if fails.Load() {
				return "", dewar.ErrNotFound
			}
			return k, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer videos.Close()
	for range 3 {
		if _, err := videos.Get(t.Context(), "secret-key"); err != nil {
			t.Fatal(err)
		}
	}
	fails.Store(true)
	_, _ = videos.Get(t.Context(), "another")
	got := text(t, videos)
	for _, line := range []string{
		`dewar_gets_total{cache="videos",outcome="hit",tier="local"} 2`,
		`dewar_gets_total{cache="videos",outcome="loaded",tier="origin"} 1`,
		`dewar_gets_total{cache="videos",outcome="negative",tier="origin"} 1`,
		`dewar_loads_total{cache="videos"} 2`,
		`dewar_defcon_level{cache="videos"} 5`,
		`dewar_load_keys_bucket{cache="videos",le="1"} 2`,
		`dewar_load_seconds_count{cache="videos"} 2`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(got, "secret-key") {
		t.Error("a key is told")
	}
}

func TestAScrapeKeepsNoReaderWaiting(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	videos, err := dewar.New(dewar.Config[string, string]{
		Name: "videos", TTL: time.Hour, Local: memory.Config[string]{},
		Load: func(_ context.Context, k string) (string, error) { return k, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer videos.Close()
	metrics := make(chan prometheus.Metric) // nobody reads on: the scrape is stuck in the middle
	go func() {
		defer close(release)
		dewarprom.NewCollector(videos).Collect(metrics)
	}()
	<-metrics
	close(entered)
	for _, k := range []string{"a", "b", "a"} {
		if _, err := videos.Get(t.Context(), k); err != nil {
			t.Error(err)
		}
	}
	for {
		select {
		case <-metrics:
		case <-release:
			return
		}
	}
}

func TestOfTwoOriginsOfOneNameEveryScrapeTellsTheSame(t *testing.T) {
	own, ads := remote("catalog"), remote("ads")
	own.stats.Origin = dewar.OriginStats{Name: "catalog", Slots: 128}
	ads.stats.Origin = dewar.OriginStats{Name: "catalog", Slots: 64}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(dewarprom.NewCollector(own, ads))
	seen := make(map[float64]int)
	for range 100 {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "dewar_origin_slots" {
				seen[f.Metric[0].GetGauge().GetValue()]++
			}
		}
	}
	if len(seen) != 1 {
		t.Errorf("its slots are told as %v", seen)
	}
}

func TestAgesOfDaysAreInsideTheClassicBuckets(t *testing.T) {
	videos := remote("videos")
	day := 0
	for dewar.HistogramBound(day) < 24*3600 {
		day++
	}
	for name, h := range map[string]*dewar.Histogram{"dewar_stale_age_seconds": &videos.stats.StaleAge, "dewar_serve_age_seconds": &videos.stats.ServeAge} {
		h.Count, h.Sum, h.Buckets[day] = 1, 24*3600, 1
		m := gather(t, videos)[name].Metric[0].GetHistogram()
		if last := m.Bucket[len(m.Bucket)-1]; last.GetCumulativeCount() != 1 {
			t.Errorf("%s: an age of a day is above the last bucket, %v s", name, last.GetUpperBound())
		}
	}
}
