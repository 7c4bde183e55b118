package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// ruled opens a cache without a breaker on a dial that a rule turns.
func ruled(t *testing.T, rule dewar.Rule, alter ...func(*config)) (*cache, *origin, *dewar.Defcon) {
	o, dial := newOrigin(0), new(dewar.Defcon)
	cfg := localOnly(o)
	cfg.Defcon, cfg.Guard.Breaker.FailureRatio = dial, -1
	for _, a := range alter {
		a(&cfg)
	}
	c := open(t, cfg)
	automate(t, dial, rule)
	return c, o, dial
}

func automate(t *testing.T, dial *dewar.Defcon, rule dewar.Rule) {
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dial.Automate(ctx, rule) }()
	t.Cleanup(func() {
		end()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error("Automate:", err)
		}
	})
}

// busy reads cold keys, ten a second, for a while.
func busy(c *cache, from int, d time.Duration) (next int) {
	for range int(d / (100 * time.Millisecond)) {
		_, _ = c.Get(context.Background(), fmt.Sprint("cold-", from))
		from++
		time.Sleep(100 * time.Millisecond)
	}
	return from
}

func mustLevel(t *testing.T, dial *dewar.Defcon, want dewar.Level) {
	t.Helper()
	if got := dial.Level(); got != want {
		t.Fatalf("level %v; want %v; last turn %+v", got, want, dial.LastTurn())
	}
}

func TestARuleTurnsOneLevelDownForEachTimeThatLoadsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 10 * time.Second, Healthy: time.Hour})
		o.fail(errOrigin)
		k := busy(c, 0, 8*time.Second)
		mustLevel(t, dial, dewar.Normal)
		k = busy(c, k, 5*time.Second)
		mustLevel(t, dial, dewar.Elevated)
		turn := dial.LastTurn()
		if turn.Via != dewar.ViaRule || turn.Who != "rule" || !strings.Contains(turn.Why, "loads failed") || dial.LevelSet() != dewar.Normal {
			t.Errorf("%+v, set %v", turn, dial.LevelSet())
		}
		busy(c, k, 10*time.Second)
		mustLevel(t, dial, dewar.Degraded)
	})
}

func TestFewErrorsOrFewLoadsTurnNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 10 * time.Second, MinLoads: 10, ErrorShare: 0.5})
		k := 0
		for range 30 { // four of ten fail
			o.fail(errOrigin)
			k = busy(c, k, 400*time.Millisecond)
			o.fail(nil)
			k = busy(c, k, 600*time.Millisecond)
		}
		mustLevel(t, dial, dewar.Normal)
		time.Sleep(20 * time.Second)
		o.fail(errOrigin)
		for range 20 { // all fail, but they are five in ten seconds
			k = busy(c, k, 100*time.Millisecond)
			time.Sleep(1900 * time.Millisecond)
		}
		mustLevel(t, dial, dewar.Normal)
	})
}

func TestAnOpenBreakerCountsAndOneThatWaitsForProbesDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 10 * time.Second, Healthy: 5 * time.Minute}, func(cfg *config) {
			cfg.Guard.Breaker = dewar.Breaker{MinRequests: 1, OpenFor: 4 * time.Second, Probes: 1}
		})
		o.fail(errOrigin)
		for k := range 12 { // one load in three seconds: most of the time the breaker is half-open, or just opened again
			_, _ = c.Get(t.Context(), fmt.Sprint(k))
			time.Sleep(3 * time.Second)
		}
		if l := dial.Level(); l > dewar.Degraded {
			t.Errorf("level %v after 36 s", l)
		}
		if why := dial.LastTurn().Why; !strings.Contains(why, "breaker") {
			t.Error(why)
		}
	})
}

func TestARuleTurnsBackWhenNothingFailsButNotPastWhatWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 5 * time.Second, Healthy: 30 * time.Second})
		dial.Set(dewar.Elevated)
		o.fail(errOrigin)
		k := busy(c, 0, 13*time.Second)
		if dial.Level() > dewar.Degraded {
			t.Fatal(dial.Level())
		}
		o.fail(nil)
		busy(c, k, 3*time.Minute)
		mustLevel(t, dial, dewar.Elevated)
	})
}

func TestARuleRecoversFromLockdownThoughNothingIsLoadedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 5 * time.Second, Healthy: 30 * time.Second}, func(cfg *config) {
			cfg.Guard.Breaker = dewar.Breaker{MinRequests: 5}
		})
		o.fail(errOrigin)
		k := 0
		for range 120 {
			if k = busy(c, k, time.Second); dial.Level() == dewar.Lockdown {
				break
			}
		}
		mustLevel(t, dial, dewar.Lockdown)
		o.fail(nil)
		busy(c, k, 4*time.Minute)
		mustLevel(t, dial, dewar.Normal)
	})
}

func TestAPersonsTurnEndsWhatTheRuleDidAndBoundsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 5 * time.Second, Healthy: 20 * time.Second})
		o.fail(errOrigin)
		k := busy(c, 0, 12*time.Second)
		if dial.Level() == dewar.Normal {
			t.Fatal("the rule did nothing")
		}
		dial.Set(dewar.Normal)
		mustLevel(t, dial, dewar.Normal)
		dial.Set(dewar.Protect)
		o.fail(nil)
		busy(c, k, 3*time.Minute)
		mustLevel(t, dial, dewar.Protect)
	})
}

func TestCachesThatComeAndGoDoNotConfuseTheRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, dial := ruled(t, dewar.Rule{For: 10 * time.Second})
		k := busy(c, 0, 5*time.Second)
		old := newOrigin(0)
		old.fail(errOrigin)
		cfg := localOnly(old)
		cfg.Guard.Breaker.FailureRatio = -1
		other := open(t, cfg) // fails for long, but not on the dial
		busy(other, 0, 20*time.Second)
		_ = other.Close()
		for range 20 {
			cfg := localOnly(o)
			cfg.Defcon = dial
			short := open(t, cfg)
			k = busy(short, k, time.Second)
			if err := short.Close(); err != nil {
				t.Error(err)
			}
		}
		mustLevel(t, dial, dewar.Normal)
	})
}

func TestARuleThatMakesNoSenseIsToldAtOnce(t *testing.T) {
	for name, rule := range map[string]dewar.Rule{
		"NaN": {ErrorShare: math.NaN()}, "negative share": {ErrorShare: -0.1}, "share": {ErrorShare: 1.1},
		"MinLoads": {MinLoads: -1}, "For": {For: -1}, "Healthy": {Healthy: -1},
	} {
		if err := new(dewar.Defcon).Automate(t.Context(), rule); err == nil || !strings.Contains(err.Error(), "Rule") {
			t.Error(name, err)
		}
	}
}

// At Lockdown nobody asks a breaker that has no state to tell: what it last said
// must not hold the level for ever.
func TestARuleRecoversFromLockdownWithAUsersBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own switchBreaker
		own.refuse(errRefused)
		c, _, dial := ruled(t, dewar.Rule{For: 5 * time.Second, Healthy: 30 * time.Second}, func(cfg *config) {
			cfg.Guard.Breaker = dewar.Breaker{Use: &own}
		})
		k := busy(c, 0, 30*time.Second)
		mustLevel(t, dial, dewar.Lockdown)
		own.refuse(nil)
		busy(c, k, 4*time.Minute)
		mustLevel(t, dial, dewar.Normal)
	})
}
