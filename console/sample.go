package console

import (
	"strconv"
	"time"

	"github.com/dewarcache/dewar"
)

// sample is what the caches did between two looks. Zeros are left out.
type sample struct {
	At     int64         `json:"t"` // in milliseconds since 1970
	Caches []cacheSample `json:"caches"`
}

// cacheSample is one cache's part of it: rates a second, quantiles in seconds of
// what was seen in between (left out: nothing was), and gauges.
type cacheSample struct {
	Gets     float64 `json:"gets,omitzero"` // the sum of the six below
	Local    float64 `json:"local,omitzero"`
	Remote   float64 `json:"remote,omitzero"`
	Loaded   float64 `json:"loaded,omitzero"`
	Stale    float64 `json:"stale,omitzero"`
	Negative float64 `json:"negative,omitzero"`
	Failed   float64 `json:"failed,omitzero"`

	Collapsed float64 `json:"collapsed,omitzero"`
	Loads     float64 `json:"loads,omitzero"`
	Keys      float64 `json:"keys,omitzero"` // asked for in loads
	Errors    float64 `json:"errors,omitzero"`
	Retries   float64 `json:"retries,omitzero"`
	Refused   float64 `json:"refused,omitzero"` // for want of a slot, by the breaker, by the dial
	Refreshed float64 `json:"refreshed,omitzero"`
	Dropped   float64 `json:"dropped,omitzero"` // the bucket was full
	Filled    float64 `json:"filled,omitzero"`
	Unwritten float64 `json:"unwritten,omitzero"` // writes that failed or were dropped
	Evicted   float64 `json:"evicted,omitzero"`

	Load50  float64 `json:"load50,omitzero"`
	Load99  float64 `json:"load99,omitzero"`
	Wait99  float64 `json:"wait99,omitzero"`
	Stale50 float64 `json:"stale50,omitzero"` // ages of stale values served
	Stale99 float64 `json:"stale99,omitzero"`

	Flights      int     `json:"flights,omitzero"`
	OldestFlight float64 `json:"oldestFlight,omitzero"` // in seconds
	Awaiting     int     `json:"awaiting,omitzero"`
	Overdue      int     `json:"overdue,omitzero"`
	Bucket       int     `json:"bucket,omitzero"`
	Pinned       int     `json:"pinned,omitzero"`
	Backfill     int     `json:"backfill,omitzero"`
	Pending      int     `json:"pending,omitzero"`
	Entries      int64   `json:"entries,omitzero"`
	Cost         int64   `json:"cost,omitzero"`
	Calls        int     `json:"calls,omitzero"`
	Slots        int     `json:"slots,omitzero"`
	Queued       int     `json:"queued,omitzero"`

	Total   uint64  `json:"total,omitzero"` // reads since New
	Level   int     `json:"level"`
	Breaker string  `json:"breaker"`
	Closed  bool    `json:"closed,omitzero"`
	Bus     string  `json:"bus"`               // "none", "hearing" or "deaf"
	Silent  float64 `json:"silent,omitzero"`   // while deaf: seconds since the bus last answered
	Lag     float64 `json:"lag,omitzero"`      // seconds an announcement took
	Barred  int     `json:"barred,omitzero"`   // open breakers of the remote tier
	Problem string  `json:"problem,omitempty"` // why there is nothing else here
}

// between compares two looks at a cache. What has shrunk counts as begun anew: a
// Part may stand for one cache after another.
func between(before, after *taken, took time.Duration) cacheSample {
	if after.problem != "" || before.problem != "" {
		return cacheSample{Problem: max(after.problem, before.problem)}
	}
	b, a := &before.stats, &after.stats
	rate := func(before, after uint64) float64 {
		if after < before {
			before = 0
		}
		return rounded(float64(after-before) / took.Seconds())
	}
	since := func(before, after *dewar.Histogram) dewar.Histogram {
		if after.Count < before.Count {
			return *after
		}
		return after.Since(before)
	}
	unwritten := func(s *dewar.Stats) uint64 { return s.WritesFailed + s.WritesDropped }
	refused := func(s *dewar.Stats) uint64 { return s.Overloaded + s.BreakerRefused + s.DefconRefused }
	load, wait, stale := since(&b.LoadTime, &a.LoadTime), since(&b.WaitTime, &a.WaitTime), since(&b.StaleAge, &a.StaleAge)
	return cacheSample{
		Gets:     rate(b.Gets(), a.Gets()),
		Local:    rate(b.LocalHits, a.LocalHits),
		Remote:   rate(b.RemoteHits, a.RemoteHits),
		Loaded:   rate(b.Loaded, a.Loaded),
		Stale:    rate(b.Stale, a.Stale),
		Negative: rate(b.Negative, a.Negative),
		Failed:   rate(b.Failed, a.Failed),

		Collapsed: rate(b.Collapsed, a.Collapsed),
		Loads:     rate(b.Loads, a.Loads),
		Keys:      rate(b.LoadedKeys, a.LoadedKeys),
		Errors:    rate(b.LoadErrors, a.LoadErrors),
		Retries:   rate(b.Retries, a.Retries),
		Refused:   rate(refused(b), refused(a)),
		Refreshed: rate(b.Refreshed, a.Refreshed),
		Dropped:   rate(b.RefreshDropped, a.RefreshDropped),
		Filled:    rate(b.Filled, a.Filled),
		Unwritten: rate(unwritten(b), unwritten(a)),
		Evicted:   rate(b.Local.Evicted, a.Local.Evicted),

		Load50:  rounded(load.Quantile(0.50)),
		Load99:  rounded(load.Quantile(0.99)),
		Wait99:  rounded(wait.Quantile(0.99)),
		Stale50: rounded(stale.Quantile(0.50)),
		Stale99: rounded(stale.Quantile(0.99)),

		Flights:      a.Flights,
		OldestFlight: rounded(a.OldestFlight.Seconds()),
		Awaiting:     a.Awaiting,
		Overdue:      a.OverdueLoads,
		Bucket:       a.Bucket,
		Pinned:       a.Pinned,
		Backfill:     a.BackfillQueue,
		Pending:      a.PendingInvalidations,
		Entries:      a.Local.Entries,
		Cost:         a.Local.Cost,
		Calls:        a.Origin.Calls,
		Slots:        a.Origin.Slots,
		Queued:       a.Origin.Queued,

		Total:   a.Gets(),
		Level:   int(a.Level),
		Breaker: a.Origin.Breaker.String(),
		Closed:  a.Closed,
		Bus:     busOf(a),
		Silent:  silence(a),
		Lag:     rounded(a.Remote.Lag.Seconds()),
		Barred:  a.Remote.OpenBreakers,
	}
}

// busOf tells how a cache hears of the other processes' writes.
func busOf(s *dewar.Stats) string {
	switch {
	case !s.HasRemote:
		return "none"
	case s.Remote.Deaf:
		return "deaf"
	}
	return "hearing"
}

// silence is told only while it means something: healthy buses are silent for
// moments all the time.
func silence(s *dewar.Stats) float64 {
	if !s.Remote.Deaf {
		return 0
	}
	return rounded(s.Remote.SilentFor.Seconds())
}

// rounded keeps four digits, which is more than a graph can show: five minutes
// of samples are sent to every page that opens.
func rounded(f float64) float64 {
	f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', 4, 64), 64)
	return f
}
