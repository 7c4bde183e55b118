package dewar_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

func TestEachRuleOfTheConfigurationIsChecked(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	accepts := func(error) bool { return true }
	// Each problem with words that its error must have: the field, and where
	// two fields need each other both.
	problems := []struct {
		words string
		spoil func(*config)
	}{
		{"Name", func(c *config) { c.Name = "" }},
		{"Name", func(c *config) { c.Name = "a:b" }},
		{"Name", func(c *config) { c.Name = strings.Repeat("x", 65) }},
		{"Name", func(c *config) { c.Name = "ü" }},
		{"Schema", func(c *config) { c.Schema = "{1}" }},
		{"TTL", func(c *config) { c.TTL = 0 }},
		{"TTL", func(c *config) { c.TTL = -1 }},
		{"Load LoadMany", func(c *config) { c.Load = nil }},
		{"Local Remote", func(c *config) { c.Local = nil }},
		{"Jitter", func(c *config) { c.Jitter = 1 }},
		{"Jitter", func(c *config) { c.Jitter = nan }},
		{"Jitter", func(c *config) { c.Jitter = inf }},
		{"Warm.Ahead", func(c *config) { c.Warm.Ahead = 1 }},
		{"Warm.Ahead", func(c *config) { c.Warm.Ahead = nan }},
		{"Warm.KeysPerSecond", func(c *config) { c.Warm.KeysPerSecond = -1 }},
		{"Warm.KeysPerSecond", func(c *config) { c.Warm.KeysPerSecond = nan }},
		{"Warm.Bucket", func(c *config) { c.Warm.Bucket = -1 }},
		{"Warm.Gather", func(c *config) { c.Warm.Gather = -1 }},
		{"Stale.IfError", func(c *config) { c.Stale.IfError = -1 }},
		{"Stale.WhileRevalidate", func(c *config) { c.Stale.WhileRevalidate = -1 }},
		{"Stale.SoftTimeout", func(c *config) { c.Stale.SoftTimeout = -1 }},
		{"Stale.RetryAfter", func(c *config) { c.Stale.RetryAfter = -1 }},
		{"Stale.SoftTimeout Stale.IfError", func(c *config) { c.Stale.SoftTimeout = 1 }},
		{"Stale.SoftTimeout Stale.IfError", func(c *config) { c.Stale.SoftTimeout, c.Stale.WhileRevalidate = 1, 1 }},
		{"Stale.Accepts Stale.IfError", func(c *config) { c.Stale.Accepts = accepts }},
		{"Batch.MaxSize", func(c *config) { c.Batch.MaxSize = -1 }},
		{"Batch.Parallel", func(c *config) { c.Batch.Parallel = -1 }},
		{"Batch.Linger", func(c *config) { c.Batch.Linger = -1 }},
		{"Batch.Linger LoadMany", func(c *config) { c.Batch.Linger = 1 }},
		{"Flight.Timeout", func(c *config) { c.Flight.Timeout = -1 }},
		{"Guard.MaxConcurrent", func(c *config) { c.Guard.MaxConcurrent = -1 }},
		{"Guard.MaxBackground", func(c *config) { c.Guard.MaxBackground = -1 }},
		{"Guard.MaxBackground Guard.MaxConcurrent", func(c *config) { c.Guard.MaxConcurrent, c.Guard.MaxBackground = 2, 3 }},
		{"Guard.MaxBackground Guard.MaxConcurrent", func(c *config) { c.Guard.MaxBackground = 129 }},
		{"Guard.QueueTimeout", func(c *config) { c.Guard.QueueTimeout = -1 }},
		{"MaxEntries", func(c *config) { c.Local = memory.Config[string]{MaxEntries: -1} }},
		{"NewRemote", func(c *config) { c.Remote = &dewartest.Remote[string]{} }},
	}
	all := localOnly(newOrigin(0))
	for _, p := range problems {
		cfg := localOnly(newOrigin(0))
		p.spoil(&cfg)
		c, err := dewar.New(cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: accepted", p.words)
			continue
		}
		if c != nil {
			t.Errorf("%s: a cache beside the error", p.words)
		}
		for _, word := range strings.Fields(p.words) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s is not named: %v", word, err)
			}
		}
		if valid := cfg.Validate(); valid == nil || valid.Error() != err.Error() {
			t.Errorf("Validate says %v, New %v", valid, err)
		}
		if p.words != "Load LoadMany" && p.words != "Local Remote" {
			p.spoil(&all)
		}
	}

	_, err := dewar.New(all)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, word := range []string{
		"Name", "Schema", "TTL", "Jitter", "Warm.Ahead", "Warm.KeysPerSecond", "Warm.Bucket", "Warm.Gather",
		"Stale.RetryAfter", "Batch.MaxSize", "Batch.Parallel", "Flight.Timeout", "Guard.QueueTimeout", "MaxEntries", "NewRemote",
	} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("with everything wrong, %s is not named", word)
		}
	}
}

