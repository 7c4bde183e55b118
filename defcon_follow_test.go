package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// flagged follows a flag every second until the test ends, and returns the
// dial, what was told of it, and its log.
func flagged(t *testing.T, flag func(context.Context) (dewar.Level, error)) (*dewar.Defcon, *turns, *logBuffer) {
	log := new(logBuffer)
	dial := &dewar.Defcon{Logger: slog.New(slog.NewJSONHandler(log, nil))}
	told := new(turns)
	dial.Watch(told.add)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dial.Follow(ctx, time.Second, flag) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error("Follow:", err)
		}
	})
	synctest.Wait()
	return dial, told, log
}

// turns is what a watcher was told.
type turns struct {
	mu  sync.Mutex // mu guards all
	all []dewar.Turn
}

func (ts *turns) add(turn dewar.Turn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.all = append(ts.all, turn)
}

func (ts *turns) told() []dewar.Turn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Clone(ts.all)
}

// levels are those that were turned to.
func (ts *turns) levels() (to []dewar.Level) {
	for _, turn := range ts.told() {
		to = append(to, turn.To)
	}
	return to
}

// script is a flag that says one thing after the other, and then its last for
// ever.
type script struct {
	mu    sync.Mutex // mu guards these
	says  []any      // a Level, an error, or "panic"
	asked []time.Time
}

func (s *script) flag(context.Context) (dewar.Level, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, time.Now())
	switch says := s.says[min(len(s.asked), len(s.says))-1].(type) {
	case dewar.Level:
		return says, nil
	case error:
		return dewar.Lockdown, says
	default:
		panic(says)
	}
}

// times are when the flag was asked.
func (s *script) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func TestFollowTurnsTheDialToWhatTheFlagSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{says: []any{dewar.Protect, dewar.Protect, dewar.Elevated, dewar.Normal}}
		begun := time.Now()
		_, told, _ := flagged(t, s.flag)
		if got := told.told(); len(got) != 1 || got[0].To != dewar.Protect || got[0].Via != dewar.ViaFlag || got[0].Who == "" {
			t.Fatalf("%+v; want one turn, at once", got)
		}
		time.Sleep(10*time.Second + 500*time.Millisecond)
		if got, want := told.levels(), []dewar.Level{dewar.Protect, dewar.Elevated, dewar.Normal}; !slices.Equal(got, want) {
			t.Errorf("%v; want %v: only what changes turns the dial", got, want)
		}
		if len(s.times()) != 11 {
			t.Errorf("asked %d times in 10 s", len(s.times()))
		}
		for i, at := range s.times() {
			if after := at.Sub(begun); after != time.Duration(i)*time.Second {
				t.Errorf("asked after %v", after)
			}
		}
	})
}

func TestOthersMayTurnTheDialWhileTheFlagSaysTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{says: []any{dewar.Elevated, dewar.Elevated, dewar.Elevated, dewar.Elevated, dewar.Elevated, dewar.Normal}}
		dial, _, _ := flagged(t, s.flag)
		dial.Set(dewar.Lockdown)
		time.Sleep(4*time.Second + 500*time.Millisecond)
		if l := dial.Level(); l != dewar.Lockdown {
			t.Error("the flag, which has not changed, turned the dial to", l)
		}
		time.Sleep(time.Second)
		if l := dial.Level(); l != dewar.Normal {
			t.Error("the flag has changed, but the dial is at", l)
		}
	})
}

