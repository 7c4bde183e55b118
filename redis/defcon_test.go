package redistier

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/dewarcache/dewar"
)

func TestTurnOfOneDialTurnsTheFleetWithinASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		var dials []*turnable
		for range 5 {
			dials = append(dials, joined(t, r.client(t)))
		}
		for i, d := range dials {
			level := dewar.Level(1 + i)
			d.by(t, level, "anna", fmt.Sprintf("ad break %d", i))
			time.Sleep(time.Second)
			allAt(t, level, "anna", dials...)
			for k, other := range dials {
				via := dewar.ViaFleet
				if k == i {
					via = dewar.ViaCode
				}
				if last := other.LastTurn(); last.Via != via {
					t.Errorf("dial %d was turned via %s, want %s", k, last.Via, via)
				}
				line := fmt.Sprintf(`to=%d name=%s who=anna why="ad break %d" via=%s`, int(level), level, i, via)
				if n := other.log.count(line); n != 1 {
					t.Errorf("dial %d logged %d times %s", k, n, line)
				}
			}
		}
		for i, d := range dials {
			if n := len(d.heard()); n != len(dials) {
				t.Errorf("dial %d turned %d times for %d turns: %+v", i, n, len(dials), d.heard())
			}
		}
	})
}

func TestTurnReachesTheFleetWithinASecondIfARoundTripIsLost(t *testing.T) {
	for _, cmd := range []string{"GETRANGE", "TIME", "EVAL"} {
		t.Run(cmd, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				one, other, third := joined(t, r.client(t)), joined(t, r.client(t)), joined(t, r.client(t))
				lost := atomic.Int32{}
				for i := range 20 { // wherever in their rounds they are
					until := time.Now().Add(minRound - time.Millisecond) // one round of each process at most
					r.before(func(_ *server.Peer, got string, _ ...string) bool {
						if got == cmd && time.Now().Before(until) {
							lost.Add(1)
							time.Sleep(10 * time.Second)
						}
						return false
					})
					level := dewar.Level(1 + i%5)
					one.by(t, level, "anna", "")
					time.Sleep(time.Second)
					allAt(t, level, "anna", one, other, third)
					time.Sleep(time.Duration(i) * 17 * time.Millisecond)
				}
				if n := lost.Load(); n < 20 {
					t.Errorf("only %d were lost", n)
				}
				time.Sleep(time.Minute) // what was late has been carried out
				allAt(t, dewar.Normal, "anna", one, other, third)
			})
		})
	}
}

func TestLateJoinerIsAtTheFleetsLevelBeforeItServes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		joined(t, r.client(t)).by(t, dewar.Protect, "anna", "ad break")
		time.Sleep(time.Second)
		late := joined(t, r.client(t))
		allAt(t, dewar.Protect, "anna", late)
		if last := late.LastTurn(); last.Why != "ad break" || last.Via != dewar.ViaFleet {
			t.Errorf("%+v", last)
		}
		time.Sleep(time.Second)
		if n := len(late.heard()); n != 1 {
			t.Errorf("turned %d times for one level: %+v", n, late.heard())
		}
	})
}

func TestWhoTurnsADialNeverWaitsForRedis(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		r.before(func(*server.Peer, string, ...string) bool { time.Sleep(time.Minute); return false })
		for i := range 1000 {
			began := time.Now()
			one.by(t, dewar.Level(1+i%5), "anna", "")
			if took := time.Since(began); took != 0 || one.Level() != dewar.Level(1+i%5) {
				t.Fatalf("at %v after %v", one.Level(), took)
			}
			time.Sleep(time.Millisecond)
		}
		r.before(nil)
		time.Sleep(time.Second)
		allAt(t, dewar.Normal, "anna", one, other)
	})
}

func TestDialThatIsTurnedOftenDoesNotFloodRedis(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one := joined(t, r.client(t))
		for _, c := range []struct {
			away bool
			most int64 // commands in a second
		}{
			{false, 2 * 51}, // every 20 ms
			{true, 5},       // as if it were idle
		} {
			if c.away {
				r.before(refuses("ERR not now", "GETRANGE", "TIME", "EVAL"))
				time.Sleep(time.Second)
			}
			before := r.asked.Load()
			for i := range 10_000 {
				one.Set(dewar.Level(1 + i%5))
				time.Sleep(100 * time.Microsecond)
			}
			if n := r.asked.Load() - before; n == 0 || n > c.most {
				t.Errorf("away %v: %d commands in a second, at most %d", c.away, n, c.most)
			}
		}
		r.before(nil)
		time.Sleep(time.Second)
	})
}

