package dewar_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// What may end a call between its failure and its repetition.

func TestALoadManyThatAnsweredAKeyIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		cfg := repeating(newOrigin(0))
		cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) {
			calls++
			return map[string]string{"a": "v"}, errOrigin
		}
		vs, err := open(t, cfg).GetMany(t.Context(), []string{"a", "b"})
		if len(vs) != 1 || !errors.Is(err, errOrigin) || calls != 1 {
			t.Error(vs, err, calls)
		}
	})
}

func TestWaitersGetTheErrorOfTheRepetition(t *testing.T) {
	second := errors.New("the second")
	for name, end := range map[string]struct {
		how  func() error
		want func(error) bool
	}{
		"error": {func() error { return second }, func(err error) bool { return errors.Is(err, second) }},
		"panic": {func() error { panic(second) }, func(err error) bool {
			_, ok := errors.AsType[*dewar.PanicError](err)
			return ok && errors.Is(err, second)
		}},
		"exit": {func() error { runtime.Goexit(); return nil }, func(err error) bool { return errors.Is(err, dewar.ErrLoaderExited) }},
	} {
		for kind, many := range map[string]bool{"Load": false, "LoadMany": true} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls := 0
					cfg := repeating(newOrigin(0))
					load := func() error {
						if calls++; calls == 1 {
							return errOrigin
						}
						return end.how()
					}
					cfg.Load = func(context.Context, string) (string, error) { return "", load() }
					if many {
						cfg.Load, cfg.LoadMany = nil, func(context.Context, []string) (map[string]string, error) { return nil, load() }
					}
					_, err := open(t, cfg).Get(t.Context(), "a")
					if !end.want(err) || errors.Is(err, errOrigin) || calls != 2 {
						t.Errorf("%d calls, %v", calls, err)
					}
				})
			})
		}
	}
}

func TestNothingIsRepeatedPastTheTimeout(t *testing.T) {
	for name, pause := range map[string]time.Duration{"in the pause": 100_000 * time.Hour, "in the call": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(9 * time.Second)
				cfg := repeating(o)
				cfg.Guard.Retry.Pause = pause
				o.fail(errOrigin)
				if name == "in the call" {
					o.slow(time.Hour)
				}
				c := open(t, cfg)
				begun := time.Now()
				mustFail(t, c, "a", dewar.ErrTimeout)
				if took := time.Since(begun); took != 10*time.Second {
					t.Error("took", took)
				}
				synctest.Wait()
				mustCount(t, o, "a", 1)
				if s := c.Stats(); s.Origin.Calls != 0 || s.OverdueLoads != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestCloseEndsThePauseBeforeARepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Retry.Pause = 100_000 * time.Hour // of which it may be any part
		cfg.Flight.Timeout = 10 * time.Hour
		c := open(t, cfg)
		o.fail(errOrigin)
		got := begin(func() (string, error) { return c.Get(t.Context(), "a") })
		synctest.Wait()
		begun := time.Now()
		if err := c.Close(); err != nil || time.Since(begun) != 0 {
			t.Error(err, time.Since(begun))
		}
		if answer := <-got; !errors.Is(answer.err, dewar.ErrClosed) {
			t.Error(answer.err)
		}
		mustCount(t, o, "a", 1)
	})
}

func TestNothingIsRepeatedWhileTheBreakerIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Breaker = tripping()
		c := open(t, cfg)
		trip(t, c, o)
		mustCount(t, o, "trips the breaker", 1)
	})
}

// A repetition that is let through is told to the breaker like any other call.
func TestARepetitionCountsForTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		user := new(switchBreaker)
		cfg.Guard.Breaker = dewar.Breaker{Use: user}
		c := open(t, cfg)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		if len(user.told) != 2 || user.asked != 2 || user.told[0] != errOrigin || user.told[1] != errOrigin {
			t.Errorf("asked %d times, told %v", user.asked, user.told)
		}
	})
}

func TestARepetitionTakesATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.LoadsPerSecond = 1
		c := open(t, cfg)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 1) // there was one turn
	})
}

func TestADialTurnedToLockdownEndsRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		o := newOrigin(0)
		cfg := repeating(o)
		cfg.Guard.Retry.Pause = time.Second
		user := new(switchBreaker)
		cfg.Guard.Breaker = dewar.Breaker{Use: user}
		cfg.Defcon = new(dewar.Defcon)
		cfg.Trace = &dewar.Trace{LoadDone: func(dewar.LoadInfo) {
			told.Add(1)
			cfg.Defcon.Set(dewar.Lockdown)
		}}
		c := open(t, cfg)
		o.fail(errOrigin)
		mustFail(t, c, "a", errOrigin)
		mustCount(t, o, "a", 1)
		if len(user.told) != user.asked {
			t.Errorf("asked %d times, told %v", user.asked, user.told)
		}
	})
}
