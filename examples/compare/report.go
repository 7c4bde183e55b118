package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/tape"
)

// report is what -json prints. Durations are in ms; the counts of ids say by
// what they were answered.
type report struct {
	Trace         string         `json:"trace"`
	Processes     int            `json:"processes"`
	IDs           int            `json:"ids"`
	RatePerSecond int            `json:"rate_per_second"`
	Seed          uint64         `json:"seed"`
	DurationMS    float64        `json:"duration_ms"`
	TTLMS         float64        `json:"ttl_ms"`
	Redis         string         `json:"redis"`
	Systems       []systemResult `json:"systems"`
	Claims        []claim        `json:"claims"`
	OK            bool           `json:"ok"`
}

// systemResult is how one system did.
type systemResult struct {
	Name      string      `json:"name"`
	Acts      []actResult `json:"acts"`
	Total     actResult   `json:"total"`
	HerdLoads int64       `json:"herd_loads"`       // calls of the origin for the id of the herd
	AdLoads   float64     `json:"loads_per_ad_ttl"` // of one ad, over all processes, in the ad break
	Loads     float64     `json:"loads_per_ttl"`    // of all ids, over all processes and acts
	Press     pressResult `json:"changed"`
}

// actResult is how one system did in one act.
type actResult struct {
	Act      string  `json:"act"`
	TookMS   float64 `json:"took_ms"`
	Requests int64   `json:"requests"`
	IDs      int64   `json:"ids"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	P999MS   float64 `json:"p99_9_ms"`

	Memory int64 `json:"ids_memory"`
	Redis  int64 `json:"ids_redis"`
	Origin int64 `json:"ids_origin"`
	Stale  int64 `json:"ids_stale"`

	OriginCalls int64  `json:"origin_calls"`
	OriginIDs   int64  `json:"origin_ids"`
	RedisErrors int64  `json:"redis_errors"`
	Errors      int64  `json:"errors"`
	FirstError  string `json:"first_error,omitempty"`
}

func newActResult(name string, took time.Duration, m *measure, calls, ids int64) actResult {
	r := actResult{
		Act: name, TookMS: ms(took),
		Requests: m.requests.Load(), IDs: m.ids.Load(), Errors: m.errors.Load(),
		P50MS: ms(m.latency.Percentile(0.5)), P99MS: ms(m.latency.Percentile(0.99)), P999MS: ms(m.latency.Percentile(0.999)),
		Memory: m.memory.Load(), Redis: m.redis.Load(), Origin: m.origin.Load(), Stale: m.stale.Load(),
		OriginCalls: calls, OriginIDs: ids,
	}
	if err := m.firstErr.Load(); err != nil {
		r.FirstError = (*err).Error()
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newReport(set settings, srv redisd.Server, t *tape.Tape, systems []systemResult) *report {
	r := &report{
		Trace: t.Name, Processes: set.processes, IDs: len(t.Popular), RatePerSecond: set.rate, Seed: set.seed,
		DurationMS: ms(set.duration), TTLMS: ms(newTimes(set).ttl),
		Redis: srv.String(), Systems: systems, Claims: judge(systems, set.processes), OK: true,
	}
	for _, c := range r.Claims {
		r.OK = r.OK && c.Held
	}
	return r
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
