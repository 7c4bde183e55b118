package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/redis/go-redis/v9"
)

// These tests pause a process, or its link, between the load and the fill. What
// it has loaded is old by then.

func TestAProcessPausedBeyondItsLeaseBringsNothingOldBack(t *testing.T) {
	t.Parallel()
	const lease = 500 * time.Millisecond
	for name, c := range map[string]struct {
		refresh bool // it is a refresh that is paused, not the load of a cold key
		change  func(t *testing.T, other process, v kit.Value) error
	}{
		"invalidated": {change: func(t *testing.T, other process, v kit.Value) error {
			return other.invalidate(v.Key)
		}},
		"invalidated and loaded again": {change: func(t *testing.T, other process, v kit.Value) error {
			if err := other.invalidate(v.Key); err != nil {
				return err
			}
			mustRead(t, other, v.Key, v.Version)
			return nil
		}},
		"set": {change: func(t *testing.T, other process, v kit.Value) error {
			return other.set(map[string]kit.Value{v.Key: v})
		}},
		"the whole name invalidated": {change: func(t *testing.T, other process, v kit.Value) error {
			return other.invalidateAll()
		}},
		"a refresh, invalidated": {refresh: true, change: func(t *testing.T, other process, v kit.Value) error {
			return other.invalidate(v.Key)
		}},
		"a refresh, invalidated and loaded again": {refresh: true, change: func(t *testing.T, other process, v kit.Value) error {
			if err := other.invalidate(v.Key); err != nil {
				return err
			}
			mustRead(t, other, v.Key, v.Version)
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{Redis: kit.StartServer(t).Addr, Lease: lease, IfError: time.Hour}
			origin := newOrigin()
			url := origin.serve(t)
			if c.refresh {
				o.TTL, o.Ahead = 20*time.Second, 0.05 // due after a second
			}
			paused := startMember(t, o, url)
			o.Ahead = -1
			other := startMember(t, o, url)
			all := map[string]process{"the paused process": paused, "the other process": other, "Redis": remoteOnly(t, o, origin)}

			if c.refresh {
				mustRead(t, other, "k", 1)
				mustRead(t, paused, "k", 1)
				time.Sleep(1200 * time.Millisecond)
			}
			gate := origin.hold(t, "k")
			reading := paused.ask(request{Op: "get", Keys: []string{"k"}})
			gate.await(t) // version 1 is on its way
			paused.stop(t)
			next := origin.commit("k")
			origin.pass("k") // the others
			if err := c.change(t, other, next); err != nil {
				t.Fatal(err)
			}
			gate.open()
			time.Sleep(2 * lease)
			paused.resume(t)
			// Its reader began before the change, and may get what it was before.
			if r := <-reading; r.err() != nil {
				t.Error(r.err())
			}
			noneOlderWithin(t, heardWithin, all, "k", next.Version)
			origin.fail(true) // so that whatever is kept is served
			for began := time.Now(); time.Since(began) < time.Second; time.Sleep(10 * time.Millisecond) {
				checkHeld(t, all, "k", next.Version)
				for who, p := range all {
					if v, err := p.get("k"); err == nil && v != next {
						t.Errorf("%s falls back to %+v; want %+v", who, v, next)
					}
				}
				if t.Failed() {
					return
				}
			}
			origin.fail(false)
			for _, p := range all {
				mustRead(t, p, "k", next.Version)
			}
		})
	}
}

func TestAFillThatReachesRedisLateIsRefused(t *testing.T) {
	t.Parallel()
	server := kit.StartServer(t)
	network := kit.StartNetwork(t, server.Addr)
	o := options{Redis: server.Addr, IfError: time.Hour, Timeout: 200 * time.Millisecond}
	origin := newOrigin()
	other := startHere(t, o, origin)
	look := remoteOnly(t, o, origin)
	o.Redis = network.Addr
	slow := startFailing(t, o, origin)

	gate := origin.hold(t, "k")
	read := make(chan error, 1)
	go func() { // waited for below
		_, err := slow.get("k")
		read <- err
	}()
	gate.await(t) // it has the lease, and version 1 is on its way
	admin := server.Admin(t)
	before := scripts(t, admin)
	network.Fail(t, kit.ToServer, "latency", map[string]any{"latency": 1500})
	gate.open()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	origin.pass("k")
	next := origin.commit("k")
	if err := other.invalidate("k"); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, "the fill arrives", func() bool { return scripts(t, admin) > before })
	all := map[string]process{"the slow process": slow, "the other process": other, "Redis": look}
	network.Heal()
	noneOlderWithin(t, 5*time.Second, all, "k", next.Version)
	for _, p := range all {
		mustRead(t, p, "k", next.Version)
	}
}

// scripts returns how many scripts a server was told to run.
func scripts(tb testing.TB, admin *redis.Client) (n int) {
	tb.Helper()
	stats, err := admin.InfoMap(context.Background(), "commandstats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for name, stat := range stats["Commandstats"] {
		var calls int
		if strings.HasPrefix(name, "cmdstat_eval") {
			if _, err := fmt.Sscanf(stat, "calls=%d", &calls); err != nil {
				tb.Fatal(err)
			}
			n += calls
		}
	}
	return n
}
