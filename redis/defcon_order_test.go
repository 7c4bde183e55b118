package redistier

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/dewarcache/dewar"
)

func TestLastTurnByTimePrevailsWheneverRedisIsReached(t *testing.T) {
	type step struct {
		dial int // whose dial is turned
		to   dewar.Level
	}
	for name, c := range map[string]struct {
		turns []step // a minute after each other, while links 0 and 1 are cut
		first int    // whose link is mended first
		last  int    // the turn that prevails
		late  []int  // dials that hear of a turn after theirs when they reach Redis
	}{
		"one that was cut off, after another":          {[]step{{0, 1}, {1, 2}}, 0, 1, nil},
		"one that was cut off, after another, swapped": {[]step{{0, 1}, {1, 2}}, 1, 1, []int{0}},
		"the fleet, after one that was cut off":        {[]step{{0, 1}, {2, 3}}, 0, 1, []int{0}},
		"one that was cut off, after the fleet":        {[]step{{2, 3}, {0, 1}}, 0, 1, nil},
		"one that was cut off, the second time":        {[]step{{0, 1}, {2, 3}, {0, 4}}, 0, 2, nil},
		"the fleet, between two that were cut off":     {[]step{{0, 1}, {2, 3}, {1, 4}}, 1, 2, []int{0}},
		"the fleet, after two that were cut off":       {[]step{{0, 1}, {1, 4}, {2, 3}}, 1, 2, []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				var links []*link
				var dials []*turnable
				for range 4 {
					links = append(links, &link{to: r})
					dials = append(dials, joined(t, links[len(links)-1].client(t)))
				}
				dials[3].by(t, dewar.Elevated, "nobody", "")
				time.Sleep(time.Second)
				allAt(t, dewar.Elevated, "nobody", dials...)
				links[0].cut()
				links[1].cut()
				for i, s := range c.turns {
					dials[s.dial].by(t, s.to, fmt.Sprint("person ", i), "")
					time.Sleep(time.Minute)
				}
				for _, i := range []int{c.first, 1 - c.first} {
					links[i].mend()
					time.Sleep(time.Minute)
				}
				allAt(t, c.turns[c.last].to, fmt.Sprint("person ", c.last), dials...)
				for i, d := range dials {
					want := 0
					if slices.Contains(c.late, i) {
						want = 1
					}
					if n := d.log.count("its level is taken"); n != want {
						t.Errorf("dial %d was told %d times that it came too late, want %d", i, n, want)
					}
				}
			})
		})
	}
}

func TestTurnIsNewerThanWhatWasKnownWhateverRedissClockDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		for i, ahead := range []time.Duration{0, 1000 * time.Hour, 0, -1000 * time.Hour, -2000 * time.Hour, time.Hour} {
			r.SetTime(time.Now().Add(ahead))
			dial, level := []*turnable{one, other}[i%2], dewar.Level(1+i%5)
			who := fmt.Sprint("person ", i)
			dial.by(t, level, who, "")
			time.Sleep(time.Second)
			allAt(t, level, who, one, other)
		}
	})
}

func TestRevisionIsTheTimeOfTheTurnByRedissClock(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		for _, ahead := range []time.Duration{1000 * time.Hour, 2000 * time.Hour} {
			link := &link{to: r}
			one := joined(t, link.client(t))
			stands := time.Now().Add(ahead)
			r.SetTime(stands) // and it goes on showing that
			link.cut()
			one.by(t, dewar.Protect, "anna", "")
			const away = 10 * time.Second
			time.Sleep(away)
			link.mend()
			time.Sleep(back)
			raw, _ := r.Get(one.fleet.key)
			stored, _ := parseRecord(raw)
			if before := stands.Sub(time.UnixMilli(int64(stored.revision))); before < away || before > away+back {
				t.Errorf("%v before Redis's time when it was stored, want %v to %v", before, away, away+back)
			}
		}
	})
}

func TestTurnOfTheSameMillisecondIsOneForAll(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		var dials []*turnable
		for range 5 {
			dials = append(dials, joined(t, r.client(t)))
		}
		time.Sleep(time.Second)
		for i, d := range dials {
			d.by(t, dewar.Level(1+i), fmt.Sprint("person ", i), "")
		}
		time.Sleep(time.Second)
		allAt(t, dials[0].Level(), dials[0].LastTurn().Who, dials...)
		// Of one process the last counts, also within a millisecond.
		dials[0].by(t, dewar.Lockdown, "anna", "")
		dials[0].by(t, dewar.Elevated, "anna", "a mistake")
		time.Sleep(time.Second)
		allAt(t, dewar.Elevated, "anna", dials...)
	})
}