func TestIdleProcessAsksThreeTimesASecondAtDifferentTimes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		var mu sync.Mutex // mu guards asked
		var asked []time.Time
		r.before(func(_ *server.Peer, cmd string, _ ...string) bool {
			mu.Lock()
			defer mu.Unlock()
			if cmd == "GETRANGE" {
				asked = append(asked, time.Now())
			}
			return false
		})
		joined(t, r.client(t))
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		asked = asked[2:] // at the start, and of the first round
		gaps := make(map[time.Duration]int)
		for i := range asked[1:] {
			gap := asked[i+1].Sub(asked[i])
			if gap < minRound || gap > maxRound {
				t.Errorf("asked again after %v", gap)
			}
			gaps[gap]++
		}
		if n := len(asked); n < 150 || n > 200 || len(gaps) < 100 {
			t.Errorf("asked %d times in a minute, %d different gaps", n, len(gaps))
		}
	})
}

func TestTurnsOfTheRuleStayWithTheirProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		one.by(t, dewar.Elevated, "anna", "")
		time.Sleep(time.Second)
		rule := dewar.Turn{To: dewar.Protect, Who: "rule", Via: dewar.ViaRule}
		if err := one.Turn(rule); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		allAt(t, dewar.Protect, "rule", one) // nor does the fleet undo it
		allAt(t, dewar.Elevated, "anna", other)

		// A level that is set again is set for all.
		other.by(t, dewar.Elevated, "bert", "that was a false alarm")
		time.Sleep(time.Second)
		allAt(t, dewar.Elevated, "bert", one, other)
	})
}

func TestFlagThatAllFollowIsSharedByOneOfThem(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other, third := joined(t, r.client(t)), joined(t, r.client(t)), joined(t, r.client(t))
		flag := func(d *turnable, to dewar.Level) {
			t.Helper()
			if err := d.Turn(dewar.Turn{To: to, Who: "flag", Via: dewar.ViaFlag}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		flag(one, dewar.Degraded)
		allAt(t, dewar.Degraded, "flag", one, other, third)
		kept, _ := r.Get(one.fleet.key)
		flag(other, dewar.Degraded)
		flag(third, dewar.Degraded)
		if now, _ := r.Get(one.fleet.key); now != kept {
			t.Errorf("%s was written over %s", now, kept)
		}
		if n := len(one.heard()); n != 1 {
			t.Errorf("%d turns: %+v", n, one.heard())
		}
		flag(third, dewar.Normal)
		allAt(t, dewar.Normal, "flag", one, other, third)
	})
}

// Whoever watches the dial runs on the goroutine that turns it, here ours.
func TestPanicOfAWatcherDoesNotEndTheSharing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		other.Watch(func(turn dewar.Turn) {
			if turn.Via == dewar.ViaFleet {
				panic("watcher")
			}
		})
		for _, level := range []dewar.Level{dewar.Lockdown, dewar.Elevated} {
			one.Set(level)
			time.Sleep(time.Second)
			if other.Level() != level {
				t.Errorf("at %v, want %v", other.Level(), level)
			}
		}
		if n := other.log.count("panic=watcher"); n == 0 {
			t.Error("nobody was told")
		}
	})
}

func TestHostileWhoAndWhyStayBoundedAndOnOneLine(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		for name, c := range map[string]struct{ who, why, wantWho, wantWhy string }{
			"plain":     {"anna", `a "quoted" <b>&\`, "anna", `a "quoted" <b>&\`},
			"not ASCII": {"Ännä 🙂", "日本語", "Ännä 🙂", "日本語"},
			"lines":     {"a\nb\r\x00c", "level=1\nwho=root\u2028\u202e", "a b  c", "level=1 who=root  "},
			"not UTF-8": {"a\xffb", "\xc3", "ab", ""},
			"a megabyte of what JSON escapes": {
				strings.Repeat(`"`, 1<<20), strings.Repeat("<", 1<<20),
				strings.Repeat(`"`, maxWho-3) + "…", strings.Repeat("<", maxWhy-3) + "…",
			},
			"cut inside a rune": {strings.Repeat("é", maxWho), "x", strings.Repeat("é", 98) + "…", "x"},
			"just short enough": {strings.Repeat("w", maxWho), strings.Repeat("y", maxWhy), strings.Repeat("w", maxWho), strings.Repeat("y", maxWhy)},
		} {
			one.by(t, dewar.Degraded, c.who, c.why)
			time.Sleep(time.Second)
			if last := other.LastTurn(); last.Who != c.wantWho || last.Why != c.wantWhy {
				t.Errorf("%s: %.300q %.1200q", name, last.Who, last.Why)
			}
			if raw, _ := r.Get(one.fleet.key); len(raw) > maxRecord {
				t.Errorf("%s: %d bytes in Redis", name, len(raw))
			}
		}
	})
}
