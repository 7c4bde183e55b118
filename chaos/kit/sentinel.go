package kit

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Master is the name by which Sentinel knows the primary.
const Master = "main"

// Sentinel is a primary with a replica, watched by a Sentinel that alone
// decides.
type Sentinel struct{ Primary, Replica, Watch *Server }

// StartSentinel starts the three and stops them with the test.
func StartSentinel(tb testing.TB) *Sentinel {
	tb.Helper()
	s := new(Sentinel)
	s.Primary = StartServer(tb, "--repl-diskless-sync-delay", "0")
	s.Replica = StartServer(tb, "--replicaof", s.Primary.Host+" "+s.Primary.Port)
	replica := s.Replica.Admin(tb)
	Eventually(tb, "the replica is in step", func() bool {
		info, err := replica.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	s.Watch = start(tb, true, []string{
		"sentinel monitor " + Master + " " + s.Primary.Host + " " + s.Primary.Port + " 1",
		"sentinel down-after-milliseconds " + Master + " 500",
		"sentinel failover-timeout " + Master + " 3000",
	})
	watch := redis.NewSentinelClient(&redis.Options{Addr: s.Watch.Addr})
	defer watch.Close()
	Eventually(tb, "the Sentinel knows the replica", func() bool {
		replicas, err := watch.Replicas(context.Background(), Master).Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	return s
}
