package redistier

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// back is how long it takes to reach a Redis that is back: a client of go-redis
// that could not dial tries again once a second.
const back = 2 * time.Second

func TestDialsOutliveRedis(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		one.by(t, dewar.Elevated, "anna", "")
		time.Sleep(time.Second)

		r.die()
		time.Sleep(time.Minute)
		allAt(t, dewar.Elevated, "anna", one, other)

		one.by(t, dewar.Protect, "bert", "the origin is slow")
		late := joined(t, r.client(t))
		time.Sleep(time.Minute)
		allAt(t, dewar.Protect, "bert", one) // at once
		allAt(t, dewar.Elevated, "anna", other)
		allAt(t, dewar.Normal, "", late) // it cannot know better

		r.rise()
		time.Sleep(back)
		allAt(t, dewar.Protect, "bert", one, other, late)

		for i, d := range []*turnable{one, other, late} {
			if begins, ends := d.log.count("level cannot be shared"), d.log.count("level is shared again"); begins != 1 || ends != 1 {
				t.Errorf("dial %d: told %d times that Redis is away, %d times that it is back", i, begins, ends)
			}
		}
	})
}

// One round trip that is lost now and then is no outage.
func TestLogIsNotToldOfEveryRoundTripThatIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one := joined(t, r.client(t))
		var rounds atomic.Int32
		refuse := refuses("ERR not now", "GETRANGE")
		r.before(func(c *server.Peer, cmd string, args ...string) bool {
			return rounds.Add(1)%3 != 0 && refuse(c, cmd, args...)
		})
		time.Sleep(time.Minute)
		r.before(nil)
		time.Sleep(time.Second)
		if lines := one.log.lines(); len(lines) > 0 {
			t.Errorf("%q", lines)
		}
	})
}

func TestRedisThatLostTheLevelGetsItBack(t *testing.T) {
	older := newRecord(7, dewar.Turn{To: dewar.Lockdown, Who: "before"}).text
	for name, lose := range map[string]func(r *pipeRedis, key string){
		"flushed":                        func(r *pipeRedis, _ string) { r.FlushAll() },
		"deleted":                        func(r *pipeRedis, key string) { r.Del(key) },
		"emptied":                        func(r *pipeRedis, key string) { r.Set(key, "") },
		"back at what it was earlier":    func(r *pipeRedis, key string) { r.Set(key, older) },
		"away, and back at what it was":  func(r *pipeRedis, key string) { r.die(); r.Set(key, older); time.Sleep(time.Minute); r.rise() },
		"away, and started again, empty": func(r *pipeRedis, key string) { r.die(); r.FlushAll(); time.Sleep(time.Minute); r.rise() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				one, other := joined(t, r.client(t)), joined(t, r.client(t))
				one.by(t, dewar.Protect, "anna", "ad break")
				time.Sleep(time.Second)
				key := one.fleet.key
				kept, _ := r.Get(key)

				lose(r, key)
				time.Sleep(back)
				if now, _ := r.Get(key); now != kept {
					t.Errorf("Redis has %q, want %q", now, kept)
				}
				allAt(t, dewar.Protect, "anna", one, other, joined(t, r.client(t)))
				for i, d := range []*turnable{one, other} {
					if n := len(d.heard()); n != 1 {
						t.Errorf("dial %d turned %d times: %+v", i, n, d.heard())
					}
				}
				if n := one.log.count("has it back") + other.log.count("has it back"); n != 1 {
					t.Errorf("told %d times", n)
				}
			})
		})
	}
}

// The fleet goes to what the one knows that knows most, whoever is first.
func TestProcessesThatKnowDifferentLevelsOfARedisThatLostAllConverge(t *testing.T) {
	for _, first := range []int{0, 1} {
		inBubble(t, func(t *testing.T, r *pipeRedis) {
			links := []*link{{to: r}, {to: r}}
			dials := []*turnable{joined(t, links[0].client(t)), joined(t, links[1].client(t))}
			dials[0].by(t, dewar.Degraded, "anna", "")
			time.Sleep(time.Second)
			links[0].cut()
			dials[1].by(t, dewar.Protect, "bert", "")
			time.Sleep(time.Second)
			links[1].cut()
			r.FlushAll()
			for _, i := range []int{first, 1 - first} {
				links[i].mend()
				time.Sleep(time.Minute)
			}
			allAt(t, dewar.Protect, "bert", append(dials, joined(t, r.client(t)))...)
		})
	}
}

// What was turned after the loss is not undone by who remembers what was lost.
func TestTurnOfOneWhoKnowsNothingPrevailsOverWhatRedisLost(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		far := &link{to: r}
		old := joined(t, far.client(t))
		for i := range 5 {
			old.by(t, dewar.Level(1+i), "anna", "")
			time.Sleep(time.Second)
		}
		far.cut()
		r.FlushAll()
		late := joined(t, r.client(t))
		late.by(t, dewar.Protect, "bert", "")
		time.Sleep(time.Second)
		far.mend()
		time.Sleep(back)
		allAt(t, dewar.Protect, "bert", old, late)
	})
}

