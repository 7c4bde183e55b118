package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
)

const fleetSize = 5

func TestAColdKeyIsLoadedOnceByAFleet(t *testing.T) {
	t.Parallel()
	const callers = 1000
	origin := newOrigin()
	url := origin.serve(t)
	// A herd of thousands on a busy machine may stall the round trips: that is
	// not what this is about.
	members := startMembers(t, fleetSize, options{Redis: kit.StartServer(t).Addr, Timeout: 5 * time.Second}, url)
	for _, takes := range []time.Duration{0, 20 * time.Millisecond, 3 * time.Second} {
		key := fmt.Sprint("an origin that takes ", takes)
		origin.slow(takes, 0)
		var answers []<-chan response
		for _, m := range members {
			answers = append(answers, m.ask(request{Op: "herd", Keys: []string{key}, Callers: callers}))
		}
		for _, answer := range answers {
			if r := <-answer; r.Count != callers || r.err() != nil {
				t.Errorf("%s: %d of %d callers were answered, %v", key, r.Count, callers, r.err())
			}
		}
		if n := origin.loaded(key); n != 1 {
			t.Errorf("%s: %d loads", key, n)
		}
	}
}

func TestALoaderThatDiesCostsOneLease(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second // the default
	origin := newOrigin()
	url := origin.serve(t)
	o := options{Redis: kit.StartServer(t).Addr}
	holder := startMember(t, o, url)
	others := startMembers(t, fleetSize-1, o, url)

	gate := origin.hold(t, "k")
	holder.ask(request{Op: "get", Keys: []string{"k"}})
	gate.await(t)
	var answers []<-chan response
	for _, m := range others {
		answers = append(answers, m.ask(request{Op: "herd", Keys: []string{"k"}, Callers: 100}))
	}
	time.Sleep(lease + lease/2) // it is renewed: nobody else loads
	if n := origin.loaded("k"); n != 1 {
		t.Fatalf("%d loads while the first is under way", n)
	}
	origin.pass("k")
	holder.kill(t)
	died := time.Now()
	for _, answer := range answers {
		if r := <-answer; r.Count != 100 || r.err() != nil {
			t.Errorf("%d of 100 callers were answered, %v", r.Count, r.err())
		}
	}
	took := time.Since(died)
	t.Logf("answered %v after the loader died", took)
	if took > lease+1500*time.Millisecond {
		t.Errorf("answered %v after the loader died; a lease lives %v", took, lease)
	}
	if n := origin.loaded("k"); n != 2 {
		t.Errorf("%d loads; want one more than that of the dead", n)
	}
}

// TestAFleetLoadsAKeyOncePerTTL has five processes that read without a pause.
// Refreshed ahead, a key is loaded when the first of them finds it due, at about
// 0.75 of its TTL, but still by one of them.
func TestAFleetLoadsAKeyOncePerTTL(t *testing.T) {
	t.Parallel()
	const (
		ttl  = time.Second
		ttls = 12
	)
	for name, c := range map[string]struct {
		ahead    float64
		earliest float64 // of its TTL, that a key is loaded again
		perTTL   float64
	}{
		// Jitter shortens a TTL by up to 0.05, chance spreads Ahead by 0.1 of it.
		"not refreshed ahead": {-1, 0.95, 1.2},
		"refreshed ahead":     {0.8, 0.95 * 0.9 * 0.8, 1.2 / (0.95 * 0.9 * 0.8)},
	} {
		t.Run(name, func(t *testing.T) {
			origin := newOrigin()
			origin.slow(0, 20*time.Millisecond)
			url := origin.serve(t)
			members := startMembers(t, fleetSize, options{Redis: kit.StartServer(t).Addr, TTL: ttl, Ahead: c.ahead}, url)
			var keys []string
			for i := range 20 {
				keys = append(keys, fmt.Sprint("k", i))
			}
			var answers []<-chan response
			for _, m := range members {
				answers = append(answers, m.ask(request{Op: "steady", Keys: keys, Every: 10 * time.Millisecond, For: ttls * ttl}))
			}
			reads := 0
			for _, answer := range answers {
				r := <-answer
				if r.err() != nil {
					t.Error(r.err())
				}
				reads += r.Count
			}
			loads, twice := 0, 0
			for _, k := range keys {
				times := origin.loadTimes(k)
				loads += len(times)
				for i := range times[1:] {
					// What the way to the origin took may differ.
					if times[i+1].Sub(times[i]) < time.Duration(c.earliest*float64(ttl))-100*time.Millisecond {
						twice++
					}
				}
			}
			perTTL := float64(loads) / float64(len(keys)*ttls)
			t.Logf("%d reads, %.2f loads of a key per TTL, %d of %d before it was due", reads, perTTL, twice, loads)
			if perTTL > c.perTTL || perTTL < 0.9 {
				t.Errorf("%.2f loads of a key per TTL; at most %.2f", perTTL, c.perTTL)
			}
			if twice > loads/50 {
				t.Errorf("%d of %d loads of a key that was not due yet", twice, loads)
			}
		})
	}
}
