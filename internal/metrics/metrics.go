// Package metrics is the one list of what can be told of a cache in numbers. The
// adapters give it the form of theirs.
package metrics

import (
	"iter"

	"github.com/dewarcache/dewar"
)

// Subject is what a family tells of.
type Subject uint8

const (
	OfCache  Subject = iota
	OfRemote         // a cache that has a remote tier
	OfOrigin         // an origin, which caches may share
)

// Family is the series of one name. Names are Prometheus's, without "dewar_".
type Family struct {
	Name, Help string
	Counts     bool     // it only grows; otherwise it is a gauge
	Of         Subject  // whose name is the first label
	Labels     []string // the others

	// Series calls emit for each series, with the values of Labels.
	Series func(s *dewar.Stats, emit func(v float64, labels ...string))
}

// HistogramFamily is the histograms of one name, one for each cache.
type HistogramFamily struct {
	Name, Help string
	From, To   int // what is usual lies between 2^From and 2^To
	Of         func(*dewar.Stats) *dewar.Histogram
}

// Subjects returns, for one telling of caches, each with its stats and whether
// it is to tell of its origin: of a shared one only the first is.
func Subjects[C interface{ Stats() dewar.Stats }](caches iter.Seq[C]) iter.Seq2[C, Snapshot] {
	return func(yield func(C, Snapshot) bool) {
		told := make(map[string]bool)
		for cache := range caches {
			s := Snapshot{Stats: cache.Stats()}
			s.TellsOrigin = !told[s.Origin.Name]
			told[s.Origin.Name] = true
			if !yield(cache, s) {
				return
			}
		}
	}
}

// Snapshot is the stats of a cache for one telling.
type Snapshot struct {
	dewar.Stats
	TellsOrigin bool
}

// Has reports whether s has what f tells of.
func (s *Snapshot) Has(f *Family) bool {
	return !(f.Of == OfRemote && !s.HasRemote || f.Of == OfOrigin && !s.TellsOrigin)
}

// counter is a family of one series that counts.
func counter(of Subject, name, help string, value func(*dewar.Stats) uint64) Family {
	return Family{name, help, true, of, nil, func(s *dewar.Stats, emit func(float64, ...string)) {
		emit(float64(value(s)))
	}}
}

// gauge is a family of one series that goes up and down.
func gauge(of Subject, name, help string, value func(*dewar.Stats) float64) Family {
	return Family{name, help, false, of, nil, func(s *dewar.Stats, emit func(float64, ...string)) {
		emit(value(s))
	}}
}

// split is a family whose series share a count by one label.
func split(of Subject, name, help, label string, values map[string]count) Family {
	return Family{name, help, true, of, []string{label}, func(s *dewar.Stats, emit func(float64, ...string)) {
		for word, value := range values {
			emit(float64(value(s)), word)
		}
	}}
}

type count = func(*dewar.Stats) uint64

