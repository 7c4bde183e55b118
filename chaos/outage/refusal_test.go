package outage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dewarcache/dewar/chaos/kit"
)

// refusals are outages in which the server answers, but does not do what it is
// asked.
var refusals = []outage{
	{
		name: "maxclients reached",
		begin: func(t *testing.T, s *scene) {
			kit.Do(t, s.admin, "config", "set", "maxclients", 1)
			kit.Do(t, s.admin, "client", "kill", "type", "normal", "skipme", "yes")
		},
		end:   func(t *testing.T, s *scene) { kit.Do(t, s.admin, "config", "set", "maxclients", 10000) },
		shuts: true,
	},
	{
		name:  "out of memory without eviction",
		serve: []string{"--maxmemory-policy", "noeviction"},
		begin: func(t *testing.T, s *scene) { kit.Do(t, s.admin, "config", "set", "maxmemory", 1) },
		end:   func(t *testing.T, s *scene) { kit.Do(t, s.admin, "config", "set", "maxmemory", 0) },
	},
	{
		name:   "eviction of leases and of the stream",
		serve:  []string{"--maxmemory-policy", "allkeys-lru"},
		begin:  evict,
		end:    func(t *testing.T, s *scene) { s.undo(); kit.Do(t, s.admin, "config", "set", "maxmemory", 0) },
		doubts: true,
		during: func(t *testing.T, s *scene) {
			kit.Eventually(t, "the stream and leases have been evicted", func() bool {
				st := s.a.Stats()
				return st.Remote.Gaps > 0 && st.FillsRefused > 0
			})
		},
	},
	{
		name:   "rights revoked",
		user:   user,
		begin:  func(t *testing.T, s *scene) { kit.Do(t, s.admin, "acl", "setuser", user, "-@all") },
		end:    func(t *testing.T, s *scene) { kit.Do(t, s.admin, "acl", "setuser", user, "+@all") },
		denied: true,
	},
	{
		name: "wrong password",
		user: user,
		begin: func(t *testing.T, s *scene) {
			kit.Do(t, s.admin, "acl", "setuser", user, "resetpass", ">another")
			kit.Do(t, s.admin, "client", "kill", "user", user)
		},
		end:    func(t *testing.T, s *scene) { kit.Do(t, s.admin, "acl", "setuser", user, ">"+password) },
		denied: true,
	},
}

// evict leaves room for next to nothing and has somebody else fill that.
func evict(t *testing.T, s *scene) {
	var used int
	if _, err := fmt.Sscan(info(t, s, "memory", "used_memory"), &used); err != nil {
		t.Fatal(err)
	}
	kit.Do(t, s.admin, "config", "set", "maxmemory", used+200<<10)
	rdb, n := s.server.Admin(t), 0
	ballast := strings.Repeat("x", 10<<10)
	s.loop(t, 0, func(ctx context.Context) {
		n++
		_ = rdb.Set(ctx, fmt.Sprint("ballast", n), ballast, 0).Err()
	})
}

// info returns one value of INFO.
func info(t *testing.T, s *scene, section, name string) string {
	t.Helper()
	for line := range strings.Lines(fmt.Sprint(kit.Do(t, s.admin, "info", section))) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("INFO %s has no %s", section, name)
	return ""
}
