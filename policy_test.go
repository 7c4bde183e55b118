package dewar_test

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// The policies of the levels as data: what overrides what, and the throttle.

func TestDefaultPolicies(t *testing.T) {
	for l, want := range map[dewar.Level]dewar.Policy{
		dewar.Normal:   {Ahead: dewar.AheadAll, Stale: dewar.StaleConfigured, Miss: dewar.MissLoads, Throttle: 10},
		dewar.Elevated: {Ahead: dewar.AheadPinned, Stale: dewar.StaleAtOnce, Miss: dewar.MissLoads, Throttle: 10},
		dewar.Degraded: {Ahead: dewar.AheadNone, Stale: dewar.StaleFromBucket, Miss: dewar.MissLoads, Throttle: 10},
		dewar.Protect:  {Ahead: dewar.AheadNone, Stale: dewar.StaleOnly, Miss: dewar.MissThrottled, Throttle: 10},
		dewar.Lockdown: {Ahead: dewar.AheadNone, Stale: dewar.StaleOnly, Miss: dewar.MissRefused, Throttle: 10},
		dewar.Level(0): dewar.DefaultPolicy(dewar.Lockdown),
		dewar.Level(9): dewar.DefaultPolicy(dewar.Normal),
	} {
		if got := dewar.DefaultPolicy(l); got != want {
			t.Errorf("%v: %+v; want %+v", l, got, want)
		}
	}
}

// atLockdown opens a cache with these policies, a fresh "a" and the dial at
// Lockdown.
func atLockdown(t *testing.T, forAll, forOne map[dewar.Level]dewar.Policy) (*cache, *origin) {
	o := newOrigin(0)
	cfg := localOnly(o)
	cfg.Stale.IfError = time.Hour
	cfg.Defcon, cfg.Levels = &dewar.Defcon{Levels: forAll}, forOne
	c := open(t, cfg)
	mustGet(t, c, "a", "a#1")
	cfg.Defcon.Set(dewar.Lockdown)
	return c, o
}

func TestAPolicyOverridesFieldByField(t *testing.T) {
	type policies = map[dewar.Level]dewar.Policy
	loads := policies{dewar.Lockdown: {Miss: dewar.MissLoads}}
	reloads := policies{dewar.Lockdown: {Stale: dewar.StaleAtOnce}}
	none := policies{dewar.Elevated: {Miss: dewar.MissRefused}} // another level's
	for _, tt := range []struct {
		name           string
		forAll, forOne policies
		miss, reload   bool // a miss loads, a stale value is reloaded
	}{
		{"neither", nil, nil, false, false},
		{"another level", none, none, false, false},
		{"the dial's Miss", loads, nil, true, false},
		{"the cache's Miss", nil, loads, true, false},
		{"the cache's Stale", nil, reloads, false, false}, // the load is refused
		{"the dial's Miss, the cache's Stale", loads, reloads, true, true},
		{"the dial's Stale, the cache's Miss", reloads, loads, true, true},
		{"the cache against the dial", loads, policies{dewar.Lockdown: {Miss: dewar.MissRefused}}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, o := atLockdown(t, tt.forAll, tt.forOne)
				if _, err := c.Get(t.Context(), "b"); (err == nil) != tt.miss || err != nil && !errors.Is(err, dewar.ErrDefcon) {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				mustGet(t, c, "a", "a#1")
				time.Sleep(time.Second)
				if reloaded := o.count("a") == 2; reloaded != tt.reload || (o.count("b") == 1) != tt.miss {
					t.Errorf("%d loads of a, %d of b", o.count("a"), o.count("b"))
				}
			})
		})
	}
}

func TestAheadIsOverriddenToo(t *testing.T) {
	for _, ahead := range []dewar.AheadPolicy{dewar.AheadAll, dewar.AheadPinned, dewar.AheadNone} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := warming(o)
				dialled(&cfg)
				cfg.Levels = map[dewar.Level]dewar.Policy{dewar.Normal: {Ahead: ahead}}
				c := open(t, cfg)
				c.KeepWarm("pinned")
				time.Sleep(time.Second)
				mustGet(t, c, "read", "read#1")
				time.Sleep(90 * time.Second)
				mustGet(t, c, "read", "read#1")
				time.Sleep(time.Second)
				read, pinned := 1, 0
				if ahead == dewar.AheadAll {
					read = 2
				}
				if ahead != dewar.AheadNone {
					pinned = 2
				}
				mustCount(t, o, "read", read)
				mustCount(t, o, "pinned", pinned)
			})
		})
	}
}

func TestPoliciesAreValidated(t *testing.T) {
	for want, levels := range map[string]map[dewar.Level]dewar.Policy{
		"0 is no level":           {0: {}},
		"6 is no level":           {6: {}},
		"Ahead is no AheadPolicy": {dewar.Normal: {Ahead: 4}},
		"Stale is no StalePolicy": {dewar.Normal: {Stale: 5}},
		"Miss is no MissPolicy":   {dewar.Normal: {Miss: 4}},
		"must be a number above 0": {
			dewar.Protect: {Throttle: -1}, dewar.Lockdown: {Throttle: math.NaN()}, dewar.Normal: {Throttle: math.Inf(1)},
		},
	} {
		for where, set := range map[string]func(*config){
			"Levels":        func(cfg *config) { cfg.Levels = levels },
			"Defcon.Levels": func(cfg *config) { cfg.Defcon = &dewar.Defcon{Levels: levels} },
		} {
			cfg := localOnly(newOrigin(0))
			set(&cfg)
			_, err := dewar.New(cfg)
			if err == nil || strings.Count(err.Error(), want) != len(levels) || !strings.Contains(err.Error(), where) {
				t.Errorf("%s: %+v: %v; want %q", where, levels, err, want)
			}
		}
	}
}

