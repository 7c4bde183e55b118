package fleet

import (
	"errors"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
)

func TestAnInvalidationReachesTheFleetOnceRedisIsBack(t *testing.T) {
	t.Parallel()
	const within = 5 * time.Second
	for name, c := range map[string]struct {
		server []string // further arguments
		away   func(t *testing.T, server *kit.Server, networks []*kit.Network)
		back   func(t *testing.T, server *kit.Server, networks []*kit.Network)
	}{
		"killed and empty": {
			away: func(t *testing.T, server *kit.Server, _ []*kit.Network) { server.Kill() },
			back: func(t *testing.T, server *kit.Server, _ []*kit.Network) { server.Restart(t) },
		},
		// The old value is there again: only who has invalidated it knows that.
		"killed, and has kept everything": {
			server: []string{"--appendonly", "yes", "--appendfsync", "always"},
			away:   func(t *testing.T, server *kit.Server, _ []*kit.Network) { server.Kill() },
			back:   func(t *testing.T, server *kit.Server, _ []*kit.Network) { server.Restart(t) },
		},
		"the link of who invalidates swallows everything": {
			away: func(t *testing.T, _ *kit.Server, networks []*kit.Network) { networks[0].Swallow(t) },
			back: func(t *testing.T, _ *kit.Server, networks []*kit.Network) { networks[0].Heal() },
		},
		"all links swallow everything": {
			away: func(t *testing.T, _ *kit.Server, networks []*kit.Network) {
				for _, n := range networks {
					n.Swallow(t)
				}
			},
			back: func(t *testing.T, _ *kit.Server, networks []*kit.Network) {
				for _, n := range networks {
					n.Heal()
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := kit.StartServer(t, c.server...)
			origin := newOrigin()
			url := origin.serve(t)
			var members []*member
			var networks []*kit.Network
			o := options{Timeout: 200 * time.Millisecond}
			for range 2 {
				n := kit.StartNetwork(t, server.Addr)
				o.Redis = n.Addr
				networks, members = append(networks, n), append(members, startMember(t, o, url))
			}
			one, other := members[0], members[1]
			keys := []string{"k0", "k1", "k2"}
			for _, k := range keys {
				mustRead(t, one, k, 1)
				mustRead(t, other, k, 1)
			}

			c.away(t, server, networks)
			for _, k := range keys {
				origin.commit(k)
				began := time.Now()
				if err := one.invalidate(k); !errors.Is(err, dewar.ErrInvalidationPending) {
					t.Fatalf("%v; want ErrInvalidationPending", err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%v until that was said", took)
				}
				mustRead(t, one, k, 2)
				if v, err := other.get(k); err != nil || v.Version != 1 {
					t.Errorf("%+v, %v: who has not heard of it serves what it has", v, err)
				}
			}
			time.Sleep(3 * time.Second) // breakers are open, and tries are far apart

			c.back(t, server, networks)
			began := time.Now()
			for _, k := range keys {
				kit.Within(t, within-time.Since(began), k+" is new everywhere", func() bool {
					v, err := other.get(k)
					if err != nil {
						t.Fatal(err)
					}
					return v.Version == 2
				})
			}
			t.Logf("%v after Redis was back", time.Since(began))
			o.Redis = server.Addr
			all := map[string]process{"who invalidated": one, "the other": other, "Redis": remoteOnly(t, o, origin)}
			for range 100 {
				for _, k := range keys {
					checkHeld(t, all, k, 2)
					mustRead(t, other, k, 2)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}
