package redistier

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// defconValues are what may be under the key, and the revision of what is a
// record; 0: it is none.
var defconValues = []struct {
	value    string
	revision uint64
}{
	{`dewar-defcon/1 17 9f86d081884c7d65 3 {"who":"anna","why":"ad break","at":"2026-03-01T20:15:00Z"}`, 17},
	{`dewar-defcon/1 17 9f86d081884c7d65 3 {"who":"anna"}`, 17},
	{`dewar-defcon/1 17 9F86D081884C7D65 1 `, 17},
	{"dewar-defcon/1 17 9f86d081884c7d65 5 \x00\xff{", 17},
	{`dewar-defcon/1 0017 9f86d081884c7d65 3 {"who":7}`, 17},
	{`dewar-defcon/1 4503599627370495 9f86d081884c7d65 3 {}`, maxRevision - 1},
	{`dewar-defcon/1 1 9f86d081884c7d65 3 {"why":"` + strings.Repeat("y", 100_000) + `"}`, 1},

	{"", 0},
	{" ", 0},
	{"3", 0},
	{"\x00\xff\xfe", 0},
	{strings.Repeat("x", 1<<20), 0},
	{`{"level":3}`, 0},
	{`dewar-defcon/1`, 0},
	{`dewar-defcon/1 `, 0},
	{`dewar-defcon/1 17 9f86d081884c7d65 3`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d65 0 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d65 6 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d65 33 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d65 -3 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d6 3 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d655 3 {}`, 0},
	{`dewar-defcon/1 17 9f86d081884c7d6g 3 {}`, 0},
	{`dewar-defcon/1 0 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 -17 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 +17 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 17.5 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 1e3 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 0x17 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 4503599627370496 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1 ` + strings.Repeat("9", 400) + ` 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1  17 9f86d081884c7d65 3 {}`, 0},
	{` dewar-defcon/1 17 9f86d081884c7d65 3 {}`, 0},
	{`Dewar-defcon/1 17 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/2 17 9f86d081884c7d65 3 {}`, 0},
	{`dewar-defcon/1x 17 9f86d081884c7d65 3 {}`, 0},
	{"dewar-defcon/1\t17\t9f86d081884c7d65\t3\t{}", 0},
}

func TestRecordsAreReadAndAllElseIsNot(t *testing.T) {
	for _, c := range defconValues {
		r, ok := parseRecord(c.value)
		if ok != (c.revision > 0) || r.revision != c.revision {
			t.Errorf("%.80q: %+v, %v", c.value, r, ok)
		}
	}
	r, _ := parseRecord(defconValues[0].value)
	if r.level != dewar.Degraded || r.who != "anna" || r.why != "ad break" || r.id != "9f86d081884c7d65" {
		t.Errorf("%+v", r)
	}
}

// The script must keep what readers would go over to, and may only replace
// what they would not.
func TestScriptTakesForARecordWhatReadersDo(t *testing.T) {
	for name, client := range map[string]*redis.Client{
		"redis":     newClient(t, realRedis(t)),
		"miniredis": newClient(t, startMini(t).Addr()),
	} {
		key := defconKey("dewar", newName(t))
		for _, c := range defconValues {
			for _, revision := range []uint64{1, c.revision, c.revision + 1, maxRevision - 1} {
				for _, over := range []string{"", "anything"} {
					put := newRecord(max(1, revision), dewar.Turn{To: dewar.Protect})
					want := c.value[:min(len(c.value), maxRecord)]
					if c.revision > 0 && c.revision < put.revision || c.value == "" || c.revision == 0 && over != "" {
						want = put.text
					}
					if err := client.Set(t.Context(), key, c.value, time.Hour).Err(); err != nil {
						t.Fatal(err)
					}
					got, err := client.Eval(t.Context(), defconScript.body, []string{key}, put.revision, put.text, over).Text()
					if err != nil || got != want {
						t.Errorf("%s: revision %d over %.80q (%q): %.80q, %v", name, put.revision, c.value, over, got, err)
					}
					if stored := client.GetRange(t.Context(), key, 0, maxRecord-1).Val(); stored != want {
						t.Errorf("%s: revision %d over %.80q (%q): stored %.80q", name, put.revision, c.value, over, stored)
					}
					if ttl := client.TTL(t.Context(), key).Val(); want == put.text && ttl >= 0 {
						t.Errorf("%s: lives for %v", name, ttl)
					}
				}
			}
		}
		put := newRecord(7, dewar.Turn{To: dewar.Protect})
		for over, want := range map[string]string{"": "?", "anything": put.text} {
			client.Del(t.Context(), key)
			client.HSet(t.Context(), key, "f", "v")
			if got, err := client.Eval(t.Context(), defconScript.body, []string{key}, put.revision, put.text, over).Text(); err != nil || got != want {
				t.Errorf("%s: over a hash (%q): %q, %v", name, over, got, err)
			}
		}
		client.Del(t.Context(), key)
	}
}

func FuzzRecordsThatAreReadAreBounded(f *testing.F) {
	for _, c := range defconValues {
		f.Add(c.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r, ok := parseRecord(value)
		if !ok {
			if r != (record{}) {
				t.Errorf("%+v", r)
			}
			return
		}
		if r.revision == 0 || r.revision >= maxRevision || r.level < dewar.Lockdown || r.level > dewar.Normal ||
			len(r.who) > maxWho || len(r.why) > maxWhy || !utf8.ValidString(r.who+r.why) || strings.ContainsAny(r.who+r.why, "\n\r\x00") {
			t.Errorf("%+v", r)
		}
		if again, ok := parseRecord(newRecord(r.revision, dewar.Turn{To: r.level, Who: r.who, Why: r.why, Via: "v"}).text); !ok ||
			again.revision != r.revision || again.level != r.level || again.why != r.why || r.who != "" && again.who != r.who {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}

func TestWhatIsNoLevelIsLeftAloneUntilSomebodyTurnsADial(t *testing.T) {
	put := func(value string) func(*pipeRedis, string) {
		return func(r *pipeRedis, key string) { r.Set(key, value) }
	}
	for name, spoil := range map[string]func(r *pipeRedis, key string){
		"garbage":         put("\x00\xff"),
		"a newer version": put(`dewar-defcon/2 99999999999999 9f86d081884c7d65 1 {}`),
		"cut short":       put(`dewar-defcon/1 99999999999999 9f86d0`),
		"a megabyte":      put(strings.Repeat("x", 1<<20)),
		"a hash":          func(r *pipeRedis, key string) { r.Del(key); r.HSet(key, "level", "1") },
		"a list":          func(r *pipeRedis, key string) { r.Del(key); _, _ = r.Push(key, "1") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				one, other := joined(t, r.client(t)), joined(t, r.client(t))
				key := one.fleet.key
				for i := range 3 {
					who := fmt.Sprint("person ", i)
					one.by(t, dewar.Level(2+i), who, "")
					time.Sleep(time.Second)
					spoil(r, key)
					before := r.Dump()
					time.Sleep(time.Minute)
					allAt(t, dewar.Level(2+i), who, one, other)
					if after := r.Dump(); after != before {
						t.Errorf("%.200s became %.200s", before, after)
					}
					if n := other.log.count("no DEFCON level"); n != i+1 {
						t.Errorf("told %d times", n)
					}
					late := joined(t, r.client(t)) // nobody can tell it
					late.by(t, dewar.Lockdown, "late", "")
					time.Sleep(time.Second)
					allAt(t, dewar.Lockdown, "late", one, other, late)
				}
			})
		})
	}
}

func TestPuttingBackOverwritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one := joined(t, r.client(t))
		one.by(t, dewar.Protect, "anna", "")
		time.Sleep(time.Second)
		r.before(func(_ *server.Peer, cmd string, _ ...string) bool {
			if cmd == "EVAL" {
				r.Set(one.fleet.key, "another program's") // since it was found to be gone
			}
			return false
		})
		r.FlushAll()
		time.Sleep(time.Second)
		if now, _ := r.Get(one.fleet.key); now != "another program's" {
			t.Errorf("%q", now)
		}
	})
}

// As other programs may do: one command, with the time as the revision.
func TestWriterInAnotherLanguageTurnsTheFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		one, other := joined(t, r.client(t)), joined(t, r.client(t))
		one.by(t, dewar.Elevated, "anna", "")
		time.Sleep(time.Minute)
		r.Set(one.fleet.key, fmt.Sprintf(`dewar-defcon/1 %d 0123456789abcdef 2 {"who":"a script","more":[1]}`, time.Now().UnixMilli()))
		time.Sleep(time.Second)
		allAt(t, dewar.Protect, "a script", one, other)

		// With a revision that is not newer it is another's turn all the same,
		// if it is not older either.
		raw, _ := r.Get(one.fleet.key)
		r.Set(one.fleet.key, strings.NewReplacer("0123456789abcdef", "fedcba9876543210", " 2 ", " 3 ").Replace(raw))
		time.Sleep(time.Second)
		allAt(t, dewar.Degraded, "a script", one, other)
	})
}