func TestNewCopiesThePolicies(t *testing.T) {
	levels := map[dewar.Level]dewar.Policy{}
	c, _ := atLockdown(t, levels, levels)
	levels[dewar.Lockdown] = dewar.Policy{Miss: dewar.MissLoads}
	mustFail(t, c, "b", dewar.ErrDefcon)
}

func TestTheThrottleLetsItsCallsThroughAndRefusesTheRestAtOnce(t *testing.T) {
	for _, throttle := range []float64{0, 0.5, 3, 10, 40, 200} {
		for how, many := range map[string]bool{"Get": false, "GetMany": true} {
			t.Run(fmt.Sprint(throttle, how), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := batched(o)
					cfg.Local = smallLocal
					cfg.Levels = map[dewar.Level]dewar.Policy{dewar.Protect: {Throttle: throttle}}
					rate := cmp.Or(throttle, 10)
					dialled(&cfg).Set(dewar.Protect)
					c := open(t, cfg)
					ok := 0
					const seconds = 10
					for i := range seconds * 500 {
						begun := time.Now()
						ks := []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}
						var err error
						if many {
							_, err = c.GetMany(t.Context(), ks) // one call for both
						} else {
							_, err = c.Get(t.Context(), ks[0])
						}
						if err == nil {
							ok++
						} else if !errors.Is(err, dewar.ErrDefcon) {
							t.Fatal(err)
						}
						if time.Since(begun) != 0 {
							t.Fatal("waited", time.Since(begun))
						}
						time.Sleep(2 * time.Millisecond)
					}
					calls := o.asked()
					if len(calls) != ok {
						t.Errorf("%d calls for %d answers", len(calls), ok)
					}
					most := 0
					for i, first := range calls {
						n := 0
						for _, call := range calls[i:] {
							if call.at.Sub(first.at) < time.Second {
								n++
							}
						}
						most = max(most, n)
					}
					// A tenth of a second's worth may be saved up while nobody asks.
					saved := max(1, int(rate/10))
					if want := seconds*rate + float64(saved); float64(ok) > want || float64(ok) < want-2 {
						t.Errorf("%d calls in %d s; want about %v", ok, seconds, want)
					}
					if limit := max(1, int(rate)+saved); most > limit {
						t.Errorf("%d calls within a second; want at most %d", most, limit)
					}
				})
			})
		}
	}
}

func TestEachCacheHasAThrottleOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := new(dewar.Defcon)
		dial.Set(dewar.Protect)
		var caches []*cache
		for range 3 {
			cfg := localOnly(newOrigin(0))
			cfg.Defcon = dial
			caches = append(caches, open(t, cfg))
		}
		for _, c := range caches {
			mustGet(t, c, "a", "a#1")
		}
		for _, c := range caches {
			mustFail(t, c, "b", dewar.ErrDefcon)
		}
	})
}

func TestTheThrottleHoldsHoweverManyAskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := localOnly(o)
		dialled(&cfg).Set(dewar.Protect)
		c := open(t, cfg)
		var wg sync.WaitGroup
		for _, k := range keys(1000) {
			wg.Go(func() { c.Get(t.Context(), k) })
		}
		wg.Wait()
		if n := len(o.asked()); n != 1 {
			t.Errorf("%d calls at the same time; want 1", n)
		}
		if s := c.Stats(); s.DefconRefused != 999 || s.Failed != 999 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSeveralCachesOnOneDialEachWithItsExceptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := new(dewar.Defcon)
		openOne := func(name string, levels map[dewar.Level]dewar.Policy) *cache {
			cfg := localOnly(newOrigin(0))
			cfg.Name, cfg.Defcon, cfg.Levels = name, dial, levels
			return open(t, cfg)
		}
		plain := openOne("plain", nil)
		vital := openOne("vital", map[dewar.Level]dewar.Policy{dewar.Lockdown: {Miss: dewar.MissLoads}})
		trifle := openOne("trifle", map[dewar.Level]dewar.Policy{dewar.Elevated: {Miss: dewar.MissRefused}})
		for level, loads := range map[dewar.Level]map[*cache]bool{
			dewar.Normal:   {plain: true, vital: true, trifle: true},
			dewar.Elevated: {plain: true, vital: true, trifle: false},
			dewar.Lockdown: {plain: false, vital: true, trifle: false},
		} {
			dial.Set(level)
			for c, want := range loads {
				if _, err := c.Get(t.Context(), level.String()); (err == nil) != want || err != nil && !errors.Is(err, dewar.ErrDefcon) {
					t.Errorf("%v: %v; want a load: %v", level, err, want)
				}
				if got := c.Stats().Level; got != level {
					t.Errorf("Stats says %v at %v", got, level)
				}
			}
		}
	})
}
