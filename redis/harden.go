package redistier

import (
	"cmp"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Harden returns a copy of o for a client that suits a cache, which is there
// to be quick or not at all: for redis.NewUniversalClient, or by its methods
// Simple, Failover and Cluster for the constructors of one kind.
//
//	rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: addrs}))
//
// What o sets itself is kept, with the exception of what the tier refuses:
// ContextTimeoutEnabled is set; ReadOnly, RouteByLatency, RouteRandomly and
// client-side caching are taken out. With nil all is as in an empty o: go-redis
// then uses a server on this machine.
//
// The values are for a client that serves caches. One that does slow work too,
// such as blocking commands without a deadline, is better left alone: let it
// set its own timeouts, or use another.
func Harden(o *redis.UniversalOptions) *redis.UniversalOptions {
	if o == nil {
		o = new(redis.UniversalOptions)
	}
	h := *o
	h.Addrs = slices.Clone(o.Addrs)
	cluster := h.MasterName == "" && (len(h.Addrs) > 1 || h.IsClusterMode)

	// Deadlines of contexts end a round trip: without it a Redis that stalls
	// holds every reader for ReadTimeout times the number of tries.
	h.ContextTimeoutEnabled = true

	// Replicas lag behind, and answer with what was deleted.
	h.ReadOnly, h.RouteByLatency, h.RouteRandomly = false, false, false
	h.RouteByLatencyTolerance = 0

	// A cache of the client's, under the fences of the tier, would as well.
	h.ClientSideCache, h.ClientSideCacheConfig = nil, nil
	h.ClientSideCacheRefreshOnInvalidate, h.ClientSideCacheCoalesceMisses = false, false
	h.ClientSideCacheInvalidationBatchWindow = 0

	// One retry is for the connection that the server closed while it was idle.
	// More are of no use: a breaker stops them, or the deadline comes first. A
	// Cluster client has tries of its own, MaxRedirects, around those of its
	// nodes, which are off by default.
	if !cluster {
		h.MaxRetries = cmp.Or(h.MaxRetries, 1)
	}

	// A retry after the deadline of the caller is none. A Cluster client also
	// waits this long before it follows a redirection of a pipeline, 10 to 30ms
	// by default.
	h.MinRetryBackoff = cmp.Or(h.MinRetryBackoff, time.Millisecond)
	h.MaxRetryBackoff = cmp.Or(h.MaxRetryBackoff, 16*time.Millisecond)

	// A server that does not take a connection in this time will not be quick
	// when it has; 5s by default. The caller waits no longer than its deadline,
	// but a dial in progress holds a turn of the pool.
	h.DialTimeout = cmp.Or(h.DialTimeout, time.Second)
	// The default is 5 tries, 100ms apart: a dead server would hold turns of the
	// pool for long after its breaker has opened.
	h.DialerRetries = cmp.Or(h.DialerRetries, 1)

	// For commands without a deadline; 5s by default. Those of the tier have
	// one, Config.Timeout.
	h.ReadTimeout = cmp.Or(h.ReadTimeout, time.Second)
	h.WriteTimeout = cmp.Or(h.WriteTimeout, time.Second)

	// Who waits for a connection longer than a round trip may take is better off
	// with the origin; ReadTimeout and a second by default.
	h.PoolTimeout = cmp.Or(h.PoolTimeout, defaultTimeout)

	// Redis 7 does not know CLIENT MAINT_NOTIFICATIONS, which go-redis otherwise
	// tries on new connections, with goroutines and pool hooks for what would
	// come of it.
	if h.MaintNotificationsConfig == nil {
		h.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	} else {
		own := *h.MaintNotificationsConfig // go-redis writes into it
		h.MaintNotificationsConfig = &own
	}
	return &h
}
