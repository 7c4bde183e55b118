package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// What a read with an option gets at each level, of a value that is fresh and
// of one that is stale.

// optioned is what a read of "a" with an option is answered with.
type optioned uint8

const (
	getsLoaded  optioned = iota + 1 // the origin was asked
	getsHit                         // it is fresh
	getsStale                       // Result.Err is nil
	getsRefused                     // stale, because of ErrDefcon
	getsDefcon                      // ErrDefcon
)

func (g optioned) String() string {
	return [...]string{"", "loaded", "hit", "stale", "stale because of ErrDefcon", "ErrDefcon"}[g]
}

func gotten(r dewar.Result[string], err error) optioned {
	switch {
	case errors.Is(err, dewar.ErrDefcon):
		return getsDefcon
	case err != nil:
		return 0
	case r.Status == dewar.StatusLoaded:
		return getsLoaded
	case r.Status == dewar.StatusHit:
		return getsHit
	case r.Status == dewar.StatusStale && r.Err == nil:
		return getsStale
	case r.Status == dewar.StatusStale && errors.Is(r.Err, dewar.ErrDefcon):
		return getsRefused
	}
	return 0
}

// optionCases: at Protect the throttle has nothing left. The windows are an
// hour of IfError, and an hour of WhileRevalidate.
var optionCases = []struct {
	name            string
	opt             dewar.ReadOption
	fresh           bool
	loads           optioned // at Elevated and Degraded
	protect         optioned // inside IfError
	lockdown        optioned // inside IfError
	protectWithout  optioned // with WhileRevalidate alone
	lockdownWithout optioned // with WhileRevalidate alone
}{
	{"NoStale", dewar.NoStale(), true, getsHit, getsHit, getsHit, getsHit, getsHit},
	{"NoStale", dewar.NoStale(), false, getsLoaded, getsDefcon, getsDefcon, getsDefcon, getsDefcon},
	{"MaxAge", dewar.MaxAge(0), true, getsLoaded, getsRefused, getsRefused, getsDefcon, getsDefcon},
	{"MaxAge", dewar.MaxAge(0), false, getsLoaded, getsRefused, getsRefused, getsDefcon, getsDefcon},
	{"Reload", dewar.Reload(), true, getsLoaded, getsRefused, getsDefcon, getsDefcon, getsDefcon},
	{"Reload", dewar.Reload(), false, getsLoaded, getsRefused, getsDefcon, getsDefcon, getsDefcon},
	{"CacheOnly", dewar.CacheOnly(), true, getsHit, getsHit, getsHit, getsHit, getsHit},
	{"CacheOnly", dewar.CacheOnly(), false, getsStale, getsStale, getsStale, getsStale, getsStale},
}

func TestReadOptionsAtEveryLevel(t *testing.T) {
	for _, tt := range optionCases {
		for _, s := range []dewar.Stale{{IfError: time.Hour}, {WhileRevalidate: time.Hour}} {
			for _, level := range levels[1:] {
				want := tt.loads
				switch level {
				case dewar.Protect:
					if want = tt.protect; s.IfError == 0 {
						want = tt.protectWithout
					}
				case dewar.Lockdown:
					if want = tt.lockdown; s.IfError == 0 {
						want = tt.lockdownWithout
					}
				}
				for how, read := range cellReads() {
					for name, tiers := range tierings() {
						t.Run(fmt.Sprint(how, " ", tt.name, " fresh ", tt.fresh, " ", level, " IfError ", s.IfError, " ", name), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								o := newOrigin(0)
								cfg := localOnly(o)
								cfg.Stale = s
								tiers(&cfg)
								dial := dialled(&cfg)
								c := open(t, cfg)
								mustGet(t, c, "a", "a#1")
								time.Sleep(time.Second)
								if !tt.fresh {
									time.Sleep(cfg.TTL)
								}
								dial.Set(level)
								if level == dewar.Protect {
									mustGet(t, c, "other", "other#1") // the one that the throttle has
								}
								before := len(o.asked())
								r, err := read(t, c, "a", tt.opt)
								if got := gotten(r, err); got != want {
									t.Errorf("%v: %+v, %v; want %v", got, r, err, want)
								}
								if asked := len(o.asked()) - before; asked > 0 != (want == getsLoaded) {
									t.Errorf("%d loads", asked)
								}
								dial.Set(dewar.Normal)
								if want == getsRefused || want == getsDefcon { // nothing is remembered of the refusal
									mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin, dewar.MaxAge(0))
								}
							})
						})
					}
				}
			}
		}
	}
}

