package redistier

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// aclLine is the least that a user of Redis needs for caches with the default
// prefix. The key patterns are those of values, of streams and epochs, and of
// refresh leases. INFO may be left out: then a failover that loses deletions is
// taken for one only when the stream has visibly gone back. SCRIPT LOAD may be
// left out, at the cost of a round trip now and then, and TIME: then this
// machine's clock stands in. go-redis also tries CLIENT SETINFO, and does
// without: from Redis 7.2 on +client|setinfo keeps the ACL log quiet.
const aclLine = "~dewar:* ~{dewar}:* ~{dewar:*}:r resetchannels -@all " +
	"+hello " +
	"+get +mget +set +getrange +unlink +pexpire " +
	"+eval +evalsha +script|load +time +info +xadd +xread +xrevrange"

// aclCluster comes on top on a Cluster.
const aclCluster = " +cluster|slots +command +asking"

// withRights makes line the rights of the user cache on all servers. It returns
// a client of each that may do everything.
func withRights(t *testing.T, line string, servers ...string) (admins []*redis.Client) {
	t.Helper()
	args := []any{"acl", "setuser", "cache", "on", ">secret"}
	for _, right := range strings.Fields(line) {
		args = append(args, right)
	}
	for _, addr := range servers {
		admin := newClient(t, addr)
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		admin.ConfigResetStat(t.Context())
		admins = append(admins, admin)
	}
	return admins
}

// useEverything does what a tier can do, on two of them and between them.
func useEverything(t *testing.T, client func() redis.UniversalClient, admins []*redis.Client) (used *tier[string]) {
	t.Helper()
	a, ofA := openEar(t, Config[string]{Client: client()}, "n")
	b, ofB := openEar(t, Config[string]{Client: client()}, "n")
	other, _ := openEar(t, Config[string]{Client: a.client}, "m")
	a.put(t, "k", "v")
	other.put(t, "k", "v")
	if f := b.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Errorf("state %d, %v", f.State, f.Err)
	}
	found := make([]dewar.Found[string], 2)
	a.LeaseRefresh(t.Context(), []string{"k", "l"}, found)
	lease := a.leaseOne(t.Context(), "l").Fence
	fills := []dewar.Fill[string]{
		{Key: "k", Fence: found[0].Refresh, Refresh: true},
		{Key: "l", Fence: lease},
		{Key: "l", Fence: found[1].Refresh, Refresh: true},
	}
	for _, do := range []func(){func() { a.Renew(t.Context(), fills) }, func() { a.Release(t.Context(), fills) }} {
		do()
		for _, f := range fills {
			if f.Err != nil {
				t.Errorf("%s: %v", f.Key, f.Err)
			}
		}
	}
	for op, err := range everyOperation(t.Context(), a) {
		if err != nil && !errors.Is(err, dewar.ErrFenced) {
			t.Errorf("%s: %v", op, err)
		}
	}
	ofB.await(t, "all")
	a.put(t, "l", "v")
	if err := a.expireOne(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	a.announceAll(t, dewar.AnnounceInvalidate, "m")
	ofA.await(t, "own invalidate m")
	for _, admin := range admins {
		admin.Del(t.Context(), a.stream)
	}
	ofA.await(t, "missed")
	return a
}

// rightsSuffice tells of what was refused, and of rights that nobody used.
func rightsSuffice(t *testing.T, line string, used *tier[string], admins []*redis.Client) {
	t.Helper()
	if s := used.Stats(); s.Errors > 0 {
		t.Errorf("%+v", s)
	}
	var stats strings.Builder
	for _, admin := range admins {
		refused, err := admin.ACLLog(t.Context(), 100).Result()
		if err != nil {
			t.Error(err)
		}
		for _, entry := range refused {
			if !strings.HasPrefix(entry.Object, "client") {
				t.Errorf("refused %+v", entry)
			}
		}
		stats.WriteString(admin.Info(t.Context(), "commandstats").Val())
	}
	for _, right := range strings.Fields(line) {
		if command, ok := strings.CutPrefix(right, "+"); ok && !strings.Contains(stats.String(), fmt.Sprintf("cmdstat_%s:", command)) {
			t.Errorf("%s was not needed", right)
		}
	}
}

func TestUserWithTheLeastRightsServesTheWholeTier(t *testing.T) {
	addr := ownRedis(t)
	admins := withRights(t, aclLine, addr)
	user := func() redis.UniversalClient {
		return newClient(t, addr, func(o *redis.Options) { o.Username, o.Password = "cache", "secret" })
	}
	used := useEverything(t, user, admins)
	eventually(t, "the scripts are loaded", func() bool {
		return strings.Contains(admins[0].Info(t.Context(), "commandstats").Val(), "cmdstat_script|load:")
	})
	rightsSuffice(t, aclLine, used, admins)

	// Nor do they reach beyond their prefix.
	for _, key := range []string{"other:1:n:0:0:k", "{other}:stream:n", "{other:1:n:0:0:k}:r"} {
		if err := user().Get(t.Context(), key).Err(); !redis.IsPermissionError(err) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestUserWithTheLeastRightsServesACluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	var addrs []string
	for _, n := range cluster.nodes {
		addrs = append(addrs, n.addr)
	}
	admins := withRights(t, aclLine+aclCluster, addrs...)
	user := func() redis.UniversalClient {
		return cluster.client(t, func(o *redis.ClusterOptions) { o.Username, o.Password = "cache", "secret" })
	}
	used := useEverything(t, user, admins)

	// Also while a slot is on its way.
	slot := slotOf(used.keys.Load().redisKey("moved"))
	from := cluster.shardOf(slot)
	cluster.move(t, slot, from, (from+1)%3, func() { used.put(t, "moved", "v") })
	if f := used.readOne(t.Context(), "moved"); f.State != dewar.RemoteValue {
		t.Errorf("state %d, %v", f.State, f.Err)
	}
	rightsSuffice(t, aclLine+aclCluster, used, admins)
}
