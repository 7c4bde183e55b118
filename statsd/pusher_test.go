package dewarstatsd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
	dewarstatsd "github.com/dewarcache/dewar/statsd"
)

// fixed is a cache whose stats are given.
type fixed struct {
	name  string
	mu    sync.Mutex // mu guards stats
	stats dewar.Stats
}

func (f *fixed) Name() string { return f.name }

func (f *fixed) Stats() dewar.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

func newFixed(name string) *fixed {
	return &fixed{name: name, stats: dewar.Stats{HasRemote: true, Level: dewar.Normal, Origin: dewar.OriginStats{Name: name}}}
}

// agent is a socket that listens.
type agent struct {
	t    *testing.T
	conn *net.UDPConn
}

func listen(t *testing.T) *agent {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &agent{t, conn}
}

func (a *agent) addr() string { return a.conn.LocalAddr().String() }

// lines returns what has come in once nothing more does. The pusher has been
// closed, or has told of a mark that ends its push.
func (a *agent) lines() (lines []string) {
	buf := make([]byte, 64<<10)
	for {
		if err := a.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			a.t.Fatal(err)
		}
		n, err := a.conn.Read(buf)
		if err != nil {
			return lines
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(buf[:n])), "\n")...)
	}
}

func start(t *testing.T, cfg dewarstatsd.Config, caches ...dewarstatsd.Cache) *dewarstatsd.Pusher {
	t.Helper()
	p, err := dewarstatsd.Start(cfg, caches...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func wants(t *testing.T, lines []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if n := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l != w })); n != 1 {
			t.Errorf("%d times: %s", n, w)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}
}

func TestCountersAreWhatCameSinceTheLastPush(t *testing.T) {
	a, videos := listen(t), newFixed("videos")
	videos.stats.LocalHits, videos.stats.Loads = 100, 7
	p := start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour}, videos)
	ads := newFixed("ads")
	if err := p.Add(ads); err != nil {
		t.Fatal(err)
	}
	p.Remove(ads) // pushes
	wants(t, a.lines(), "dewar.gets_total:100|c|#cache:videos,tier:local,outcome:hit", "dewar.loads_total:7|c|#cache:videos", "dewar.defcon_level:5|g|#cache:videos")
	videos.mu.Lock()
	videos.stats.LocalHits += 5
	videos.mu.Unlock()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	lines := a.lines()
	wants(t, lines, "dewar.gets_total:5|c|#cache:videos,tier:local,outcome:hit")
	for _, l := range lines {
		if strings.Contains(l, "loads_total") || strings.Contains(l, "cache:ads") {
			t.Error("pushed though nothing came, or after it was removed:", l)
		}
	}
}

func TestPlainNamesHaveNoTags(t *testing.T) {
	a, videos := listen(t), newFixed("eu.videos")
	videos.stats.StaleRemote, videos.stats.Stale = 3, 3
	videos.stats.Origin.Breaker = dewar.BreakerOpen
	p := start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour, Prefix: "app.cache.", Plain: true}, videos)
	_ = p.Close()
	lines := a.lines()
	wants(t, lines, "app.cache.eu_videos.gets_total.remote.stale:3|c", "app.cache.eu_videos.origin_breaker_state.open:1|g")
	for _, l := range lines {
		if strings.Contains(l, "#") {
			t.Error(l)
		}
	}
}

var line = regexp.MustCompile(`^dewar\.[a-z0-9_.]+:-?[0-9.e+-]+\|[cg]\|#(cache|origin):videos(,[a-z]+:[a-z-]+)*,env:test$`)

