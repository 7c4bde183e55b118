package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/platform"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// report is what -json prints. Durations are in ms.
type report struct {
	DurationMS    float64 `json:"duration_ms"`
	RatePerSecond int     `json:"viewers_per_second"`
	Seed          uint64  `json:"seed"`
	Redis         string  `json:"redis"`
	Titles        int     `json:"titles"`

	Acts      []actResult              `json:"acts"`
	Total     actResult                `json:"total"`
	Levels    []levelResult            `json:"levels"` // of the drill; 5 first
	Services  map[string]serviceResult `json:"services"`
	Shadow    platform.ShadowStats     `json:"shadow"`
	Extension extensionResult          `json:"extension"`
	Lockdown  lockdownResult           `json:"lockdown"`
	Restored  restoredResult           `json:"restored"`
	Cold      string                   `json:"cold,omitempty"` // what could not be loaded ahead
	Leaked    int                      `json:"goroutines_left"`

	recording *recording

	Claims []claim `json:"claims"`
	OK     bool    `json:"ok"`
}

// actResult is how one act went.
type actResult struct {
	Act      string  `json:"act"`
	TookMS   float64 `json:"took_ms"`
	Viewers  int64   `json:"viewers"`
	Pages    int64   `json:"pages"`    // start pages looked at
	Plays    int64   `json:"plays"`    // titles played
	Requests int64   `json:"requests"` // retries included
	Retries  int64   `json:"retries"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`

	Reads       int64 `json:"reads"`        // keys read from the caches
	Stale       int64 `json:"reads_stale"`  // of which stale values answered
	StreamReads int64 `json:"stream_reads"` // those of stream URLs
	StreamStale int64 `json:"stream_reads_stale"`

	OriginCalls int64 `json:"origin_calls"`   // of the legacy services, by the platform
	OldCalls    int64 `json:"old_calls"`      // by the old path
	Uncached    int64 `json:"uncached_calls"` // that the platform would have made without caches

	Errors     int64  `json:"playback_errors"`
	FirstError string `json:"first_error,omitempty"`
}

// levelResult is what viewers got at one level of the dial.
type levelResult struct {
	Level    int                                 `json:"level"`
	Name     string                              `json:"name"`
	Features map[wire.Part]platform.FeatureCount `json:"features"`
}

// serviceResult is what a legacy service had to bear of the platform.
type serviceResult struct {
	legacy.Counts
	Bears int `json:"bears_at_once"`
}

func newActResult(name string, took time.Duration, c *counts, m measured) actResult {
	r := actResult{
		Act: name, TookMS: ms(took),
		Viewers: c.viewers.Load(), Pages: c.pages.Load(), Plays: c.plays.Load(),
		Requests: c.requests.Load(), Retries: c.retries.Load(),
		P50MS: ms(c.latency.Percentile(0.5)), P99MS: ms(c.latency.Percentile(0.99)),
		Reads: m.reads, Stale: m.stale, StreamReads: m.streamReads, StreamStale: m.streamStale,
		OriginCalls: m.calls, OldCalls: m.old, Uncached: m.uncached,
		Errors: c.errors.Load(),
	}
	if err := c.firstErr.Load(); err != nil {
		r.FirstError = (*err).Error()
	}
	return r
}

// features are what viewers got, by level.
type features = map[dewar.Level]map[wire.Part]platform.FeatureCount

// since is what was counted since before.
func since(now, before map[wire.Part]platform.FeatureCount) map[wire.Part]platform.FeatureCount {
	diff := make(map[wire.Part]platform.FeatureCount)
	for part, n := range now {
		b := before[part]
		diff[part] = platform.FeatureCount{Served: n.Served - b.Served, Shed: n.Shed - b.Shed, Missing: n.Missing - b.Missing}
	}
	return diff
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newReport(n *night, srv redisd.Server) *report {
	stats := n.stage.platform.Stats()
	r := &report{
		DurationMS: ms(n.set.duration), RatePerSecond: n.set.rate, Seed: n.set.seed, Redis: srv.String(), Titles: titleCount,
		Acts: n.acts, Services: make(map[string]serviceResult), Shadow: stats.Shadow,
		Extension: n.extension, Lockdown: n.lockdown, Restored: n.restored,
	}
	if n.cold != nil {
		r.Cold = fmt.Sprintf("%.300s", n.cold.Error())
	}
	var took float64
	for _, a := range n.acts {
		took += a.TookMS
	}
	r.Total = newActResult("the night", time.Duration(took*float64(time.Millisecond)), &n.all, n.measure())
	for level := dewar.Normal; level >= dewar.Lockdown; level-- {
		r.Levels = append(r.Levels, levelResult{int(level), level.String(), since(stats.Features[level], n.drill[level])})
	}
	for name, c := range n.stage.legacy.Counts() {
		r.Services[name] = serviceResult{c, n.stage.legacy.AtOnce(name)}
	}
	return r
}

func (r *report) act(name string) (a actResult) {
	for _, a := range r.Acts {
		if a.Act == name {
			return a
		}
	}
	return a
}

// services are the names, in order.
func (r *report) services() []string { return slices.Sorted(maps.Keys(r.Services)) }

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
