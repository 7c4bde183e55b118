package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report is what -json prints. Durations are in ms; the counts of ids say by
// what they were answered.
type report struct {
	Trace         string         `json:"trace"`
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
	HerdLoads int64       `json:"herd_loads"` // calls of the origin for the id of the herd
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
	Errors      int64  `json:"errors"`
	FirstError  string `json:"first_error,omitempty"`
}

func newActResult(name string, took time.Duration, m *measure, calls, ids int64) actResult {
	r := actResult{
		Act: name, TookMS: ms(took),
		Requests: m.requests.Load(), IDs: m.ids.Load(), Errors: m.errors.Load(),
		P50MS: ms(m.latency.percentile(0.5)), P99MS: ms(m.latency.percentile(0.99)), P999MS: ms(m.latency.percentile(0.999)),
		Memory: m.memory.Load(), Redis: m.redis.Load(), Origin: m.origin.Load(), Stale: m.stale.Load(),
		OriginCalls: calls, OriginIDs: ids,
	}
	if err := m.firstErr.Load(); err != nil {
		r.FirstError = (*err).Error()
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newReport(set settings, t *tape, systems []systemResult) *report {
	r := &report{
		Trace: t.name, IDs: t.ids, RatePerSecond: set.rate, Seed: set.seed,
		DurationMS: ms(set.duration), TTLMS: ms(newTimes(set).ttl),
		Redis: "embedded", Systems: systems, Claims: judge(systems), OK: true,
	}
	if set.redis != "" {
		r.Redis = set.redis
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

// The columns of the tables: the first one is to the left.
var columns = []struct {
	group, name string
	width       int
}{
	{"", "", 14},
	{"", "requests", 9},
	{"", "ids", 10},
	{"latency", "p50", 9},
	{"", "p99", 8},
	{"", "p99.9", 8},
	{"ids answered by", "memory", 9},
	{"", "Redis", 7},
	{"", "origin", 8},
	{"", "stale", 7},
	{"origin asked", "calls", 10},
	{"", "ids", 10},
	{"", "errors", 9},
}

// writeText prints a table for each system, what came of the herd, and the
// claims, within 120 columns.
func (r *report) writeText(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Systems {
		writeTable(&b, s)
	}
	fmt.Fprintf(&b, "Loads for one cold id asked for by %s readers at once:", count(herdSize))
	for i, s := range r.Systems {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s %s", s.Name, count(s.HerdLoads))
	}
	b.WriteString(".\n\nClaims of dewar:\n")
	for _, c := range r.Claims {
		word := "held  "
		if !c.Held {
			word = "BROKEN"
		}
		fmt.Fprintf(&b, "  %s  %s: %s\n", word, c.Claim, c.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTable(b *strings.Builder, s systemResult) {
	row := func(cells ...string) {
		var line strings.Builder
		for i, text := range cells {
			gap := strings.Repeat(" ", max(0, columns[i].width-utf8.RuneCountInString(text)))
			if i == 0 {
				line.WriteString(text + gap)
			} else {
				line.WriteString(gap + text)
			}
		}
		fmt.Fprintln(b, strings.TrimRight(line.String(), " "))
	}
	writeGroups(b)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.name
	}
	head[0] = s.Name
	row(head...)
	rule := strings.Repeat("-", tableWidth())
	fmt.Fprintln(b, rule)
	line := func(a actResult) {
		row(a.Act, cell(a.Requests), cell(a.IDs), span(a.P50MS), span(a.P99MS), span(a.P999MS),
			share(a.Memory, a.IDs), share(a.Redis, a.IDs), share(a.Origin, a.IDs), share(a.Stale, a.IDs),
			cell(a.OriginCalls), cell(a.OriginIDs), cell(a.Errors))
	}
	for _, a := range s.Acts {
		line(a)
	}
	fmt.Fprintln(b, rule)
	line(s.Total)
	b.WriteByte('\n')
}

// writeGroups prints the line above the names of the columns.
func writeGroups(b *strings.Builder) {
	line, at := "", 0
	for _, c := range columns {
		if c.group != "" {
			start := at + c.width - len(c.name) // where the first name of the group starts
			line += strings.Repeat(" ", max(0, start-len(line))) + c.group
		}
		at += c.width
	}
	fmt.Fprintln(b, line)
}

func tableWidth() (n int) {
	for _, c := range columns {
		n += c.width
	}
	return n
}

// cell writes n for a table: zero as a dash, millions in short.
func cell(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 1_000_000:
		return fmt.Sprintf("%.2fM", float64(n)/1_000_000)
	}
	return count(n)
}

// count writes n with commas.
func count[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// share writes n of all in percent.
func share(n, all int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(all))
}

// span writes a duration with two or three digits.
func span(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 0.9995:
		return fmt.Sprintf("%.0fµs", 1000*ms)
	case ms < 9.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.2fs", ms/1000)
}
