package dewar_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

func TestTheZeroDialIsAtNormal(t *testing.T) {
	var dial dewar.Defcon
	if l, last := dial.Level(), dial.LastTurn(); l != dewar.Normal || last.To != 0 {
		t.Error(l, last)
	}
	for _, l := range levels {
		dial.Set(l)
		if got, last := dial.Level(), dial.LastTurn(); got != l || last.To != l || last.Via != dewar.ViaCode {
			t.Errorf("%v, %+v; want %v", got, last, l)
		}
	}
}

func TestLevelsHaveNamesAndNumbers(t *testing.T) {
	for i, name := range []string{"lockdown", "protect", "degraded", "elevated", "normal"} {
		l := dewar.Level(i + 1)
		if l.String() != name {
			t.Errorf("%d is %v; want %s", i+1, l, name)
		}
		for _, s := range []string{name, strings.ToUpper(name), " " + name + "\n", fmt.Sprint(i + 1)} {
			if got, err := dewar.ParseLevel(s); got != l || err != nil {
				t.Errorf("ParseLevel(%q) = %v, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "0", "6", "-1", "05", "1.0", "norm", "level 7", "null", "normal lockdown"} {
		if got, err := dewar.ParseLevel(s); got != 0 || err == nil {
			t.Errorf("ParseLevel(%q) = %v, %v", s, got, err)
		}
	}
	if s := dewar.Level(7).String(); s != "level 7" {
		t.Error(s)
	}
}

func TestALevelThatIsNoneTurnsNothing(t *testing.T) {
	var log logBuffer
	dial := &dewar.Defcon{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	dial.Set(dewar.Degraded)
	told := 0
	dial.Watch(func(dewar.Turn) { told++ })
	before := dial.LastTurn()
	for _, l := range []dewar.Level{0, 6, -1, 1 << 40} {
		dial.Set(l)
		if err := dial.Turn(dewar.Turn{To: l}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(int(l))) {
			t.Error(err)
		}
	}
	if dial.Level() != dewar.Degraded || dial.LastTurn() != before || told != 0 {
		t.Error(dial.Level(), dial.LastTurn(), told)
	}
	if n := strings.Count(log.String(), "not turned"); n != 4 {
		t.Errorf("%d lines for 4 Sets:\n%s", n, log.String())
	}
}

func TestATurnTakesEffectOnTheVeryNextRead(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := localOnly(o)
				cfg.Stale.IfError = time.Hour
				tiers(&cfg)
				dial := dialled(&cfg)
				c := stale(t, o, cfg)
				for i, l := range []dewar.Level{1, 5, 2, 5, 1, 2, 1, 4, 1, 3, 5, 1} {
					time.Sleep(2 * time.Minute) // stale again, and the throttle full
					dial.Set(l)
					r, err := c.GetResult(t.Context(), "a")
					refused := l <= dewar.Protect
					if loaded := l == dewar.Normal; err != nil || loaded != (r.Status == dewar.StatusLoaded) || refused != errors.Is(r.Err, dewar.ErrDefcon) {
						t.Errorf("turn %d, to %v: %+v, %v", i, l, r, err)
					}
					_, err = c.Get(t.Context(), fmt.Sprint("miss", i))
					if locked := l == dewar.Lockdown; locked != errors.Is(err, dewar.ErrDefcon) || !locked && err != nil {
						t.Errorf("turn %d, to %v: %v", i, l, err)
					}
				}
			})
		})
	}
}

func TestWatchersAreToldInOrder(t *testing.T) {
	dial := new(dewar.Defcon)
	dial.Set(dewar.Elevated) // before anybody watches
	var told []string
	note := func(who string) func(dewar.Turn) {
		return func(turn dewar.Turn) { told = append(told, fmt.Sprintf("%s%d%d", who, turn.From, turn.To)) }
	}
	dial.Watch(note("a"))
	stop := dial.Watch(note("b"))
	dial.Set(dewar.Protect)
	dial.Set(dewar.Protect) // told too
	stop()
	stop()
	dial.Set(dewar.Normal)
	if want := []string{"a42", "b42", "a22", "b22", "a25"}; !slices.Equal(told, want) {
		t.Errorf("%v; want %v", told, want)
	}
}

func TestAWatcherMayStopItself(t *testing.T) {
	dial := new(dewar.Defcon)
	first, others := 0, 0
	var stop func()
	dial.Watch(func(dewar.Turn) { others++ })
	stop = dial.Watch(func(dewar.Turn) {
		first++
		stop()
	})
	dial.Watch(func(dewar.Turn) { others++ })
	for range 3 {
		dial.Set(dewar.Lockdown)
	}
	if first != 1 || others != 6 {
		t.Errorf("the one that stopped was told %d times, the others %d times", first, others)
	}
}

