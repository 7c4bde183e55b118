package dewar_test

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Guard, Breaker, Retry and Origin in a Config.

func TestTheLongestDurationsOfAGuardMeanForEver(t *testing.T) {
	for name, g := range map[string]dewar.Guard{
		"Window":       {Breaker: dewar.Breaker{MinRequests: 3, Window: math.MaxInt64, OpenFor: time.Hour}},
		"OpenFor":      {Breaker: dewar.Breaker{MinRequests: 3, OpenFor: math.MaxInt64}},
		"SlowerThan":   {Breaker: dewar.Breaker{MinRequests: 3, OpenFor: time.Hour, SlowerThan: math.MaxInt64}},
		"QueueTimeout": {QueueTimeout: math.MaxInt64, LoadsPerSecond: 1000, Breaker: dewar.Breaker{MinRequests: 3, OpenFor: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for range 10 { // OpenFor is spread
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Guard = g
					c := open(t, cfg)
					if err := preload(c, []string{"preloaded"}); err != nil {
						t.Error(err)
					}
					o.fail(errOrigin)
					mustFail(t, c, "a", errOrigin)
					time.Sleep(time.Second)
					mustFail(t, c, "b", errOrigin)
					time.Sleep(10 * time.Minute)
					mustFail(t, c, "c", dewar.ErrBreakerOpen)
				}
			})
		})
	}
	t.Run("Retry.Pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			cfg := repeating(o)
			cfg.Guard.Retry.Pause = math.MaxInt64
			c := open(t, cfg)
			o.fail(errOrigin)
			for _, k := range keys(10) {
				mustFail(t, c, k, dewar.ErrTimeout) // in the pause
				mustCount(t, o, k, 1)
			}
		})
	})
}

// guardProblems are what is wrong with guards, each with the words that its
// error must have: the field, and where two fields need each other both.
var guardProblems = []struct {
	words string
	guard dewar.Guard
}{
	{"MaxConcurrent", dewar.Guard{MaxConcurrent: -1}},
	{"MaxBackground", dewar.Guard{MaxBackground: -1}},
	{"MaxBackground MaxConcurrent", dewar.Guard{MaxConcurrent: 2, MaxBackground: 3}},
	{"QueueTimeout", dewar.Guard{QueueTimeout: -1}},
	{"LoadsPerSecond", dewar.Guard{LoadsPerSecond: -1}},
	{"LoadsPerSecond", dewar.Guard{LoadsPerSecond: math.NaN()}},
	{"LoadsPerSecond", dewar.Guard{LoadsPerSecond: math.Inf(1)}},
	{"Breaker.FailureRatio", dewar.Guard{Breaker: dewar.Breaker{FailureRatio: 1.01}}},
	{"Breaker.FailureRatio", dewar.Guard{Breaker: dewar.Breaker{FailureRatio: math.NaN()}}},
	{"Breaker.FailureRatio", dewar.Guard{Breaker: dewar.Breaker{FailureRatio: math.Inf(1)}}},
	{"Breaker.MinRequests", dewar.Guard{Breaker: dewar.Breaker{MinRequests: -1}}},
	{"Breaker.Window", dewar.Guard{Breaker: dewar.Breaker{Window: -1}}},
	{"Breaker.OpenFor", dewar.Guard{Breaker: dewar.Breaker{OpenFor: -1}}},
	{"Breaker.Probes", dewar.Guard{Breaker: dewar.Breaker{Probes: -1}}},
	{"Breaker.SlowerThan", dewar.Guard{Breaker: dewar.Breaker{SlowerThan: -1}}},
	{"Breaker.Use FailureRatio", dewar.Guard{Breaker: dewar.Breaker{Use: new(switchBreaker), FailureRatio: 0.5}}},
	{"Breaker.Use MinRequests", dewar.Guard{Breaker: dewar.Breaker{Use: new(switchBreaker), MinRequests: 1}}},
	{"Breaker.Use Window", dewar.Guard{Breaker: dewar.Breaker{Use: new(switchBreaker), Window: 1}}},
	{"Breaker.Use OpenFor", dewar.Guard{Breaker: dewar.Breaker{Use: new(switchBreaker), OpenFor: 1}}},
	{"Breaker.Use Probes", dewar.Guard{Breaker: dewar.Breaker{Use: new(switchBreaker), Probes: 1}}},
	{"Retry.Budget", dewar.Guard{Retry: dewar.Retry{Idempotent: true, Budget: 1.5}}},
	{"Retry.Budget", dewar.Guard{Retry: dewar.Retry{Idempotent: true, Budget: -0.1}}},
	{"Retry.Budget", dewar.Guard{Retry: dewar.Retry{Idempotent: true, Budget: math.NaN()}}},
	{"Retry.Pause", dewar.Guard{Retry: dewar.Retry{Idempotent: true, Pause: -1}}},
	{"Retry.Budget Idempotent", dewar.Guard{Retry: dewar.Retry{Budget: 0.5}}},
	{"Retry.Pause Idempotent", dewar.Guard{Retry: dewar.Retry{Pause: 1}}},
}

