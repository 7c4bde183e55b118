package legacy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// This file is the switches: what breaks the services, from the program or by
// curl.

// Break makes a service fail a share of its calls, and take that much longer.
func (s *Legacy) Break(name string, fail float64, latency time.Duration) {
	b := s.services()[name]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault{Fail: fail, Latency: latency}
}

// Heal undoes Break.
func (s *Legacy) Heal(name string) { s.Break(name, 0, 0) }

// Counts are the calls that the services have had.
func (s *Legacy) Counts() map[string]Counts {
	counts := make(map[string]Counts)
	for name, b := range s.services() {
		counts[name] = b.count()
	}
	return counts
}

// AtOnce is how many calls of the platform a service bears at once.
func (s *Legacy) AtOnce(name string) int {
	b := s.services()[name]
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.AtOnce
}

func (s *Legacy) services() map[string]*service {
	return map[string]*service{Metadata: s.metadata, Streams: s.streams, Ads: s.ads}
}

// chaosRoutes adds the switches:
//
//	GET    /chaos                                    how the services are
//	PUT    /chaos/streams?fail=0.5&latency=300ms     a fault
//	PUT    /chaos/ads?at_once=2&per_second=10        other limits
//	DELETE /chaos                                    no faults any more
func (s *Legacy) chaosRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /chaos", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.state()) })
	mux.HandleFunc("DELETE /chaos", func(w http.ResponseWriter, _ *http.Request) {
		for name := range s.services() {
			s.Heal(name)
		}
		writeJSON(w, s.state())
	})
	mux.HandleFunc("PUT /chaos/{service}", func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.services()[r.PathValue("service")]
		if !ok {
			http.Error(w, fmt.Sprintf("no such service: %q", r.PathValue("service")), http.StatusNotFound)
			return
		}
		if err := b.turn(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, s.state())
	})
}

// serviceState is what GET /chaos tells of a service.
type serviceState struct {
	limits
	fault
	Latency string `json:"latency"`
	Counts
}

func (s *Legacy) state() map[string]serviceState {
	state := make(map[string]serviceState)
	for name, b := range s.services() {
		b.mu.Lock()
		state[name] = serviceState{limits: b.limits, fault: b.fault, Latency: b.fault.Latency.String(), Counts: b.counts}
		b.mu.Unlock()
	}
	return state
}

// turn sets what a PUT names and leaves the rest; it changes nothing unless all
// of it is good.
func (s *service) turn(q url.Values) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, l := s.fault, s.limits
	for name, values := range q {
		var err error
		good, v := false, values[0]
		switch name {
		case "fail":
			f.Fail, err = strconv.ParseFloat(v, 64)
			good = f.Fail >= 0 && f.Fail <= 1
		case "latency":
			f.Latency, err = time.ParseDuration(v)
			good = f.Latency >= 0
		case "at_once":
			l.AtOnce, err = strconv.Atoi(v)
			good = l.AtOnce > 0
		case "per_second":
			l.PerSecond, err = strconv.ParseFloat(v, 64)
			good = l.PerSecond > 0 && !math.IsInf(l.PerSecond, 0)
		default:
			err = errors.New("no such switch: there are fail, latency, at_once and per_second")
		}
		if err != nil {
			return fmt.Errorf("%.40q: %w", name, err)
		}
		if !good {
			return fmt.Errorf("%s=%.40q is out of range", name, v)
		}
	}
	s.fault = f
	if l != s.limits {
		s.limitLocked(l)
	}
	return nil
}
