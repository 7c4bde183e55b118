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
	Series     []Series
}

// Series is one series of a family.
type Series struct {
	Words []string // the values of the family's Labels
	Value func(*dewar.Stats) float64
}

// HistogramFamily is the histograms of one name, one for each cache.
type HistogramFamily struct {
	Name, Help string
	From, To   int // what is usual lies between 2^From and 2^To
	Of         func(*dewar.Stats) *dewar.Histogram
}

// Cache is what is told of.
type Cache interface {
	Name() string
	Stats() dewar.Stats
}

// Snapshot is the stats of a cache for one telling.
type Snapshot struct {
	Cache string
	dewar.Stats
	tellsOrigin bool
}

// Snapshots takes one of each cache. Of an origin that several share, only the
// first tells; origins are told apart by their names.
func Snapshots[C Cache](caches iter.Seq[C]) iter.Seq[*Snapshot] {
	return func(yield func(*Snapshot) bool) {
		told := make(map[string]bool)
		for cache := range caches {
			s := &Snapshot{Cache: cache.Name(), Stats: cache.Stats()}
			s.tellsOrigin = !told[s.Origin.Name]
			told[s.Origin.Name] = true
			if !yield(s) {
				return
			}
		}
	}
}

// Has reports whether s has what f tells of.
func (s *Snapshot) Has(f *Family) bool {
	return !(f.Of == OfRemote && !s.HasRemote || f.Of == OfOrigin && !s.tellsOrigin)
}

// Subject returns the value of the first label of f's series.
func (s *Snapshot) Subject(f *Family) string {
	if f.Of == OfOrigin {
		return s.Origin.Name
	}
	return s.Cache
}

// String is the name of the first label.
func (s Subject) String() string {
	if s == OfOrigin {
		return "origin"
	}
	return "cache"
}

type (
	count = func(*dewar.Stats) uint64
	size  = func(*dewar.Stats) float64
)

// counter is a family of one series that counts.
func counter(of Subject, name, help string, n count) Family {
	return Family{name, help, true, of, nil, []Series{series(n)}}
}

// gauge is a family of one series that goes up and down.
func gauge(of Subject, name, help string, value size) Family {
	return Family{name, help, false, of, nil, []Series{{nil, value}}}
}

func series(n count, words ...string) Series {
	return Series{words, func(s *dewar.Stats) float64 { return float64(n(s)) }}
}

// Families are all but the histograms.
var Families = []Family{
	{
		"gets_total", "Keys read, by the tier that answered and how.", true, OfCache,
		[]string{"tier", "outcome"},
		[]Series{
			series(func(s *dewar.Stats) uint64 { return s.LocalHits }, dewar.TierLocal, "hit"),
			series(func(s *dewar.Stats) uint64 { return s.RemoteHits }, dewar.TierRemote, "hit"),
			series(func(s *dewar.Stats) uint64 { return s.Loaded }, dewar.TierOrigin, "loaded"),
			series(func(s *dewar.Stats) uint64 { return s.Stale - s.StaleRemote }, dewar.TierLocal, "stale"),
			series(func(s *dewar.Stats) uint64 { return s.StaleRemote }, dewar.TierRemote, "stale"),
			series(func(s *dewar.Stats) uint64 { return s.Negative - s.NegativeRemote - s.NegativeOrigin }, dewar.TierLocal, "negative"),
			series(func(s *dewar.Stats) uint64 { return s.NegativeRemote }, dewar.TierRemote, "negative"),
			series(func(s *dewar.Stats) uint64 { return s.NegativeOrigin }, dewar.TierOrigin, "negative"),
			series(func(s *dewar.Stats) uint64 { return s.Failed }, "none", "error"),
		},
	},
	counter(OfCache, "gets_collapsed_total", "Keys read that another read's flight answered.", func(s *dewar.Stats) uint64 { return s.Collapsed }),

	counter(OfCache, "loads_total", "Calls of the origin.", func(s *dewar.Stats) uint64 { return s.Loads }),
	counter(OfCache, "loaded_keys_total", "Keys asked for in calls of the origin.", func(s *dewar.Stats) uint64 { return s.LoadedKeys }),
	counter(OfCache, "load_errors_total", "Calls of the origin that failed and answered no key.", func(s *dewar.Stats) uint64 { return s.LoadErrors }),
	counter(OfCache, "load_retries_total", "Calls of the origin that repeated one that had failed.", func(s *dewar.Stats) uint64 { return s.Retries }),
	{
		"loads_refused_total", "Loads refused before they reached the origin.", true, OfCache,
		[]string{"reason"},
		[]Series{
			series(func(s *dewar.Stats) uint64 { return s.Overloaded }, "overload"),
			series(func(s *dewar.Stats) uint64 { return s.BreakerRefused }, "breaker"),
			series(func(s *dewar.Stats) uint64 { return s.DefconRefused }, "defcon"),
		},
	},
	{
		"refreshes_total", "Keys that were to be refreshed, by what became of it.", true, OfCache,
		[]string{"outcome"},
		[]Series{
			series(func(s *dewar.Stats) uint64 { return s.Refreshed }, "loaded"),
			series(func(s *dewar.Stats) uint64 { return s.Adopted }, "adopted"),
			series(func(s *dewar.Stats) uint64 { return s.RefreshDropped }, "dropped"),
			series(func(s *dewar.Stats) uint64 { return s.Elsewhere }, "elsewhere"),
		},
	},
	{
		"fills_total", "Entries that were to be written to the remote tier, by what became of it.", true, OfRemote,
		[]string{"outcome"},
		[]Series{
			series(func(s *dewar.Stats) uint64 { return s.Filled }, "stored"),
			series(func(s *dewar.Stats) uint64 { return s.FillsRefused }, "refused"),
			series(func(s *dewar.Stats) uint64 { return s.WritesFailed }, "failed"),
			series(func(s *dewar.Stats) uint64 { return s.WritesDropped }, "dropped"),
		},
	},

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
		[]Series{
			inState(dewar.BreakerNone), inState(dewar.BreakerClosed), inState(dewar.BreakerHalfOpen), inState(dewar.BreakerOpen),
		},
	},
}

func inState(state dewar.BreakerState) Series {
	return Series{[]string{state.String()}, func(s *dewar.Stats) float64 { return oneIf(s.Origin.Breaker == state) }}
}

// Histograms are the others.
var Histograms = []HistogramFamily{
	{"load_seconds", "Duration of calls of the origin.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.LoadTime }},
	{"wait_seconds", "How long reads waited that had to wait for a flight.", -10, 4, func(s *dewar.Stats) *dewar.Histogram { return &s.WaitTime }},
	{"serve_age_seconds", "Age of values served off the hit path.", -4, 20, func(s *dewar.Stats) *dewar.Histogram { return &s.ServeAge }},
	{"stale_age_seconds", "Age of stale values served.", -2, 20, func(s *dewar.Stats) *dewar.Histogram { return &s.StaleAge }},
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
