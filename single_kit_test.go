package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// This file is what the tests of reading share: an origin that counts, and
// caches in front of it.

var errOrigin = errors.New("origin is down")

// origin stands in for the service behind a cache. The value of the n-th load
// of a key is "key#n", so that a test sees which load a value comes from.
type origin struct {
	mu      sync.Mutex // guards what follows
	took    time.Duration
	err     error               // what every call fails with
	gone    map[string]struct{} // keys that do not exist
	calls   []originCall        // in the order in which they began
	loads   map[string]int      // calls by key
	running int                 // calls under way
	most    int                 // calls ever under way at once
}

type originCall struct {
	keys []string
	at   time.Time
}

// newOrigin returns an origin whose every call takes so long.
func newOrigin(took time.Duration) *origin {
	return &origin{took: took, gone: make(map[string]struct{}), loads: make(map[string]int)}
}

func (o *origin) load(ctx context.Context, k string) (string, error) {
	m, err := o.loadMany(ctx, []string{k})
	if err != nil {
		return "", err
	}
	v, ok := m[k]
	if !ok {
		return "", dewar.ErrNotFound
	}
	return v, nil
}

func (o *origin) loadMany(ctx context.Context, keys []string) (map[string]string, error) {
	m := make(map[string]string, len(keys))
	o.mu.Lock()
	o.calls = append(o.calls, originCall{slices.Clone(keys), time.Now()})
	o.running++
	o.most = max(o.most, o.running)
	took := o.took
	for _, k := range keys {
		o.loads[k]++
		m[k] = fmt.Sprint(k, "#", o.loads[k])
	}
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running--
	}()
	if took > 0 {
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil, o.err
	}
	for k := range o.gone {
		delete(m, k)
	}
	return m, nil
}

// fail makes calls end with err from now on; nil heals the origin.
func (o *origin) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *origin) slow(took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.took = took
}

func (o *origin) remove(k string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[k] = struct{}{}
}

// count is how often the origin was asked for a key.
func (o *origin) count(k string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.loads[k]
}

// asked returns the calls so far.
func (o *origin) asked() []originCall {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

// atOnce is how many calls were ever under way at the same time.
func (o *origin) atOnce() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.most
}

type (
	config = dewar.Config[string, string]
	cache  = dewar.Cache[string, string]
)

// localOnly configures a cache without anything random: a TTL of one minute,
// no jitter, no refresh-ahead, no remote tier, and o's Load.
func localOnly(o *origin) config {
	return config{
		Name: "test", TTL: time.Minute, Jitter: -1,
		Warm:  dewar.Warm{Ahead: -1},
		Local: memory.Config[string]{MaxEntries: 1000},
		Load:  o.load,
	}
}

// batched is localOnly with o's LoadMany in place of Load.
func batched(o *origin) config {
	cfg := localOnly(o)
	cfg.Load, cfg.LoadMany = nil, o.loadMany
	return cfg
}

// open opens a cache that is closed with the test, in which that must leave
// nothing behind.
func open(t testing.TB, cfg config) *cache {
	t.Helper()
	c, err := dewar.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error("Close:", err)
		}
	})
	return c
}

// tierings are the tiers that a cache can have.
func tierings() map[string]func(*config) {
	return map[string]func(*config){
		"ristretto": func(cfg *config) { cfg.Local = memory.Config[string]{MaxEntries: 1000} },
		"otter":     func(cfg *config) { cfg.Local = memory.Otter[string]{MaxEntries: 1000} },
		"remote":    func(cfg *config) { cfg.Local, cfg.Remote = nil, newServer() },
		"both":      func(cfg *config) { cfg.Remote = newServer() },
		"both, slow remote": func(cfg *config) {
			cfg.Remote = slowRemote(newServer(), 3*time.Millisecond)
		},
		"slow remote": func(cfg *config) {
			cfg.Local, cfg.Remote = nil, slowRemote(newServer(), 3*time.Millisecond)
		},
		"remote, slow to write": func(cfg *config) {
			cfg.Local, cfg.Remote = nil, &dewartest.Chaos[string]{
				Remote: newServer(),
				Intercept: func(op string, _ []string) error {
					if op == "Fill" {
						time.Sleep(10 * time.Millisecond)
					}
					return nil
				},
			}
		},
	}
}

// newServer returns an empty remote tier.
func newServer() *dewartest.Remote[string] { return dewartest.NewRemote[string]() }

// slowRemote makes each round trip to a remote tier take so long.
func slowRemote(srv *dewartest.Remote[string], took time.Duration) *dewartest.Chaos[string] {
	chaos := &dewartest.Chaos[string]{Remote: srv}
	chaos.Delay(took)
	return chaos
}

// mustGet fails the test unless Get answers want.
func mustGet(t testing.TB, c *cache, k, want string, opts ...dewar.ReadOption) {
	t.Helper()
	if v, err := c.Get(t.Context(), k, opts...); v != want || err != nil {
		t.Fatalf("Get(%q) = %q, %v; want %q", k, v, err, want)
	}
}

// mustFail fails the test unless Get answers an error that is want.
func mustFail(t testing.TB, c *cache, k string, want error, opts ...dewar.ReadOption) {
	t.Helper()
	if v, err := c.Get(t.Context(), k, opts...); v != "" || !errors.Is(err, want) {
		t.Fatalf("Get(%q) = %q, %v; want %v", k, v, err, want)
	}
}

// mustBe fails the test unless GetResult answers a value with the status and
// the tier.
func mustBe(t testing.TB, c *cache, k, value string, status dewar.Status, tier string, opts ...dewar.ReadOption) dewar.Result[string] {
	t.Helper()
	r, err := c.GetResult(t.Context(), k, opts...)
	if err != nil || r.Value != value || r.Status != status || r.Tier != tier {
		t.Fatalf("GetResult(%q) = %+v, %v; want %q, %v from %v", k, r, err, value, status, tier)
	}
	return r
}

// mustCount fails the test unless the origin was asked for k so often.
func mustCount(t testing.TB, o *origin, k string, want int) {
	t.Helper()
	if n := o.count(k); n != want {
		t.Fatalf("the origin was asked %d times for %q; want %d", n, k, want)
	}
}

// keys returns n keys.
func keys(n int) []string {
	ks := make([]string, n)
	for i := range ks {
		ks[i] = fmt.Sprintf("k%03d", i)
	}
	return ks
}

// barrier blocks loaders until it is opened.
type barrier struct {
	ch   chan struct{}
	once sync.Once
}

func newBarrier() *barrier { return &barrier{ch: make(chan struct{})} }

// open lets everybody through; tests defer it, so that no failure leaves
// goroutines behind.
func (b *barrier) open() { b.once.Do(func() { close(b.ch) }) }

// load blocks, whatever its context says.
func (b *barrier) load(context.Context, string) (string, error) {
	<-b.ch
	return "late", nil
}