func TestAKeyThatIsNeitherStringNorIntegerNeedsKey(t *testing.T) {
	cfg := dewar.Config[float64, string]{
		Name: "test", TTL: time.Minute, Local: memory.Config[string]{},
		Load: func(context.Context, float64) (string, error) { return "", nil },
	}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "Key") || !strings.Contains(err.Error(), "float64") {
		t.Error(err)
	}
}

func TestNegativeSwitchesOffWhereItIsSaidTo(t *testing.T) {
	cfg := localOnly(newOrigin(0))
	cfg.NegativeTTL, cfg.Jitter, cfg.Warm.Ahead = -1, -1, -1
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Jitter, cfg.Warm.Ahead = math.Inf(-1), math.Inf(-1)
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestTheLongestDurationsAreAccepted(t *testing.T) {
	o := newOrigin(0)
	o.remove("gone")
	cfg := batched(o)
	cfg.TTL, cfg.NegativeTTL = math.MaxInt64, math.MaxInt64
	cfg.Stale = dewar.Stale{IfError: math.MaxInt64, WhileRevalidate: math.MaxInt64, SoftTimeout: math.MaxInt64, RetryAfter: math.MaxInt64}
	cfg.Flight.Timeout, cfg.Guard.QueueTimeout = math.MaxInt64, math.MaxInt64
	cfg.Jitter, cfg.Warm.Ahead = 0.9, 0.9
	cfg.Remote = newServer()
	c := open(t, cfg)
	mustGet(t, c, "a", "a#1")
	mustFail(t, c, "gone", dewar.ErrNotFound)
	mustGet(t, c, "a", "a#1", dewar.MaxAge(math.MaxInt64))
	if err := errors.Join(c.Set(t.Context(), "b", "b"), c.Expire(t.Context(), "b"), c.Wait(t.Context())); err != nil {
		t.Error(err)
	}
	mustGet(t, c, "b", "b")
}

func TestNewLogsTheEffectiveConfigurationAtDebug(t *testing.T) {
	var out bytes.Buffer
	cfg := localOnly(newOrigin(0))
	cfg.Jitter = 0
	cfg.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	open(t, cfg)
	for _, want := range []string{
		"level=DEBUG", "cache=test", "ttl=1m0s", "negative_ttl=5s", "jitter=0.05", "retry_after=1s",
		"warm_bucket=1024", "batch_max_size=200", "batch_parallel=4", "flight_timeout=10s",
		"guard_max_concurrent=128", "guard_max_background=64", "guard_queue_timeout=1s",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out.String())
		}
	}
	out.Reset()
	cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
	open(t, cfg)
	if out.Len() > 0 {
		t.Error("logged above Debug:", out.String())
	}
}

type failing struct {
	memory.Config[string]
	err error
}

func (f failing) OpenLocal(string) (dewar.LocalTier[string], error) { return nil, f.err }

func TestATierThatDoesNotOpenIsTold(t *testing.T) {
	cfg := localOnly(newOrigin(0))
	cfg.Local = failing{err: errOrigin}
	if _, err := dewar.New(cfg); !errors.Is(err, errOrigin) || !strings.Contains(err.Error(), `"test"`) {
		t.Error(err)
	}
}