// The first command may have been carried out although nobody heard so.
func TestTurnWhoseReplyIsLostIsTurnedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other, link := joined(t, r.client(t)), joined(t, r.client(t)), &link{to: r}
		third := joined(t, link.client(t))
		var lost atomic.Bool
		r.before(func(c *server.Peer, cmd string, args ...string) bool {
			if cmd != "EVAL" || lost.Swap(true) {
				return false
			}
			r.Set(args[2], args[4]) // as the script does
			c.Close()               // and then the connection breaks
			return true
		})
		one.by(t, dewar.Protect, "anna", "")
		time.Sleep(time.Second)
		if !lost.Load() {
			t.Fatal("no reply was lost")
		}
		allAt(t, dewar.Protect, "anna", one, other, third)
		for i, d := range []*turnable{one, other, third} {
			if n := len(d.heard()); n != 1 {
				t.Errorf("dial %d turned %d times", i, n)
			}
		}
	})
}

// A command that was on its way for a minute does not undo what came after it.
func TestTurnThatIsCarriedOutLateChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		var late atomic.Bool
		r.before(func(_ *server.Peer, cmd string, _ ...string) bool {
			if cmd == "EVAL" && !late.Swap(true) {
				time.Sleep(time.Minute)
			}
			return false
		})
		one.by(t, dewar.Lockdown, "anna", "")
		time.Sleep(time.Second)
		other.by(t, dewar.Elevated, "bert", "")
		time.Sleep(2 * time.Minute)
		if !late.Load() {
			t.Fatal("nothing was late")
		}
		allAt(t, dewar.Elevated, "bert", one, other)
		if n := len(other.heard()); n != 2 {
			t.Errorf("turned %d times: %+v", n, other.heard())
		}
	})
}

func TestDialsTurnedByTwoPeopleAtAHundredHertzConverge(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		dials := []*turnable{joined(t, r.client(t)), joined(t, r.client(t)), joined(t, r.client(t))}
		done := make(chan struct{})
		for p := range 2 {
			go func() { // waited for below
				for i := range 1000 {
					dials[p].by(t, dewar.Level(1+(i+p)%5), fmt.Sprint("person ", p), fmt.Sprint(i))
					time.Sleep(10*time.Millisecond + time.Duration(p)*77*time.Microsecond)
				}
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		time.Sleep(time.Second)
		// Person 1 was slower, so his last turn is the last.
		allAt(t, dewar.Level(1+(999+1)%5), "person 1", dials...)
		for i, d := range dials {
			if last := d.LastTurn(); last.Why != "999" {
				t.Errorf("dial %d: %+v", i, last)
			}
		}
	})
}

// What a round finds is older than a turn that was made while it asked.
func TestTurnDuringARoundIsNotTurnedBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one := joined(t, r.client(t))
		time.Sleep(time.Second)
		var once sync.Once
		r.before(func(_ *server.Peer, cmd string, _ ...string) bool {
			if cmd == "GETRANGE" {
				once.Do(func() {
					bert := newRecord(uint64(time.Now().UnixMilli()), dewar.Turn{To: dewar.Elevated, Who: "bert"})
					r.Set(one.fleet.key, bert.text)
					one.by(t, dewar.Protect, "anna", "")
				})
			}
			return false
		})
		time.Sleep(time.Second)
		allAt(t, dewar.Protect, "anna", one, joined(t, r.client(t)))
		if n := len(one.heard()); n != 1 {
			t.Errorf("turned %d times: %+v", n, one.heard())
		}
	})
}

// The interleaving at holdTo, with Redis away afterwards: what was turned here
// last is what the dial shows meanwhile.
func TestTurnThatCrossesOneOfTheFleetHolds(t *testing.T) {
	for _, away := range []bool{false, true} {
		inBubble(t, func(t *testing.T, r *pipeRedis) {
			one := aDial()
			crossing := make(chan struct{})
			one.Watch(func(turn dewar.Turn) {
				if turn.Who == "anna" {
					<-crossing // whoever turns the dial next need not wait for this
				}
			})
			one.join(t, DefconConfig{Client: r.client(t)}) // hears of turns after that
			other := joined(t, r.client(t))
			time.Sleep(time.Second)

			turned := make(chan struct{})
			go func() { // waited for below
				one.by(t, dewar.Protect, "anna", "")
				close(turned)
			}()
			time.Sleep(time.Millisecond)
			other.by(t, dewar.Elevated, "bert", "")
			time.Sleep(time.Second)
			allAt(t, dewar.Elevated, "bert", one, other) // anna's has not been heard of
			if away {
				r.die()
			}
			close(crossing)
			<-turned
			time.Sleep(time.Second)
			if away {
				allAt(t, dewar.Protect, "anna", one)
				r.rise()
				time.Sleep(back)
			}
			// Both by Redis's clock: bert turned after anna.
			allAt(t, one.Level(), one.LastTurn().Who, one, other)
		})
	}
}