func TestWhatIsWrongWithAGuardIsToldByEachCacheThatUsesIt(t *testing.T) {
	mustName := func(err error, words ...string) {
		t.Helper()
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%q is not named: %v", word, err)
			}
		}
	}
	for _, p := range guardProblems {
		words := strings.Fields(p.words)
		cfg := localOnly(newOrigin(0))
		cfg.Guard = p.guard
		mustName(cfg.Validate(), append(words, "Guard."+words[0])...)
		cfg = localOnly(newOrigin(0))
		cfg.Origin = dewar.NewOrigin("catalog", p.guard)
		mustName(cfg.Validate(), append(words, `"catalog"`)...)
		if c, err := dewar.New(cfg); c != nil || err == nil {
			t.Errorf("%s: New accepts it: %v", p.words, err)
		}
		_ = cfg.Origin.Stats() // useless, but no panic
	}
	for _, name := range []string{"", "a b", "ü", strings.Repeat("x", 65)} {
		cfg := localOnly(newOrigin(0))
		cfg.Origin = dewar.NewOrigin(name, dewar.Guard{})
		mustName(cfg.Validate(), "name")
	}
	cfg := localOnly(newOrigin(0))
	cfg.Origin = dewar.NewOrigin("two things", dewar.Guard{QueueTimeout: -1, Retry: dewar.Retry{Pause: -1}})
	mustName(cfg.Validate(), "two things", "QueueTimeout", "Retry.Pause")
}

func TestGuardTogetherWithOriginIsRefused(t *testing.T) {
	for name, g := range map[string]dewar.Guard{
		"MaxConcurrent": {MaxConcurrent: 1}, "LoadsPerSecond": {LoadsPerSecond: 1},
		"Breaker": {Breaker: dewar.Breaker{FailureRatio: -1}}, "Counts": {Breaker: dewar.Breaker{Counts: func(error) bool { return true }}},
		"Use": {Breaker: dewar.Breaker{Use: new(switchBreaker)}}, "Retry": {Retry: dewar.Retry{Idempotent: true}},
	} {
		cfg := localOnly(newOrigin(0))
		cfg.Guard, cfg.Origin = g, dewar.NewOrigin("shared", dewar.Guard{})
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "Guard") || !strings.Contains(err.Error(), "Origin") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := localOnly(newOrigin(0))
	cfg.Origin = dewar.NewOrigin("shared", dewar.Guard{})
	open(t, cfg)
}

func TestWhenABreakerIsOn(t *testing.T) {
	counts := func(error) bool { return true }
	for _, of := range []struct {
		name string
		set  func(*config)
		on   bool
	}{
		{"nothing", func(*config) {}, false},
		{"IfError", func(c *config) { c.Stale.IfError = 1 }, true},
		{"WhileRevalidate", func(c *config) { c.Stale.WhileRevalidate = 1 }, true},
		{"RetryAfter alone", func(c *config) { c.Stale.RetryAfter = 1 }, false},
		{"an Origin", func(c *config) { c.Origin = dewar.NewOrigin("o", dewar.Guard{}) }, true},
		{"an Origin without", func(c *config) {
			c.Origin = dewar.NewOrigin("o", dewar.Guard{Breaker: dewar.Breaker{FailureRatio: -1}})
		}, false},
		{"an Origin without, and IfError", func(c *config) {
			c.Stale.IfError = 1
			c.Origin = dewar.NewOrigin("o", dewar.Guard{Breaker: dewar.Breaker{FailureRatio: -1}})
		}, false},
		{"another field of Guard", func(c *config) { c.Guard.MaxConcurrent = 1 }, false},
		{"FailureRatio", func(c *config) { c.Guard.Breaker.FailureRatio = 0.5 }, true},
		{"Counts", func(c *config) { c.Guard.Breaker.Counts = counts }, true},
		{"SlowerThan", func(c *config) { c.Guard.Breaker.SlowerThan = 1 }, true},
		{"MinRequests", func(c *config) { c.Guard.Breaker.MinRequests = 1 }, true},
		{"Window", func(c *config) { c.Guard.Breaker.Window = 1 }, true},
		{"OpenFor", func(c *config) { c.Guard.Breaker.OpenFor = 1 }, true},
		{"Probes", func(c *config) { c.Guard.Breaker.Probes = 1 }, true},
		{"Use", func(c *config) { c.Guard.Breaker.Use = new(switchBreaker) }, true},
		{"IfError and FailureRatio negative", func(c *config) {
			c.Stale.IfError = 1
			c.Guard.Breaker.FailureRatio = -1
		}, false},
		{"FailureRatio -Inf", func(c *config) { c.Guard.Breaker.FailureRatio = math.Inf(-1) }, false},
	} {
		cfg := localOnly(newOrigin(0))
		of.set(&cfg)
		c := open(t, cfg)
		if is := c.Stats().Origin.Breaker; is != dewar.BreakerNone != of.on {
			t.Errorf("with %s: %v", of.name, is)
		}
	}
}

func TestWhatAGuardDefaultsTo(t *testing.T) {
	cfg := localOnly(newOrigin(0))
	if s := open(t, cfg).Stats().Origin; s != (dewar.OriginStats{Name: "test", Slots: 128}) {
		t.Errorf("%+v", s)
	}
	cfg.Origin = dewar.NewOrigin("shared", dewar.Guard{MaxConcurrent: 7})
	if s := open(t, cfg).Stats().Origin; s != (dewar.OriginStats{Name: "shared", Slots: 7, Breaker: dewar.BreakerClosed}) {
		t.Errorf("%+v", s)
	}
}
