package dewarprom

import (
	"github.com/dewarcache/dewar"
	"github.com/prometheus/client_golang/prometheus"
)

// subject is what a family tells of.
type subject uint8

const (
	ofCache  subject = iota
	ofRemote         // a cache that has a remote tier
	ofOrigin         // an origin, which caches may share
)

// family is the series of one name.
type family struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	of     subject
	series func(s *dewar.Stats, emit func(v float64, labels ...string))
}

func newFamily(kind prometheus.ValueType, of subject, name, help string, labels []string,
	series func(s *dewar.Stats, emit func(v float64, labels ...string)),
) family {
	first := "cache"
	if of == ofOrigin {
		first = "origin"
	}
	return family{prometheus.NewDesc("dewar_"+name, help, append([]string{first}, labels...), nil), kind, of, series}
}

// counter is a family of one series that counts.
func counter(of subject, name, help string, value func(*dewar.Stats) uint64) family {
	return newFamily(prometheus.CounterValue, of, name, help, nil, func(s *dewar.Stats, emit func(float64, ...string)) {
		emit(float64(value(s)))
	})
}

// gauge is a family of one series that goes up and down.
func gauge(of subject, name, help string, value func(*dewar.Stats) float64) family {
	return newFamily(prometheus.GaugeValue, of, name, help, nil, func(s *dewar.Stats, emit func(float64, ...string)) {
		emit(value(s))
	})
}

// split is a family whose series share a count by one label.
func split(of subject, name, help, label string, values map[string]func(*dewar.Stats) uint64) family {
	return newFamily(prometheus.CounterValue, of, name, help, []string{label}, func(s *dewar.Stats, emit func(float64, ...string)) {
		for word, value := range values {
			emit(float64(value(s)), word)
		}
	})
}

type count = func(*dewar.Stats) uint64

