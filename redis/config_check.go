package redistier

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// checkPrefix refuses what would make keys ambiguous (":") or move them all
// into one slot of a Cluster ("{").
func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("redistier: Prefix has %d bytes; at most %d", len(prefix), maxPrefix)
	}
	for _, r := range prefix {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("._-/", r):
		default:
			return fmt.Errorf("redistier: Prefix %q holds %q; use letters, digits and . _ - /", prefix, r)
		}
	}
	return nil
}

// checkClient refuses the clients with which the tier could not keep its
// promises. Each error names the fix.
func checkClient(client redis.UniversalClient) error {
	missing := errors.New("redistier: Client is required; make it with redis.NewClient or redis.NewClusterClient and ContextTimeoutEnabled: true")
	const mute = "redistier: the Client ignores the deadlines of contexts, so that a stalled Redis would hold every reader for seconds; set ContextTimeoutEnabled: true in its options"
	const csc = "redistier: the Client caches replies itself, under the fences of this tier, and would answer with deleted values; leave ClientSideCache and ClientSideCacheConfig nil in its options"
	switch c := client.(type) {
	case nil:
		return missing
	case *redis.Client:
		if c == nil {
			return missing
		}
	case *redis.ClusterClient:
		if c == nil {
			return missing
		}
	case *redis.Ring:
		return errors.New("redistier: a *redis.Ring moves keys to other nodes when one fails and leaves old values behind; use a *redis.ClusterClient, or a *redis.Client")
	case *redis.AutoPipeliner:
		return errors.New("redistier: a *redis.AutoPipeliner does not show whether it honours deadlines; pass the client it was made of: the tier gathers keys into pipelines itself")
	}
	// Asked by method, so that a struct around a client is looked at as well.
	switch c := client.(type) {
	case interface{ Options() *redis.Options }:
		opt := c.Options()
		var errs []error
		if !opt.ContextTimeoutEnabled {
			errs = append(errs, errors.New(mute))
		}
		if opt.ClientSideCache != nil || opt.ClientSideCacheConfig != nil {
			errs = append(errs, errors.New(csc))
		}
		return errors.Join(errs...)
	case interface{ Options() *redis.ClusterOptions }:
		opt := c.Options()
		var errs []error
		if !opt.ContextTimeoutEnabled {
			errs = append(errs, errors.New(mute))
		}
		// RouteByLatency and RouteRandomly make go-redis set ReadOnly too.
		for _, replica := range []struct {
			name string
			set  bool
		}{
			{"RouteByLatency", opt.RouteByLatency},
			{"RouteRandomly", opt.RouteRandomly},
			{"ReadOnly", opt.ReadOnly && !opt.RouteByLatency && !opt.RouteRandomly},
		} {
			if replica.set {
				errs = append(errs, fmt.Errorf("redistier: the Client reads from replicas, which answer with deleted values for as long as they lag behind; leave %s false in its options", replica.name))
			}
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("redistier: Client is a %T; pass a *redis.Client or a *redis.ClusterClient, or a type that embeds one", client)
}
