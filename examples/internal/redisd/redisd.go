// Package redisd is the Redis of the example programs: the one that a flag
// names, or an embedded one, over links that can be taken away.
package redisd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// go-redis logs every connection that the acts cut on purpose.
func init() { redis.SetLogger(discard{}) }

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// Server is the Redis that -redis names, or an embedded one.
type Server struct {
	addrs   []string // none: embedded
	cluster bool
}

func (srv Server) String() string {
	switch {
	case len(srv.addrs) == 0:
		return "embedded"
	case srv.cluster:
		return "cluster at " + strings.Join(srv.addrs, ", ")
	}
	return strings.Join(srv.addrs, ", ")
}

// pingFor is how long a Redis named by -redis has to answer.
const pingFor = 2 * time.Second

// Find asks the Redis at list, addresses separated by commas, what it is,
// and returns an error when none answers; "" is the embedded one.
func Find(ctx context.Context, list string) (Server, error) {
	if list == "" {
		return Server{}, nil
	}
	srv := Server{addrs: strings.Split(list, ",")}
	for i, addr := range srv.addrs {
		srv.addrs[i] = strings.TrimSpace(addr)
	}
	ctx, cancel := context.WithTimeout(ctx, pingFor)
	defer cancel()
	if err := srv.ask(ctx); err != nil {
		return Server{}, fmt.Errorf("-redis %s: %w", list, err)
	}
	return srv, nil
}

// ask learns from the first node that answers whether it is one of a cluster.
func (srv *Server) ask(ctx context.Context) error {
	var errs []error
	for _, addr := range srv.addrs {
		cluster, err := isCluster(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !cluster && len(srv.addrs) > 1 {
			return fmt.Errorf("%s is not a node of a cluster, as several addresses must be", addr)
		}
		srv.cluster = cluster
		return nil
	}
	return errors.Join(errs...)
}

func isCluster(ctx context.Context, addr string) (bool, error) {
	rdb := redis.NewClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{addr}}).Simple())
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return false, err
	}
	info, err := rdb.Info(ctx, "cluster").Result()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return false, nil // it may not be asked
	}
	return strings.Contains(info, "cluster_enabled:1"), err
}

// client connects over a link.
func (srv Server) client(k *Link) redis.UniversalClient {
	return redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{
		Addrs: srv.addrs, IsClusterMode: srv.cluster, Dialer: k.dial,
	}))
}

// Redis is a server that is in use, with a link and a client for each process
// that is played.
type Redis struct {
	Links   []*Link
	Clients []redis.UniversalClient

	embedded *embedded // nil: somebody's server
}

// Open connects processes to srv or, if that is embedded, to one of their own.
func Open(srv Server, processes int) (*Redis, error) {
	r := new(Redis)
	if len(srv.addrs) == 0 {
		var err error
		if r.embedded, err = startEmbedded(); err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		srv.addrs = []string{r.embedded.addr}
	}
	for range processes {
		k := new(Link)
		r.Links = append(r.Links, k)
		r.Clients = append(r.Clients, srv.client(k))
	}
	return r, nil
}

// The methods of a nil Redis, of a system that uses none, do nothing.

// Cut cuts every link.
func (r *Redis) Cut() {
	if r == nil {
		return
	}
	for _, k := range r.Links {
		k.Cut()
	}
}

// Mend mends every link.
func (r *Redis) Mend() {
	if r == nil {
		return
	}
	for _, k := range r.Links {
		k.Mend()
	}
}

// Crash takes an embedded server away with all that it holds, and cuts the
// links to somebody's.
func (r *Redis) Crash() {
	if r.embedded == nil {
		r.Cut()
		return
	}
	r.embedded.crash()
}

// Replace brings an empty server to the address of the one that crashed, or
// mends the links.
func (r *Redis) Replace() error {
	if r.embedded == nil {
		r.Mend()
		return nil
	}
	return r.embedded.replace()
}

// Close closes the clients, and the server if it is embedded.
func (r *Redis) Close() {
	if r == nil {
		return
	}
	for _, c := range r.Clients {
		_ = c.Close()
	}
	if r.embedded != nil {
		r.embedded.stop()
	}
}