// Families are all but the histograms.
var Families = []Family{
	{
		"gets_total", "Keys read, by the tier that answered and how.", true, OfCache,
		[]string{"tier", "outcome"},
		func(s *dewar.Stats, emit func(float64, ...string)) {
			emit(float64(s.LocalHits), dewar.TierLocal, "hit")
			emit(float64(s.RemoteHits), dewar.TierRemote, "hit")
			emit(float64(s.Loaded), dewar.TierOrigin, "loaded")
			emit(float64(s.Stale-s.StaleRemote), dewar.TierLocal, "stale")
			emit(float64(s.StaleRemote), dewar.TierRemote, "stale")
			emit(float64(s.Negative-s.NegativeRemote-s.NegativeOrigin), dewar.TierLocal, "negative")
			emit(float64(s.NegativeRemote), dewar.TierRemote, "negative")
			emit(float64(s.NegativeOrigin), dewar.TierOrigin, "negative")
			emit(float64(s.Failed), "none", "error")
		},
	},
	counter(OfCache, "gets_collapsed_total", "Keys read that another call's flight answered.", func(s *dewar.Stats) uint64 { return s.Collapsed }),

	counter(OfCache, "loads_total", "Calls of the origin.", func(s *dewar.Stats) uint64 { return s.Loads }),
	counter(OfCache, "loaded_keys_total", "Keys asked for in calls of the origin.", func(s *dewar.Stats) uint64 { return s.LoadedKeys }),
	counter(OfCache, "load_errors_total", "Calls of the origin that failed and answered no key.", func(s *dewar.Stats) uint64 { return s.LoadErrors }),
	counter(OfCache, "load_retries_total", "Calls of the origin that repeated one that had failed.", func(s *dewar.Stats) uint64 { return s.Retries }),
	split(OfCache, "loads_refused_total", "Loads refused before they reached the origin.", "reason", map[string]count{
		"overload": func(s *dewar.Stats) uint64 { return s.Overloaded },
		"breaker":  func(s *dewar.Stats) uint64 { return s.BreakerRefused },
		"defcon":   func(s *dewar.Stats) uint64 { return s.DefconRefused },
	}),
	split(OfCache, "refreshes_total", "Keys that were to be refreshed, by what became of it.", "outcome", map[string]count{
		"loaded":    func(s *dewar.Stats) uint64 { return s.Refreshed },
		"adopted":   func(s *dewar.Stats) uint64 { return s.Adopted },
		"dropped":   func(s *dewar.Stats) uint64 { return s.RefreshDropped },
		"elsewhere": func(s *dewar.Stats) uint64 { return s.Elsewhere },
	}),
	split(OfRemote, "fills_total", "Entries that were to be written to the remote tier, by what became of it.", "outcome", map[string]count{
		"stored":  func(s *dewar.Stats) uint64 { return s.Filled },
		"refused": func(s *dewar.Stats) uint64 { return s.FillsRefused },
		"failed":  func(s *dewar.Stats) uint64 { return s.WritesFailed },
		"dropped": func(s *dewar.Stats) uint64 { return s.WritesDropped },
	}),

	gauge(OfCache, "flights", "Flights in progress.", func(s *dewar.Stats) float64 { return float64(s.Flights) }),
	gauge(OfCache, "oldest_flight_seconds", "For how long the oldest flight in progress has been.", func(s *dewar.Stats) float64 { return s.OldestFlight.Seconds() }),
	gauge(OfRemote, "awaiting_flights", "Flights that wait for another process's load.", func(s *dewar.Stats) float64 { return float64(s.Awaiting) }),
	gauge(OfCache, "overdue_loads", "Loaders still running past their time.", func(s *dewar.Stats) float64 { return float64(s.OverdueLoads) }),
	gauge(OfCache, "bucket_keys", "Keys that wait for their refresh or are being refreshed.", func(s *dewar.Stats) float64 { return float64(s.Bucket) }),
	gauge(OfCache, "pinned_keys", "Keys that are kept warm.", func(s *dewar.Stats) float64 { return float64(s.Pinned) }),
	gauge(OfRemote, "backfill_queue", "Writes that wait for the remote tier.", func(s *dewar.Stats) float64 { return float64(s.BackfillQueue) }),
	gauge(OfRemote, "pending_invalidations", "Keys whose deletion the remote tier has not confirmed.", func(s *dewar.Stats) float64 { return float64(s.PendingInvalidations) }),
	gauge(OfCache, "defcon_level", "DEFCON level: 5 is normal, 1 is lockdown.", func(s *dewar.Stats) float64 { return float64(s.Level) }),
	gauge(OfCache, "closed", "1 once the cache is closed.", func(s *dewar.Stats) float64 { return oneIf(s.Closed) }),

	gauge(OfCache, "local_entries", "Entries in the local tier.", func(s *dewar.Stats) float64 { return float64(s.Local.Entries) }),
	gauge(OfCache, "local_cost", "Cost of the entries in the local tier, in the unit of Cost.", func(s *dewar.Stats) float64 { return float64(s.Local.Cost) }),
	counter(OfCache, "local_evictions_total", "Entries dropped from the local tier for want of room.", func(s *dewar.Stats) uint64 { return s.Local.Evicted }),

	counter(OfRemote, "remote_errors_total", "Commands to the remote tier that failed or timed out.", func(s *dewar.Stats) uint64 { return s.Remote.Errors }),
	counter(OfRemote, "remote_denied_total", "Commands that the remote tier refused for want of a right.", func(s *dewar.Stats) uint64 { return s.Remote.Denied }),
	counter(OfRemote, "remote_foreign_total", "Values in the remote tier that are not ours or of a newer format.", func(s *dewar.Stats) uint64 { return s.Remote.Foreign }),
	counter(OfRemote, "remote_corrupt_total", "Values in the remote tier that are ours and damaged.", func(s *dewar.Stats) uint64 { return s.Remote.Corrupt }),
	counter(OfRemote, "remote_fenced_total", "Fills that the remote tier refused because their fence was gone.", func(s *dewar.Stats) uint64 { return s.Remote.Refused }),
	gauge(OfRemote, "remote_breakers_open", "Breakers that keep commands from the remote tier.", func(s *dewar.Stats) float64 { return float64(s.Remote.OpenBreakers) }),

	counter(OfRemote, "bus_announced_keys_total", "Keys announced to the fleet.", func(s *dewar.Stats) uint64 { return s.Remote.Announced }),
	counter(OfRemote, "bus_heard_keys_total", "Keys heard of in announcements of other processes.", func(s *dewar.Stats) uint64 { return s.Remote.Heard }),
	counter(OfRemote, "bus_gaps_total", "Times that announcements may have been missed.", func(s *dewar.Stats) uint64 { return s.Remote.Gaps }),
	gauge(OfRemote, "bus_last_gap_timestamp_seconds", "When announcements were last missed, in Unix time; 0: never.", func(s *dewar.Stats) float64 {
		if s.Remote.LastGap.IsZero() {
			return 0
		}
		return float64(s.Remote.LastGap.UnixMilli()) / 1000
	}),
	gauge(OfRemote, "bus_lag_seconds", "How long the last announcement of another process took to be heard.", func(s *dewar.Stats) float64 { return s.Remote.Lag.Seconds() }),
	gauge(OfRemote, "bus_silent_seconds", "Time since the server last answered on the bus.", func(s *dewar.Stats) float64 { return s.Remote.SilentFor.Seconds() }),
	gauge(OfRemote, "bus_deaf", "1 while announcements have stopped coming in.", func(s *dewar.Stats) float64 { return oneIf(s.Remote.Deaf) }),
	gauge(OfRemote, "bus_epoch", "The epoch of the name that is in use.", func(s *dewar.Stats) float64 { return float64(s.Remote.Epoch) }),

	gauge(OfOrigin, "origin_calls", "Calls of the origin in progress, of all caches that share it.", func(s *dewar.Stats) float64 { return float64(s.Origin.Calls) }),
	gauge(OfOrigin, "origin_slots", "Calls of the origin that may be in progress.", func(s *dewar.Stats) float64 { return float64(s.Origin.Slots) }),
	gauge(OfOrigin, "origin_queued", "Loads that wait for a slot or their turn.", func(s *dewar.Stats) float64 { return float64(s.Origin.Queued) }),
	{
		"origin_breaker_state", "1 for the state that the origin's breaker is in, 0 for the others.", false, OfOrigin,
		[]string{"state"},
		func(s *dewar.Stats, emit func(float64, ...string)) {
			for state := dewar.BreakerNone; state <= dewar.BreakerOpen; state++ {
				emit(oneIf(s.Origin.Breaker == state), state.String())
			}
		},
	},
}

// Histograms are the others.
var Histograms = []HistogramFamily{
	{"load_seconds", "Duration of calls of the origin.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.LoadTime }},
	{"wait_seconds", "How long reads waited that had to wait for a flight.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.WaitTime }},
	{"serve_age_seconds", "Age of values served off the hit path.", -4, 14, func(s *dewar.Stats) *dewar.Histogram { return &s.ServeAge }},
	{"stale_age_seconds", "Age of stale values served.", -2, 16, func(s *dewar.Stats) *dewar.Histogram { return &s.StaleAge }},
	{"load_keys", "Keys of a call of the origin.", 0, 10, func(s *dewar.Stats) *dewar.Histogram { return &s.BatchSize }},
	{"fill_seconds", "Duration of round trips that write to the remote tier.", -12, 1, func(s *dewar.Stats) *dewar.Histogram { return &s.FillTime }},
	{"backfill_delay_seconds", "From the end of a load until its value was written to the remote tier.", -12, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.BackfillDelay }},
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
