package dewarstatsd_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dewarstatsd "github.com/dewarcache/dewar/statsd"
)

func TestACacheThatIsOpenedAnewCountsFromZero(t *testing.T) {
	a, old := listen(t), newFixed("videos")
	old.stats.Loads = 100
	old.stats.LoadTime.Count, old.stats.LoadTime.Buckets[80] = 100, 100
	p := start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour}, old)
	p.Remove(old) // pushes for the last time
	_ = a.lines()
	anew := newFixed("videos")
	anew.stats.Loads = 7
	anew.stats.LoadTime.Count, anew.stats.LoadTime.Buckets[80] = 7, 7
	if err := p.Add(anew); err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	lines := a.lines()
	wants(t, lines, "dewar.loads_total:7|c|#cache:videos", "dewar.load_seconds.count:7|c|#cache:videos")
	for _, l := range lines {
		if strings.Contains(l, ":-") {
			t.Error("negative:", l)
		}
	}
}

func TestTwoCachesOfOneNameAreRefused(t *testing.T) {
	a := listen(t)
	for name, tt := range map[string]struct {
		one, two string
		plain    bool
		refused  bool
	}{
		"the same":        {"videos", "videos", false, true},
		"the same, plain": {"videos", "videos", true, true},
		"as plain names":  {"eu.videos", "eu_videos", true, true},
		"as tags":         {"eu.videos", "eu_videos", false, false},
		"others":          {"videos", "ads", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour, Plain: tt.plain}
			p, err := dewarstatsd.Start(cfg, newFixed(tt.one), newFixed(tt.two))
			if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "Config.Name") {
				t.Errorf("Start: %v", err)
			}
			if err == nil {
				_ = p.Close()
			}
			if p = start(t, cfg, newFixed(tt.one)); (p.Add(newFixed(tt.two)) != nil) != tt.refused {
				t.Error("Add")
			}
		})
	}
}

func TestTheLoggerHearsThatNothingArrives(t *testing.T) {
	refused := listen(t)
	addr := refused.addr()
	refused.conn.Close()
	for name, cfg := range map[string]dewarstatsd.Config{
		"UDP, refused": {Addr: addr},
		"plain":        {Addr: addr, Plain: true},
		"no socket":    {Addr: "unix://" + filepath.Join(t.TempDir(), "nobody.sock")},
	} {
		t.Run(name, func(t *testing.T) {
			var log syncBuffer
			cfg.Interval, cfg.Logger = 5*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
			p := start(t, cfg, newFixed("videos"))
			for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "cannot be pushed"); {
				if time.Now().After(end) {
					t.Fatalf("it heard %q", log.String())
				}
				time.Sleep(5 * time.Millisecond)
			}
			_ = p.Close()
		})
	}
}

func TestPlainHasNoTagsWhateverTheEnvironmentSays(t *testing.T) {
	t.Setenv("DD_ENV", "prod")
	for plain, tagged := range map[bool]bool{true: false, false: true} {
		a := listen(t)
		_ = start(t, dewarstatsd.Config{Addr: a.addr(), Interval: time.Hour, Plain: plain}, newFixed("videos")).Close()
		lines := a.lines()
		if len(lines) < 20 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range lines {
			if strings.Contains(l, "#") != tagged || strings.Count(l, ":") < 1 || !strings.Contains(l, "|") {
				t.Fatalf("plain %v: %s", plain, l)
			}
		}
	}
}