func TestInsideTheThrottleOptionsLoadAtProtect(t *testing.T) {
	for name, opt := range map[string]dewar.ReadOption{"NoStale": dewar.NoStale(), "MaxAge": dewar.MaxAge(0), "Reload": dewar.Reload()} {
		t.Run(name, func(t *testing.T) {
			forStaleAt(t, dewar.Protect, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin, _ *dewar.Defcon) {
				mustBe(t, c, "a", "a#2", dewar.StatusLoaded, dewar.TierOrigin, opt)
				mustCount(t, o, "a", 2)
			})
		})
	}
}

func TestCacheOnlyIsNothingToTheDial(t *testing.T) {
	for _, level := range levels {
		t.Run(level.String(), func(t *testing.T) {
			forStaleAt(t, level, dewar.Stale{IfError: time.Hour}, func(t *testing.T, c *cache, o *origin, _ *dewar.Defcon) {
				for range 3 {
					mustFail(t, c, "miss", dewar.ErrNotCached, dewar.CacheOnly())
					mustBeStale(t, c, nil, dewar.CacheOnly())
					time.Sleep(time.Second)
				}
				if n := len(o.asked()); n != 1 {
					t.Errorf("%d loads", n)
				}
			})
		})
	}
}

func TestStaleIsServedForAsLongAsItIsKeptAtEveryLevelBelowNormal(t *testing.T) {
	for _, s := range []dewar.Stale{
		{IfError: 2 * time.Minute, WhileRevalidate: time.Minute},
		{IfError: time.Minute, WhileRevalidate: 2 * time.Minute},
	} {
		for _, level := range levels[1:] {
			t.Run(fmt.Sprint(level, s.IfError), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Stale = s
					dial := dialled(&cfg)
					c := stale(t, o, cfg)
					dial.Set(level)
					o.fail(errOrigin)
					time.Sleep(2*time.Minute - 1)
					r, err := c.GetResult(t.Context(), "a")
					if r.Value != "a#1" || r.Status != dewar.StatusStale || err != nil || (level <= dewar.Protect) != errors.Is(r.Err, dewar.ErrDefcon) {
						t.Errorf("%+v, %v", r, err)
					}
					time.Sleep(time.Nanosecond)
					if v, err := c.Get(t.Context(), "a"); err == nil || v != "" {
						t.Errorf("%q is served after it is dead", v)
					}
				})
			})
		}
	}
}

func TestADoneContextAtEveryLevel(t *testing.T) {
	for _, level := range levels[1:] {
		t.Run(level.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				dial := dialled(&cfg)
				c := stale(t, o, cfg)
				dial.Set(level)
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				past, cancel := context.WithDeadline(t.Context(), time.Now())
				defer cancel()
				if v, err := c.Get(gone, "a"); v != "" || !errors.Is(err, gone.Err()) {
					t.Errorf("cancelled: %q, %v", v, err)
				}
				if v, err := c.Get(past, "a"); v != "a#1" || err != nil {
					t.Errorf("past its deadline: %q, %v", v, err)
				}
				time.Sleep(time.Minute)
				if want := map[bool]int{true: 2, false: 1}[level == dewar.Degraded]; o.count("a") != want {
					t.Errorf("%d loads; want %d", o.count("a"), want)
				}
			})
		})
	}
}