var families = []family{
	newFamily(
		prometheus.CounterValue, ofCache, "gets_total", "Keys read, by the tier that answered and how.",
		[]string{"tier", "outcome"}, func(s *dewar.Stats, emit func(float64, ...string)) {
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
	),
	counter(ofCache, "gets_collapsed_total", "Keys read that another call's flight answered.", func(s *dewar.Stats) uint64 { return s.Collapsed }),

	counter(ofCache, "loads_total", "Calls of the origin.", func(s *dewar.Stats) uint64 { return s.Loads }),
	counter(ofCache, "loaded_keys_total", "Keys asked for in calls of the origin.", func(s *dewar.Stats) uint64 { return s.LoadedKeys }),
	counter(ofCache, "load_errors_total", "Calls of the origin that failed and answered no key.", func(s *dewar.Stats) uint64 { return s.LoadErrors }),
	counter(ofCache, "load_retries_total", "Calls of the origin that repeated one that had failed.", func(s *dewar.Stats) uint64 { return s.Retries }),
	split(ofCache, "loads_refused_total", "Loads refused before they reached the origin.", "reason", map[string]count{
		"overload": func(s *dewar.Stats) uint64 { return s.Overloaded },
		"breaker":  func(s *dewar.Stats) uint64 { return s.BreakerRefused },
		"defcon":   func(s *dewar.Stats) uint64 { return s.DefconRefused },
	}),
	split(ofCache, "refreshes_total", "Keys that were to be refreshed, by what became of it.", "outcome", map[string]count{
		"loaded":    func(s *dewar.Stats) uint64 { return s.Refreshed },
		"adopted":   func(s *dewar.Stats) uint64 { return s.Adopted },
		"dropped":   func(s *dewar.Stats) uint64 { return s.RefreshDropped },
		"elsewhere": func(s *dewar.Stats) uint64 { return s.Elsewhere },
	}),
	split(ofRemote, "fills_total", "Entries that were to be written to the remote tier, by what became of it.", "outcome", map[string]count{
		"stored":  func(s *dewar.Stats) uint64 { return s.Filled },
		"refused": func(s *dewar.Stats) uint64 { return s.FillsRefused },
		"failed":  func(s *dewar.Stats) uint64 { return s.WritesFailed },
		"dropped": func(s *dewar.Stats) uint64 { return s.WritesDropped },
	}),

	gauge(ofCache, "flights", "Flights in progress.", func(s *dewar.Stats) float64 { return float64(s.Flights) }),
	gauge(ofCache, "oldest_flight_seconds", "For how long the oldest flight in progress has been.", func(s *dewar.Stats) float64 { return s.OldestFlight.Seconds() }),
	gauge(ofRemote, "awaiting_flights", "Flights that wait for another process's load.", func(s *dewar.Stats) float64 { return float64(s.Awaiting) }),
	gauge(ofCache, "overdue_loads", "Loaders still running past their time.", func(s *dewar.Stats) float64 { return float64(s.OverdueLoads) }),
	gauge(ofCache, "bucket_keys", "Keys that wait for their refresh or are being refreshed.", func(s *dewar.Stats) float64 { return float64(s.Bucket) }),
	gauge(ofCache, "pinned_keys", "Keys that are kept warm.", func(s *dewar.Stats) float64 { return float64(s.Pinned) }),
	gauge(ofRemote, "backfill_queue", "Writes that wait for the remote tier.", func(s *dewar.Stats) float64 { return float64(s.BackfillQueue) }),
	gauge(ofRemote, "pending_invalidations", "Keys whose deletion the remote tier has not confirmed.", func(s *dewar.Stats) float64 { return float64(s.PendingInvalidations) }),
	gauge(ofCache, "defcon_level", "DEFCON level: 5 is normal, 1 is lockdown.", func(s *dewar.Stats) float64 { return float64(s.Level) }),
	gauge(ofCache, "closed", "1 once the cache is closed.", func(s *dewar.Stats) float64 { return oneIf(s.Closed) }),

	gauge(ofCache, "local_entries", "Entries in the local tier.", func(s *dewar.Stats) float64 { return float64(s.Local.Entries) }),
	gauge(ofCache, "local_cost", "Cost of the entries in the local tier, in the unit of Cost.", func(s *dewar.Stats) float64 { return float64(s.Local.Cost) }),
	counter(ofCache, "local_evictions_total", "Entries dropped from the local tier for want of room.", func(s *dewar.Stats) uint64 { return s.Local.Evicted }),

	counter(ofRemote, "remote_errors_total", "Commands to the remote tier that failed or timed out.", func(s *dewar.Stats) uint64 { return s.Remote.Errors }),
	counter(ofRemote, "remote_denied_total", "Commands that the remote tier refused for want of a right.", func(s *dewar.Stats) uint64 { return s.Remote.Denied }),
	counter(ofRemote, "remote_foreign_total", "Values in the remote tier that are not ours or of a newer format.", func(s *dewar.Stats) uint64 { return s.Remote.Foreign }),
	counter(ofRemote, "remote_corrupt_total", "Values in the remote tier that are ours and damaged.", func(s *dewar.Stats) uint64 { return s.Remote.Corrupt }),
	counter(ofRemote, "remote_fenced_total", "Fills that the remote tier refused because their fence was gone.", func(s *dewar.Stats) uint64 { return s.Remote.Refused }),
	gauge(ofRemote, "remote_breakers_open", "Breakers that keep commands from the remote tier.", func(s *dewar.Stats) float64 { return float64(s.Remote.OpenBreakers) }),

	counter(ofRemote, "bus_announced_keys_total", "Keys announced to the fleet.", func(s *dewar.Stats) uint64 { return s.Remote.Announced }),
	counter(ofRemote, "bus_heard_keys_total", "Keys heard of in announcements of other processes.", func(s *dewar.Stats) uint64 { return s.Remote.Heard }),
	counter(ofRemote, "bus_gaps_total", "Times that announcements may have been missed.", func(s *dewar.Stats) uint64 { return s.Remote.Gaps }),
	gauge(ofRemote, "bus_last_gap_timestamp_seconds", "When announcements were last missed, in Unix time; 0: never.", func(s *dewar.Stats) float64 {
		if s.Remote.LastGap.IsZero() {
			return 0
		}
		return float64(s.Remote.LastGap.UnixMilli()) / 1000
	}),
	gauge(ofRemote, "bus_lag_seconds", "How long the last announcement of another process took to be heard.", func(s *dewar.Stats) float64 { return s.Remote.Lag.Seconds() }),
	gauge(ofRemote, "bus_silent_seconds", "Time since the server last answered on the bus.", func(s *dewar.Stats) float64 { return s.Remote.SilentFor.Seconds() }),
	gauge(ofRemote, "bus_deaf", "1 while announcements have stopped coming in.", func(s *dewar.Stats) float64 { return oneIf(s.Remote.Deaf) }),
	gauge(ofRemote, "bus_epoch", "The epoch of the name that is in use.", func(s *dewar.Stats) float64 { return float64(s.Remote.Epoch) }),

	gauge(ofOrigin, "origin_calls", "Calls of the origin in progress, of all caches that share it.", func(s *dewar.Stats) float64 { return float64(s.Origin.Calls) }),
	gauge(ofOrigin, "origin_slots", "Calls of the origin that may be in progress.", func(s *dewar.Stats) float64 { return float64(s.Origin.Slots) }),
	gauge(ofOrigin, "origin_queued", "Loads that wait for a slot or their turn.", func(s *dewar.Stats) float64 { return float64(s.Origin.Queued) }),
	newFamily(
		prometheus.GaugeValue, ofOrigin, "origin_breaker_state", "1 for the state that the origin's breaker is in, 0 for the others.",
		[]string{"state"}, func(s *dewar.Stats, emit func(float64, ...string)) {
			for state := dewar.BreakerNone; state <= dewar.BreakerOpen; state++ {
				emit(oneIf(s.Origin.Breaker == state), state.String())
			}
		},
	),
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