func TestEveryLineIsWellFormedAndEveryFamilyIsTold(t *testing.T) {
	a, videos := listen(t), newFixed("videos")
	filled := &videos.stats
	filled.LoadTime.Count, filled.LoadTime.Buckets[80] = 1, 1
	filled.Loads, filled.LocalHits = 1, 1
	p := start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour, Tags: []string{"env:test"}}, videos)
	_ = p.Close()
	lines := a.lines()
	for _, l := range lines {
		if l = strings.Replace(l, "#env:test,", "#", 1); !strings.HasSuffix(l, ",env:test") {
			l += ",env:test"
		}
		if !line.MatchString(l) {
			t.Errorf("%q", l)
		}
	}
	for _, f := range metrics.Families {
		if f.Counts {
			continue // only what has counted is told
		}
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "dewar."+f.Name+":") }) {
			t.Error("not told:", f.Name)
		}
	}
	for _, part := range []string{"count:1|c", "p50:1|g", "p95:1|g", "p99:1|g"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "dewar.load_seconds."+part) }) {
			t.Error("not told of the histogram:", part)
		}
	}
}

func TestASharedOriginIsPushedOnce(t *testing.T) {
	a, videos, ads := listen(t), newFixed("videos"), newFixed("ads")
	videos.stats.Origin = dewar.OriginStats{Name: "catalog", Calls: 3}
	ads.stats.Origin = videos.stats.Origin
	_ = start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour}, videos, ads).Close()
	wants(t, a.lines(), "dewar.origin_calls:3|g|#origin:catalog")
}

func TestPushesComeByThemselves(t *testing.T) {
	a, videos := listen(t), newFixed("videos")
	start(t, dewarstatsd.Config{Addr: a.addr(), Interval: 20 * time.Millisecond}, videos)
	buf := make([]byte, 64<<10)
	for range 3 {
		if err := a.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAgentThatIsNotThereDisturbsNobody(t *testing.T) {
	a := listen(t)
	addr := a.addr()
	a.conn.Close()
	var log syncBuffer
	p := start(t, dewarstatsd.Config{Addr: addr, Interval: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, newFixed("videos"))
	time.Sleep(50 * time.Millisecond)
	_ = p.Close()
	if n := strings.Count(log.String(), "cannot be pushed"); n > 1+strings.Count(log.String(), "pushed again") {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	a := listen(t)
	before := runtime.NumGoroutine()
	for range 10 {
		p := start(t, dewarstatsd.Config{Addr: a.addr()}, newFixed("videos"))
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error("again:", err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, cfg := range map[string]dewarstatsd.Config{
		"no address":   {},
		"interval":     {Addr: "127.0.0.1:1", Interval: -1},
		"plain, tags":  {Addr: "127.0.0.1:1", Plain: true, Tags: []string{"a:b"}},
		"no such host": {Addr: "no-port"},
	} {
		if p, err := dewarstatsd.Start(cfg); err == nil {
			t.Error(name)
			_ = p.Close()
		}
	}
}

func TestARealCacheIsPushedWithoutItsKeys(t *testing.T) {
	a := listen(t)
	cache, err := dewar.New(dewar.Config[string, string]{
		Name: "real", TTL: time.Hour, Local: noTier{},
		Load: func(_ context.Context, k string) (string, error) { return k, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	if _, err := cache.Get(t.Context(), "secret-key"); err != nil {
		t.Fatal(err)
	}
	_ = start(t, dewarstatsd.Config{Addr: a.addr()}, cache).Close()
	lines := a.lines()
	wants(t, lines, "dewar.gets_total:1|c|#cache:real,tier:origin,outcome:loaded", "dewar.load_keys.count:1|c|#cache:real")
	if strings.Contains(strings.Join(lines, "\n"), "secret-key") {
		t.Error("a key is told")
	}
}

// noTier keeps nothing.
type noTier struct{}

func (noTier) Validate() error                                   { return nil }
func (noTier) OpenLocal(string) (dewar.LocalTier[string], error) { return noTier{}, nil }
func (noTier) Get(string) *dewar.Entry[string]                   { return nil }
func (noTier) Set(string, dewar.Entry[string])                   {}
func (noTier) Delete(string)                                     {}
func (noTier) Clear()                                            {}
func (noTier) Stats() (s dewar.LocalStats)                       { return s }
func (noTier) Close()                                            {}

type syncBuffer struct {
	mu sync.Mutex // mu guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestMain(m *testing.M) {
	for _, v := range []string{"DD_ENTITY_ID", "DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_AGENT_HOST"} {
		_ = os.Unsetenv(v) // the client adds them as tags
	}
	os.Exit(m.Run())
}
