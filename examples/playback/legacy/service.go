package legacy

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/dewarcache/dewar/examples/internal/pace"
	"golang.org/x/time/rate"
)

// limits are what a service bears of the platform. Beyond them it refuses.
type limits struct {
	AtOnce    int     `json:"at_once"`
	PerSecond float64 `json:"per_second"`
}

// fault is what is wrong with a service.
type fault struct {
	Fail    float64       `json:"fail"` // share of the calls
	Latency time.Duration `json:"-"`    // on top of its own
}

// Counts are the calls that a service has had, of the platform but for Old.
type Counts struct {
	Calls   int64 `json:"calls"`
	Keys    int64 `json:"keys"`    // asked for in them
	Failed  int64 `json:"failed"`  // by the fault that it has
	Refused int64 `json:"refused"` // beyond its limits
	Peak    int64 `json:"peak"`    // at once

	Old int64 `json:"old"` // calls for the legacy answer; not among those above
}

// Sub returns what was counted since before. The peak is that of all times.
func (c Counts) Sub(before Counts) Counts {
	return Counts{
		Calls: c.Calls - before.Calls, Keys: c.Keys - before.Keys,
		Failed: c.Failed - before.Failed, Refused: c.Refused - before.Refused, Peak: c.Peak,
		Old: c.Old - before.Old,
	}
}

// service is one of the services behind the legacy answer.
type service struct {
	usual time.Duration // latency of a call

	mu     sync.Mutex // mu guards these
	fault  fault
	limits limits
	turns  *rate.Limiter
	atOnce int
	counts Counts
}

func newService(l limits, usual time.Duration) *service {
	s := &service{usual: usual}
	s.limitLocked(l) // nobody else has it yet
	return s
}

// limitLocked changes what a service bears. The burst of its rate has room for
// calls that were on their way and arrive together.
func (s *service) limitLocked(l limits) {
	s.limits = l
	s.turns = rate.NewLimiter(rate.Limit(l.PerSecond), l.AtOnce+int(l.PerSecond/4))
}

// call is a call of the platform; it returns an HTTP status.
func (s *service) call(ctx context.Context, keys int) int {
	if !s.enter(keys) {
		return http.StatusTooManyRequests
	}
	status := s.work(ctx, keys)
	s.leave(status)
	return status
}

// callOld is a call for the legacy answer, which no limit stops.
func (s *service) callOld(ctx context.Context, keys int) int {
	s.mu.Lock()
	s.counts.Old++
	s.mu.Unlock()
	return s.work(ctx, keys)
}

func (s *service) enter(keys int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Calls++
	s.counts.Keys += int64(keys)
	if s.atOnce >= s.limits.AtOnce || !s.turns.Allow() {
		s.counts.Refused++
		return false
	}
	s.atOnce++
	s.counts.Peak = max(s.counts.Peak, int64(s.atOnce))
	return true
}

func (s *service) leave(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atOnce--
	if status != http.StatusOK {
		s.counts.Failed++
	}
}

// work takes the time that a call takes, and fails as often as it is told to.
func (s *service) work(ctx context.Context, keys int) int {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if rand.Float64() < fault.Fail {
		return cmp.Or(s.takes(ctx, s.usual/2+fault.Latency), http.StatusServiceUnavailable)
	}
	took := s.usual/2 + time.Duration(min(rand.ExpFloat64(), 5)*float64(s.usual)/2) + time.Duration(keys)*10*time.Microsecond
	return cmp.Or(s.takes(ctx, took+fault.Latency), http.StatusOK)
}

// takes sleeps. Who has left gets a status that nobody reads.
func (s *service) takes(ctx context.Context, d time.Duration) (status int) {
	if pace.Pause(ctx, d) != nil {
		return http.StatusGatewayTimeout
	}
	return 0
}

func (s *service) count() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}
