package redistier

import (
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// wrapped is a client with something around it, as instrumentation has.
type wrapped struct{ *redis.Client }

// opaque does not show its options.
type opaque struct{ redis.UniversalClient }

func TestClientsThatBreakPromisesAreRefusedWithTheFix(t *testing.T) {
	ok := newClient(t, "127.0.0.1:1")
	auto, err := ok.AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	cluster := func(change func(*redis.ClusterOptions)) redis.UniversalClient {
		opt := &redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true}
		change(opt)
		c := redis.NewClusterClient(opt)
		t.Cleanup(func() { c.Close() })
		return c
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, ContextTimeoutEnabled: true})
	t.Cleanup(func() { ring.Close() })
	csc := newClient(t, "127.0.0.1:1", func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} })
	for _, c := range []struct {
		name   string
		client redis.UniversalClient
		want   []string // in the error; nil: accepted
	}{
		{"client", ok, nil},
		{"wrapped client", wrapped{ok}, nil},
		{"cluster", cluster(func(*redis.ClusterOptions) {}), nil},
		{"nil", nil, []string{"Client is required", "redis.NewClient"}},
		{"nil client", (*redis.Client)(nil), []string{"Client is required"}},
		{"nil cluster", (*redis.ClusterClient)(nil), []string{"Client is required"}},
		{"deaf to deadlines", newClient(t, "127.0.0.1:1", func(o *redis.Options) { o.ContextTimeoutEnabled = false }), []string{"ContextTimeoutEnabled: true"}},
		{"wrapped and deaf", wrapped{newClient(t, "127.0.0.1:1", func(o *redis.Options) { o.ContextTimeoutEnabled = false })}, []string{"ContextTimeoutEnabled: true"}},
		{"deaf cluster", cluster(func(o *redis.ClusterOptions) { o.ContextTimeoutEnabled = false }), []string{"ContextTimeoutEnabled: true"}},
		{"client-side cache", csc, []string{"ClientSideCacheConfig nil"}},
		{"ring", ring, []string{"*redis.Ring", "*redis.ClusterClient"}},
		{"ReadOnly", cluster(func(o *redis.ClusterOptions) { o.ReadOnly = true }), []string{"leave ReadOnly false"}},
		{"RouteByLatency", cluster(func(o *redis.ClusterOptions) { o.RouteByLatency = true }), []string{"leave RouteByLatency false"}},
		{"RouteRandomly", cluster(func(o *redis.ClusterOptions) { o.RouteRandomly = true }), []string{"leave RouteRandomly false"}},
		{"all at once", cluster(func(o *redis.ClusterOptions) { o.RouteRandomly = true; o.ContextTimeoutEnabled = false }), []string{"RouteRandomly", "ContextTimeoutEnabled"}},
		{"autopipeliner", auto, []string{"AutoPipeliner", "pass the client"}},
		{"opaque", opaque{ok}, []string{"redistier.opaque", "*redis.Client"}},
	} {
		cfg := Config[string]{Client: c.client}
		err := cfg.Validate()
		_, openErr := cfg.OpenRemote(testOptions)
		if c.want == nil {
			if err != nil || openErr != nil {
				t.Errorf("%s: refused: %v, %v", c.name, err, openErr)
			}
			continue
		}
		if err == nil || openErr == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: does not say %q", c.name, err, want)
			}
		}
	}
}

func TestValidateJoinsEveryProblem(t *testing.T) {
	err := Config[struct{ hidden int }]{Prefix: "a:b", Timeout: -1, MaxValue: -1}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"Client", "Prefix", "Timeout", "MaxValue", "value.hidden"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
}

func TestPrefixesThatBreakKeysAreRefused(t *testing.T) {
	client := newClient(t, "127.0.0.1:1")
	for prefix, ok := range map[string]bool{
		"": true, "dewar": true, "team/app-1_x.y": true, strings.Repeat("p", 64): true,
		strings.Repeat("p", 65): false, "a:b": false, "{a}": false, "}": false, "a b": false, "é": false, "\xff": false,
	} {
		if err := (Config[string]{Client: client, Prefix: prefix}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestOpenSucceedsWhileRedisIsDown(t *testing.T) {
	began := time.Now()
	tier, err := Config[string]{Client: newClient(t, "127.0.0.1:1")}.OpenRemote(testOptions)
	if err != nil || time.Since(began) > time.Second {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
	tier.Close()
	if _, err := (Config[string]{Client: newClient(t, "127.0.0.1:1")}).OpenRemote(dewar.RemoteOptions{Name: "n"}); err == nil {
		t.Error("opens without LeaseFor")
	}
}

func TestDefaultTimeoutGrowsWithWhatIsExpected(t *testing.T) {
	tier, _ := miniTier(t)
	for _, c := range []struct {
		timeout time.Duration
		size    int64
		want    time.Duration
	}{
		{0, 0, 100 * time.Millisecond},
		{0, 64 << 10, 101 * time.Millisecond},
		{0, 64 << 20, 1124 * time.Millisecond},
		{time.Second, 64 << 20, time.Second},
	} {
		w := wire{client: tier.client, timeout: c.timeout, log: testOptions.Logger}
		ctx, cancel, err := w.bound(t.Context(), c.size)
		if err != nil {
			t.Fatal(err)
		}
		deadline, _ := ctx.Deadline()
		if left := time.Until(deadline); left > c.want || left < c.want-50*time.Millisecond {
			t.Errorf("timeout %v, %d bytes: %v left, want %v", c.timeout, c.size, left, c.want)
		}
		cancel()
	}
}