func TestAFlagThatFailsChangesNothingAndIsLoggedWhenItBeginsAndEnds(t *testing.T) {
	for name, failure := range map[string]any{
		"error": errors.New("flags are down"), "panic": "flag", "no level": dewar.Level(7), "level 0": dewar.Level(0),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{says: []any{
					dewar.Degraded, failure, failure, failure, dewar.Degraded, failure, failure, dewar.Protect,
				}}
				dial, told, log := flagged(t, s.flag)
				for range 7 {
					time.Sleep(time.Second)
					if l := dial.Level(); l != dewar.Degraded && len(s.times()) < 8 {
						t.Fatal("turned to", l)
					}
				}
				synctest.Wait()
				if got := told.levels(); !slices.Equal(got, []dewar.Level{dewar.Degraded, dewar.Protect}) {
					t.Error(got)
				}
				begins, ends := logLines(t, log, "cannot be read"), logLines(t, log, "can be read again")
				if len(begins) != 2 || len(ends) != 2 {
					t.Fatalf("logged\n%s", log)
				}
				if begins[0]["error"] == "" || begins[0]["level"] != "WARN" || ends[0]["level"] != "INFO" || begins[0]["defcon"] != 3.0 {
					t.Error(begins[0], ends[0])
				}
			})
		})
	}
}

func TestAFlagThatFailsAtFirstLeavesTheDialAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{says: []any{errOrigin, errOrigin, dewar.Elevated}}
		dial, told, _ := flagged(t, s.flag)
		dial.Set(dewar.Protect)
		time.Sleep(1500 * time.Millisecond)
		if l := dial.Level(); l != dewar.Protect {
			t.Error(l)
		}
		time.Sleep(time.Second)
		if got := told.levels(); !slices.Equal(got, []dewar.Level{dewar.Protect, dewar.Elevated}) {
			t.Error(got)
		}
	})
}

func TestAFlagIsAskedOnceAtATimeAndNoLongerThanTheInterval(t *testing.T) {
	for _, listens := range []bool{true, false} {
		t.Run(fmt.Sprint("listens to its context: ", listens), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // mu guards these
				running, asked := 0, 0
				dial, _, log := flagged(t, func(ctx context.Context) (dewar.Level, error) {
					mu.Lock()
					running++
					asked++
					if running > 1 {
						t.Error("asked twice at once")
					}
					first := asked == 1
					mu.Unlock()
					defer func() {
						mu.Lock()
						defer mu.Unlock()
						running--
					}()
					if first {
						return dewar.Degraded, nil
					}
					if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != time.Second {
						t.Error("its time ends in", time.Until(deadline))
					}
					if listens {
						<-ctx.Done()
						return dewar.Lockdown, ctx.Err()
					}
					time.Sleep(2500 * time.Millisecond)
					return dewar.Elevated, nil
				})
				time.Sleep(900 * time.Millisecond)
				dial.Set(dewar.Protect)
				time.Sleep(2 * time.Second)
				if l := dial.Level(); l != dewar.Protect {
					t.Error(l)
				}
				time.Sleep(time.Second)
				if listens {
					if n := len(logLines(t, log, "cannot be read")); n != 1 || dial.Level() != dewar.Protect {
						t.Error(n, dial.Level())
					}
				} else if l := dial.Level(); l != dewar.Elevated {
					t.Error(l)
				}
			})
		})
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		dial := &dewar.Defcon{Logger: slog.New(slog.NewJSONHandler(&log, nil))}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		err := dial.Follow(ctx, time.Second, func(ctx context.Context) (dewar.Level, error) {
			if time.Since(begun) < 2*time.Second {
				return dewar.Elevated, nil
			}
			<-ctx.Done()
			return dewar.Lockdown, nil // too late
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 2500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if l := dial.Level(); l != dewar.Elevated {
			t.Error("turned after the end to", l)
		}
		if n := len(logLines(t, &log, "cannot be read")); n != 0 {
			t.Errorf("the end is logged as a failure:\n%s", &log)
		}
	})
}

func TestFollowWithoutAFlagOrAnInterval(t *testing.T) {
	dial := new(dewar.Defcon)
	s := &script{says: []any{dewar.Protect}}
	for _, err := range []error{
		dial.Follow(t.Context(), time.Second, nil), dial.Follow(t.Context(), 0, s.flag), dial.Follow(t.Context(), -1, s.flag),
	} {
		if err == nil {
			t.Error("no error")
		}
	}
	if dial.Level() != dewar.Normal || len(s.times()) != 0 {
		t.Error(dial.Level(), len(s.times()))
	}
}
