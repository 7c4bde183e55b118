package redistier

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// aclLine is the least that a user of Redis needs for caches with the default
// prefix. The key patterns are those of values, of streams and epochs, and of
// refresh leases. INFO may be left out: then a failover that loses deletions is
// taken for one only when the stream has visibly gone back. On a Cluster,
// +cluster|slots and +command come on top. go-redis also tries CLIENT SETINFO,
// and does without: from Redis 7.2 on +client|setinfo keeps the ACL log quiet.
const aclLine = "~dewar:* ~{dewar}:* ~{dewar:*}:r resetchannels -@all " +
	"+hello " +
	"+get +mget +set +getrange +unlink +pexpire " +
	"+eval +evalsha +script|load +time +info +xadd +xread +xrevrange"

func TestUserWithTheLeastRightsServesTheWholeTier(t *testing.T) {
	addr := ownRedis(t)
	admin := newClient(t, addr)
	args := []any{"acl", "setuser", "cache", "on", ">secret"}
	for _, right := range strings.Fields(aclLine) {
		args = append(args, right)
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	user := func() Config[string] {
		return Config[string]{Client: newClient(t, addr, func(o *redis.Options) { o.Username, o.Password = "cache", "secret" })}
	}
	admin.ConfigResetStat(t.Context())
	a, ofA := openEar(t, user(), "n")
	b, ofB := openEar(t, user(), "n")
	a.put(t, "k", "v")
	if f := b.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Errorf("state %d, %v", f.State, f.Err)
	}
	for op, err := range everyOperation(t.Context(), a) {
		if err != nil && (op == "Unlink" || op == "Expire") {
			t.Errorf("%s: %v", op, err)
		}
	}
	a.put(t, "l", "v")
	if err := a.expireOne(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	a.announceAll(t, dewar.AnnounceInvalidate, "k")
	ofA.await(t, "own invalidate k")
	ofB.await(t, "foreign invalidate k")
	if err := a.NextEpoch(t.Context()); err != nil {
		t.Error(err)
	}
	ofB.await(t, "all")
	admin.Del(t.Context(), a.stream)
	ofA.await(t, "missed")
	if s := a.Stats(); s.Errors > 0 {
		t.Errorf("%+v", s)
	}
	refused, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Error(err)
	}
	for _, entry := range refused {
		if !strings.HasPrefix(entry.Object, "client") {
			t.Errorf("refused %+v", entry)
		}
	}

	// None of the rights is one too many.
	info := admin.Info(t.Context(), "commandstats").Val()
	for _, right := range strings.Fields(aclLine) {
		if command, ok := strings.CutPrefix(right, "+"); ok && !strings.Contains(info, fmt.Sprintf("cmdstat_%s:", command)) {
			t.Errorf("%s was not needed", right)
		}
	}

	// Nor does it reach beyond its prefix.
	if err := user().Client.Get(t.Context(), "other:1:n:0:0:k").Err(); err == nil || err == redis.Nil {
		t.Errorf("reads foreign keys: %v", err)
	}
}
