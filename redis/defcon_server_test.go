package redistier

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// joinedAs is a new process of a fleet on a server that other tests use too.
func joinedAs(t *testing.T, client redis.UniversalClient, name string) *turnable {
	t.Helper()
	return aDial().join(t, DefconConfig{Client: client, Name: name})
}

// reach waits until all dials are where somebody has turned them.
func reach(t *testing.T, level dewar.Level, who string, dials ...*turnable) {
	t.Helper()
	eventually(t, fmt.Sprintf("all dials at %v by %s", level, who), func() bool {
		for _, d := range dials {
			if last := d.LastTurn(); d.Level() != level || last.Who != who {
				return false
			}
		}
		return true
	})
}

func TestDialsTurnTogetherOnEverySortOfServer(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]func(t *testing.T) redis.UniversalClient{
		"a server": func(t *testing.T) redis.UniversalClient { return newClient(t, realRedis(t)) },
		"RESP2": func(t *testing.T) redis.UniversalClient {
			return newClient(t, realRedis(t), func(o *redis.Options) { o.Protocol = 2 })
		},
		"one connection": func(t *testing.T) redis.UniversalClient {
			return newClient(t, realRedis(t), func(o *redis.Options) { o.PoolSize = 1; o.MaxActiveConns = 1 })
		},
		"a wrapped client": func(t *testing.T) redis.UniversalClient { return wrapped{newClient(t, realRedis(t))} },
		"miniredis":        func(t *testing.T) redis.UniversalClient { return newClient(t, startMini(t).Addr()) },
		"a Cluster":        func(t *testing.T) redis.UniversalClient { return startCluster(t).client(t) },
		"Sentinel":         func(t *testing.T) redis.UniversalClient { return startSentinel(t).client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shares, fleet := client(t), newName(t)
			var dials []*turnable
			for range 3 {
				dials = append(dials, joinedAs(t, shares, fleet))
			}
			for i, d := range dials {
				who := fmt.Sprint("person ", i)
				d.by(t, dewar.Level(1+i), who, "ad break")
				reach(t, dewar.Level(1+i), who, dials...)
			}
			late := joinedAs(t, shares, fleet)
			reach(t, dewar.Degraded, "person 2", late)
			if err := shares.Del(t.Context(), late.fleet.key).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the level is put back", func() bool { return shares.Exists(t.Context(), late.fleet.key).Val() == 1 })
			late.by(t, dewar.Normal, "anna", "")
			reach(t, dewar.Normal, "anna", append(dials, late)...)
		})
	}
}

func TestDialsTurnOnAfterAServerDied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keepDump bool // it comes back with the turn before the last
		turn     bool // meanwhile
	}{
		"empty": {}, "empty, turned meanwhile": {turn: true},
		"old dump": {keepDump: true}, "old dump, turned meanwhile": {keepDump: true, turn: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newPhoenix(t)
			one, other := joined(t, newClient(t, server.addr)), joined(t, newClient(t, server.addr))
			one.by(t, dewar.Lockdown, "before", "")
			reach(t, dewar.Lockdown, "before", one, other)
			if err := newClient(t, server.addr).Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			other.by(t, dewar.Degraded, "anna", "")
			reach(t, dewar.Degraded, "anna", one, other)
			server.stop()
			if !c.keepDump {
				server.args = append(server.args, "--dbfilename", "other.rdb")
			}
			eventually(t, "the log is told", func() bool { return one.log.count("level cannot be shared") == 1 })
			level, who := dewar.Degraded, "anna"
			allAt(t, level, who, one, other)
			if c.turn {
				level, who = dewar.Protect, "bert"
				one.by(t, level, who, "")
				allAt(t, level, who, one)
			}
			server.rise(t)
			eventually(t, "the log is told", func() bool { return one.log.count("level is shared again") == 1 })
			reach(t, level, who, one, other)
			eventually(t, "a late joiner learns it", func() bool {
				late := joined(t, newClient(t, server.addr))
				defer late.fleet.Close()
				return late.Level() == level && late.LastTurn().Who == who
			})
		})
	}
}

