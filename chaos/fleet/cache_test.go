package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// options is what the caches of a fleet differ in. It reaches a process of its
// own as JSON.
type options struct {
	Redis      string        // address
	Schema     string        // default "0"
	TTL        time.Duration // default a minute
	IfError    time.Duration
	Ahead      float64       // default that of the library
	Lease      time.Duration // default that of the library
	Timeout    time.Duration // of a round trip; default a second: it is the protocol that is measured here, not this machine
	RemoteOnly bool
}

// open opens a cache as every process of these fleets does.
func open(o options, client redis.UniversalClient, load func(context.Context, string) (kit.Value, error)) (*kit.Cache, error) {
	cfg := dewar.Config[string, kit.Value]{
		Name:   "fleet",
		Schema: o.Schema,
		TTL:    cmp.Or(o.TTL, time.Minute),
		Stale:  dewar.Stale{IfError: o.IfError},
		// Origins fail here so that whatever is kept is served, until they do not.
		Guard:  dewar.Guard{Breaker: dewar.Breaker{FailureRatio: -1}},
		Warm:   dewar.Warm{Ahead: o.Ahead},
		Flight: dewar.Flight{Lease: o.Lease},
		Remote: redistier.Config[kit.Value]{Client: client, Timeout: cmp.Or(o.Timeout, time.Second)},
		Load:   load,
	}
	if !o.RemoteOnly {
		cfg.Local = memory.Config[kit.Value]{MaxEntries: 10_000}
	}
	c, err := dewar.New(cfg)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); c.Stats().Remote.Epoch == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			return nil, errors.Join(errors.New("the cache did not join its fleet"), c.Close())
		}
	}
	return c, nil
}

// process is one of the fleet: a cache in this process, or a member.
type process interface {
	get(key string) (kit.Value, error)
	getMany(keys []string) (map[string]kit.Value, error)
	held(key string) (kit.Value, error) // what a tier of it has, the local one first
	invalidate(keys ...string) error
	invalidateAll() error
	set(vs map[string]kit.Value) error
}

// here is a cache in this process.
type here struct{ c *kit.Cache }

// patience bounds one call: what takes longer has failed.
const patience = time.Minute

func (h here) get(key string) (kit.Value, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.c.Get(ctx, key)
}

func (h here) getMany(keys []string) (map[string]kit.Value, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.c.GetMany(ctx, keys)
}

func (h here) held(key string) (kit.Value, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.c.Get(ctx, key, dewar.CacheOnly())
}

func (h here) invalidate(keys ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.c.Invalidate(ctx, keys...)
}

func (h here) invalidateAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.c.InvalidateAll(ctx)
}

// set sets one value with Set, several with SetMany.
func (h here) set(vs map[string]kit.Value) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(vs) == 1 {
		for k, v := range vs {
			return h.c.Set(ctx, k, v)
		}
	}
	return h.c.SetMany(ctx, vs)
}

// startHere opens a cache in this process that ends with the test, and has lost
// nothing then.
func startHere(tb testing.TB, o options, origin *origin) here {
	tb.Helper()
	h := startFailing(tb, o, origin)
	tb.Cleanup(func() {
		if err := h.c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// startFailing is startHere for a cache that may lose writes.
func startFailing(tb testing.TB, o options, origin *origin) here {
	tb.Helper()
	c, err := open(o, kit.Hardened(tb, o.Redis), origin.load)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return here{c}
}

// remoteOnly opens a look at what Redis has, for caches of the same options.
func remoteOnly(tb testing.TB, o options, origin *origin) here {
	tb.Helper()
	o.RemoteOnly = true
	return startHere(tb, o, origin)
}

// newHistory returns a history of values of these fleets.
func newHistory() *dewartest.History[string, kit.Value] {
	return dewartest.NewHistory[string](func(v kit.Value) int64 { return v.Version })
}

// mustRead fails the test unless p reads that version of key.
func mustRead(tb testing.TB, p process, key string, version int64) {
	tb.Helper()
	if v, err := p.get(key); err != nil || v != (kit.Value{Key: key, Version: version}) {
		tb.Fatalf("%+v, %v; want version %d of %s", v, err, version, key)
	}
}

// checkHeld fails the test if a process, through which of its tiers ever, has
// another version of key than that. It returns how many have that one.
func checkHeld(tb testing.TB, processes map[string]process, key string, version int64) (n int) {
	tb.Helper()
	for name, p := range processes {
		v, err := p.held(key)
		switch {
		case errors.Is(err, dewar.ErrNotCached):
		case err != nil:
			tb.Errorf("%s: %s: %v", name, key, err)
		case v != kit.Value{Key: key, Version: version}:
			tb.Errorf("%s holds %+v; want version %d of %s", name, v, version, key)
		default:
			n++
		}
	}
	return n
}

// noneOlderWithin waits until no process has another version of key than that.
func noneOlderWithin(tb testing.TB, limit time.Duration, processes map[string]process, key string, version int64) {
	tb.Helper()
	kit.Within(tb, limit, fmt.Sprintf("no process holds %s older than version %d", key, version), func() bool {
		for _, p := range processes {
			if v, err := p.held(key); err == nil && v.Version < version {
				return false
			}
		}
		return true
	})
}