func TestAWatcherMayTurnTheDial(t *testing.T) {
	dial := new(dewar.Defcon)
	var told []dewar.Level
	dial.Watch(func(turn dewar.Turn) {
		told = append(told, turn.To)
		if turn.To < dewar.Normal {
			dial.Set(turn.To + 1)
			if dial.Level() != turn.To+1 || dial.LastTurn().From != turn.To {
				t.Error("not turned at once")
			}
			dial.Watch(func(dewar.Turn) {})()
		}
	})
	dial.Set(dewar.Protect)
	if want := []dewar.Level{2, 3, 4, 5}; !slices.Equal(told, want) {
		t.Errorf("%v; want %v", told, want)
	}
}

func TestTurnsFromManyGoroutinesAreToldOneAtATimeInTheirOrder(t *testing.T) {
	dial := new(dewar.Defcon)
	var told []dewar.Turn // only whoever tells writes it
	dial.Watch(func(turn dewar.Turn) { told = append(told, turn) })
	const turners, each = 8, 500
	var wg sync.WaitGroup
	for i := range turners {
		wg.Go(func() {
			for n := range each {
				if err := dial.Turn(dewar.Turn{To: dewar.Level(1 + (i+n)%5), Who: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(told) != turners*each || told[len(told)-1] != dial.LastTurn() {
		t.Fatalf("%d turns were told; want %d", len(told), turners*each)
	}
	for i := range told[1:] {
		if told[i+1].From != told[i].To {
			t.Fatalf("turn %d goes from %v after one to %v", i+1, told[i+1].From, told[i].To)
		}
	}
}

// A handler's panic is often recovered, by net/http for one: the turns after it
// must be told all the same.
func TestAWatcherThatPanicsDoesNotSilenceTheDial(t *testing.T) {
	dial := new(dewar.Defcon)
	told := 0
	dial.Watch(func(dewar.Turn) {
		if told++; told == 1 {
			panic("watcher")
		}
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		dial.Set(dewar.Lockdown)
	}()
	dial.Set(dewar.Normal)
	if told != 2 {
		t.Errorf("told %d times; want 2", told)
	}
}

// logLines are the lines that a slog.JSONHandler wrote for a message.
func logLines(t *testing.T, log *logBuffer, message string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m["msg"].(string), message) {
			lines = append(lines, m)
		}
	}
	return lines
}

func TestEveryTurnIsLoggedOnceAndTracedInEachCache(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprint("a logger of its own: ", own), func(t *testing.T) {
			var caches, ownLog logBuffer
			dial := new(dewar.Defcon)
			if own {
				dial.Logger = slog.New(slog.NewJSONHandler(&ownLog, nil))
			}
			traced := make([][]dewar.Turn, 3)
			var opened []*cache
			for i := range traced {
				cfg := localOnly(newOrigin(0))
				cfg.Name, cfg.Defcon = fmt.Sprint("cache", i), dial
				cfg.Logger = slog.New(slog.NewJSONHandler(&caches, nil))
				cfg.Trace = &dewar.Trace{DefconTurned: func(turn dewar.Turn) { traced[i] = append(traced[i], turn) }}
				if i == 2 {
					cfg.Trace = nil
				}
				opened = append(opened, open(t, cfg))
			}
			turn := dewar.Turn{To: dewar.Protect, Who: "anna", Why: "the event\nruns over", Via: "pager"}
			if err := dial.Turn(turn); err != nil {
				t.Fatal(err)
			}
			dial.Set(dewar.Elevated)
			if err := opened[0].Close(); err != nil {
				t.Fatal(err)
			}
			dial.Set(dewar.Normal)

			log := &caches
			if own {
				log = &ownLog
			}
			lines := logLines(t, log, "DEFCON turned")
			for i, want := range []map[string]any{
				{"level": "WARN", "name": "protect", "from": 5.0, "to": 2.0, "who": "anna", "why": "the event\nruns over", "via": "pager"},
				{"level": "INFO", "name": "elevated", "from": 2.0, "to": 4.0, "who": "", "why": "", "via": "code"},
				{"level": "INFO", "name": "normal", "from": 4.0, "to": 5.0},
			} {
				if len(lines) != 3 {
					t.Fatalf("%d lines for 3 turns:\n%s", len(lines), log)
				}
				for k, v := range want {
					if lines[i][k] != v {
						t.Errorf("line %d: %s is %v; want %v", i, k, lines[i][k], v)
					}
				}
				if !own && (lines[i]["cache"] == "cache0") != (i < 2) { // that of the longest
					t.Errorf("line %d is logged by %v", i, lines[i]["cache"])
				}
			}
			if a, b := len(traced[0]), len(traced[1]); a != 2 || b != 3 {
				t.Errorf("traced %d and %d times; want 2, closed before the third, and 3", a, b)
			}
			got := traced[1][0]
			if got.At.IsZero() || got.From != dewar.Normal {
				t.Errorf("%+v", got)
			}
			if got.At, got.From = (time.Time{}), 0; got != turn {
				t.Errorf("%+v; want %+v", got, turn)
			}
		})
	}
}