func TestDialsTurnOnAfterAServerStoodStill(t *testing.T) {
	t.Parallel()
	server := startOwn(t)
	one, other := joined(t, newClient(t, server.addr)), joined(t, newClient(t, server.addr))
	one.by(t, dewar.Elevated, "anna", "")
	reach(t, dewar.Elevated, "anna", one, other)
	server.signal(t, syscall.SIGSTOP)
	one.by(t, dewar.Protect, "anna", "")
	time.Sleep(time.Second) // more than Redis's clock is asked for inexactly
	other.by(t, dewar.Degraded, "bert", "")
	allAt(t, dewar.Protect, "anna", one)
	eventually(t, "both logs are told", func() bool {
		return one.log.count("level cannot be shared") == 1 && other.log.count("level cannot be shared") == 1
	})
	server.signal(t, syscall.SIGCONT)
	reach(t, dewar.Degraded, "bert", one, other)
}

func TestDialsTurnOnAfterAFailover(t *testing.T) {
	t.Parallel()
	s := startSentinel(t)
	one, other := joined(t, s.client(t)), joined(t, s.client(t))
	one.by(t, dewar.Elevated, "anna", "")
	reach(t, dewar.Elevated, "anna", one, other)
	other.by(t, dewar.Protect, "bert", "")
	s.primary.kill()
	reach(t, dewar.Protect, "bert", one, other)
	waitFor(t, "the one that was promoted to have it", func() bool {
		raw, err := newClient(t, s.replica.addr).Get(t.Context(), one.fleet.key).Result()
		r, ok := parseRecord(raw)
		return err == nil && ok && r.who == "bert"
	})
	one.by(t, dewar.Normal, "carl", "")
	reach(t, dewar.Normal, "carl", one, other)
}

func TestDialsTurnWhileTheirSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	one, other := joined(t, cluster.client(t)), joined(t, cluster.client(t))
	one.by(t, dewar.Elevated, "anna", "")
	reach(t, dewar.Elevated, "anna", one, other)
	slot, turns := slotOf(one.fleet.key), 0
	from := cluster.shardOf(slot)
	cluster.move(t, slot, from, (from+1)%3, func() {
		who := fmt.Sprint("person ", turns)
		other.by(t, dewar.Level(1+turns%5), who, "")
		reach(t, dewar.Level(1+turns%5), who, one, other)
		turns++
	})
	if turns < 2 {
		t.Errorf("%d turns", turns)
	}
	other.by(t, dewar.Protect, "bert", "")
	reach(t, dewar.Protect, "bert", one, other)
}

func TestUserWithTheLeastRightsSharesADial(t *testing.T) {
	addr := ownRedis(t)
	admins := withRights(t, aclLine, addr)
	user := func() redis.UniversalClient {
		return newClient(t, addr, func(o *redis.Options) { o.Username, o.Password = "cache", "secret" })
	}
	one, other := joined(t, user()), joined(t, user())
	one.by(t, dewar.Protect, "anna", "")
	reach(t, dewar.Protect, "anna", one, other)
	admins[0].FlushAll(t.Context())
	eventually(t, "the level is put back", func() bool { return admins[0].Exists(t.Context(), one.fleet.key).Val() == 1 })
	refused, err := admins[0].ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Error(err)
	}
	for _, entry := range refused {
		if entry.Reason != "command" || entry.Object != "client|setinfo" {
			t.Errorf("refused %+v", entry)
		}
	}
}

func TestDialsOnARealServerTurnedAtAHundredHertzConverge(t *testing.T) {
	t.Parallel()
	fleet := newName(t)
	var dials []*turnable
	for range 4 {
		dials = append(dials, joinedAs(t, newClient(t, realRedis(t)), fleet))
	}
	var people sync.WaitGroup
	for p := range 2 {
		people.Go(func() {
			for i := range 100 {
				dials[p].by(t, dewar.Level(1+(i+p)%5), fmt.Sprintf("person %d, time %d", p, i), "")
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	people.Wait()
	eventually(t, "one level everywhere, and in Redis", func() bool {
		raw, _ := dials[0].fleet.client.Get(t.Context(), dials[0].fleet.key).Result()
		stored, ok := parseRecord(raw)
		for _, d := range dials {
			if last := d.LastTurn(); !ok || d.Level() != stored.level || last.Who != stored.who {
				return false
			}
		}
		return true
	})
	settled := dials[0].LastTurn().Who
	time.Sleep(3 * maxRound)
	allAt(t, dials[0].Level(), settled, dials...)
	if settled != "person 0, time 99" && settled != "person 1, time 99" {
		t.Errorf("settled on %s", settled)
	}
}
