package redistier

import (
	"context"
	"errors"
	"net"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestHardenedOptionsAreAcceptedForEveryKindOfClient(t *testing.T) {
	dangerous := func(o redis.UniversalOptions) *redis.UniversalOptions {
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = true, true, true
		o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
		return &o
	}
	for name, o := range map[string]*redis.UniversalOptions{
		"nil":               nil,
		"single":            {Addrs: []string{"127.0.0.1:1"}},
		"Sentinel":          {Addrs: []string{"127.0.0.1:1"}, MasterName: "main"},
		"Cluster":           {Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}},
		"Cluster by flag":   {Addrs: []string{"127.0.0.1:1"}, IsClusterMode: true},
		"dangerous single":  dangerous(redis.UniversalOptions{}),
		"dangerous main":    dangerous(redis.UniversalOptions{MasterName: "main"}),
		"dangerous Cluster": dangerous(redis.UniversalOptions{IsClusterMode: true}),
	} {
		h := Harden(o)
		clients := map[string]redis.UniversalClient{"universal": redis.NewUniversalClient(h)}
		if o == nil || o.MasterName == "" {
			clients["Simple"] = redis.NewClient(h.Simple())
			clients["Cluster"] = redis.NewClusterClient(h.Cluster())
		} else {
			clients["Failover"] = redis.NewFailoverClient(h.Failover())
		}
		for kind, client := range clients {
			if err := (Config[string]{Client: client}).Validate(); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			client.Close()
		}
	}
}

func TestHardenKeepsWhatIsSetAndLeavesItsArgumentAlone(t *testing.T) {
	set := redis.UniversalOptions{
		Addrs: []string{"127.0.0.1:1"}, Username: "u", Password: "p", DB: 3,
		MaxRetries: -1, MinRetryBackoff: 3 * time.Second, MaxRetryBackoff: 4 * time.Second,
		DialTimeout: 5 * time.Second, DialerRetries: 6, ReadTimeout: 7 * time.Second, WriteTimeout: 8 * time.Second,
		PoolTimeout: 9 * time.Second, PoolSize: 10, MinIdleConns: 11,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto},
	}
	before := set
	got := Harden(&set)
	if !reflect.DeepEqual(set, before) {
		t.Errorf("changed its argument: %+v", set)
	}
	if got.MaintNotificationsConfig == set.MaintNotificationsConfig || &got.Addrs[0] == &set.Addrs[0] {
		t.Error("shares what go-redis writes into")
	}
	want := set
	want.ContextTimeoutEnabled = true
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestHardenedClientOfADeadServerGivesUpAtOnce(t *testing.T) {
	var dials atomic.Int64
	h := Harden(&redis.UniversalOptions{Dialer: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, syscall.ECONNREFUSED
	}})
	client := redis.NewUniversalClient(h)
	defer client.Close()
	if err := client.Get(context.Background(), "k").Err(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
	// go-redis on its own dials 20 times, 100ms apart.
	if n := dials.Load(); n != 2 {
		t.Errorf("dialled %d times", n)
	}
}