func TestRedisThatRefusesCommands(t *testing.T) {
	const denied = "NOPERM User default has no permissions to run this command"
	const full = "OOM command not allowed when used memory > 'maxmemory'."
	for name, c := range map[string]struct {
		text   string
		cmds   []string
		shared bool // turns of the one still reach the other
		heeds  bool // the one still hears of others' turns
	}{
		"may not ask for the time": {denied, []string{"TIME"}, true, true},
		"may not write":            {denied, []string{"EVAL"}, false, true},
		"may not read":             {denied, []string{"GETRANGE"}, true, false},
		"Redis is full":            {full, []string{"EVAL"}, false, true},
		"Redis is loading":         {"LOADING Redis is loading the dataset in memory", []string{"GETRANGE", "EVAL", "TIME"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				// Only the one is refused: it comes under another name.
				o := piped(r.dial)
				o.ClientName = "refused"
				rdb := redis.NewClient(o)
				t.Cleanup(func() { rdb.Close() })
				one, other := joined(t, rdb), joined(t, r.client(t))
				time.Sleep(time.Second)
				refuse := refuses(c.text, c.cmds...)
				r.before(func(p *server.Peer, cmd string, args ...string) bool {
					return p.ClientName == "refused" && refuse(p, cmd, args...)
				})
				one.by(t, dewar.Protect, "anna", "")
				time.Sleep(10 * time.Second)
				if shared := other.Level() == dewar.Protect; shared != c.shared {
					t.Errorf("shared: %v", shared)
				}
				allAt(t, dewar.Protect, "anna", one)
				other.by(t, dewar.Elevated, "bert", "")
				time.Sleep(10 * time.Second)
				if heeds := one.Level() == dewar.Elevated; heeds != c.heeds {
					t.Errorf("heeds others: %v", heeds)
				}
				if n := one.log.count("level cannot be shared"); n > 1 {
					t.Errorf("told %d times", n)
				}
				r.before(nil)
				time.Sleep(time.Second)
				allAt(t, dewar.Elevated, "bert", one, other)
			})
		})
	}
}

func TestCloseTellsOfATurnThatTheFleetHasNotHeardOf(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, r *pipeRedis, turn func())
		want   string // in the error; "": none
		level  dewar.Level
	}{
		"nothing was turned":          {func(_ *testing.T, r *pipeRedis, _ func()) { r.die() }, "", 5},
		"it has heard":                {func(_ *testing.T, r *pipeRedis, turn func()) { turn(); time.Sleep(time.Second); r.die() }, "", 2},
		"it hears at the last moment": {func(_ *testing.T, _ *pipeRedis, turn func()) { turn() }, "", 2},
		"it hears of what could not be told before": {func(_ *testing.T, r *pipeRedis, turn func()) {
			r.die()
			turn()
			time.Sleep(50 * time.Millisecond)
			r.rise()
		}, "", 2},
		"Redis is away": {func(_ *testing.T, r *pipeRedis, turn func()) {
			r.die()
			turn()
			time.Sleep(time.Minute)
		}, "turned to protect", 5},
		"Redis hangs": {func(_ *testing.T, r *pipeRedis, turn func()) {
			r.before(stalls(time.Minute, "GETRANGE", "TIME", "EVAL"))
			turn()
			time.Sleep(time.Second)
		}, "turned to protect", 5},
		"Redis is full": {func(_ *testing.T, r *pipeRedis, turn func()) {
			r.before(refuses("OOM command not allowed", "EVAL"))
			turn()
			time.Sleep(time.Second)
		}, "OOM", 5},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				one := joined(t, r.client(t))
				time.Sleep(time.Second)
				c.before(t, r, func() { one.by(t, dewar.Protect, "anna", "") })
				began := time.Now()
				err := one.fleet.Close()
				if took := time.Since(began); took > 2*defaultTimeout {
					t.Errorf("closed after %v", took)
				}
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if again := one.fleet.Close(); again != err {
					t.Errorf("then %v", again)
				}
				r.rise()
				r.before(nil)
				asked := r.asked.Load()
				one.by(t, dewar.Degraded, "carl", "on its own")
				time.Sleep(time.Hour)
				if n := r.asked.Load() - asked; n > 0 {
					t.Errorf("%d commands after Close", n)
				}
				allAt(t, dewar.Degraded, "carl", one)
				if own := one.fleet.own; own != nil && own.Who == "carl" {
					t.Error("it is still told of turns")
				}
				r.FlushAll() // of what hung and was carried out since
				if c.level != 5 {
					return
				}
				if late := joined(t, r.client(t)); late.Level() != c.level {
					t.Errorf("the fleet is at %v, want %v", late.Level(), c.level)
				}
			})
		})
	}
}
