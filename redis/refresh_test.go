package redistier

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

func (t *tier[V]) leaseRefreshOne(tb testing.TB, key string) dewar.Found[V] {
	found := make([]dewar.Found[V], 1)
	t.LeaseRefresh(tb.Context(), []string{key}, found)
	return found[0]
}

func refreshFill(key string, fence dewar.Fence) []dewar.Fill[string] {
	return []dewar.Fill[string]{{Key: key, Fence: fence, Refresh: true}}
}

func TestRefreshLeaseIsGrantedOnceAndShowsWhatIsThere(t *testing.T) {
	a, mini := miniTier(t)
	b := openTier(t, Config[string]{Client: newClient(t, mini.Addr())}, testOptions)
	if f := a.leaseRefreshOne(t, "absent"); f.State != dewar.RemoteAbsent || f.Refresh == (dewar.Fence{}) {
		t.Errorf("absent: %+v", f)
	}
	a.put(t, "k", "v")
	mine := a.leaseRefreshOne(t, "k")
	if mine.State != dewar.RemoteValue || mine.Entry.Value != "v" || mine.Fence == (dewar.Fence{}) || mine.Refresh == (dewar.Fence{}) {
		t.Fatalf("%+v", mine)
	}
	for _, tier := range []*tier[string]{a, b} {
		if f := tier.leaseRefreshOne(t, "k"); f.State != dewar.RemoteValue || f.Refresh != (dewar.Fence{}) {
			t.Errorf("a second lease: %+v", f)
		}
	}
	// It does not stand in the way of the fill that it is for, nor of readers.
	if err := a.fillOne(t.Context(), "k", mine.Fence, "w"); err != nil {
		t.Fatal(err)
	}
	if f := b.leaseRefreshOne(t, "k"); f.Entry.Value != "w" || f.Fence == mine.Fence {
		t.Errorf("%+v", f)
	}
	theirs := refreshFill("k", newFence(kindLease))
	if b.Release(t.Context(), theirs); !errors.Is(theirs[0].Err, dewar.ErrFenced) {
		t.Errorf("released another's lease: %v", theirs[0].Err)
	}
	own := refreshFill("k", mine.Refresh)
	if a.Release(t.Context(), own); own[0].Err != nil {
		t.Fatal(own[0].Err)
	}
	if f := b.readOne(t.Context(), "k"); f.State != dewar.RemoteValue {
		t.Errorf("the value went with the lease: state %d", f.State)
	}
	if f := b.leaseRefreshOne(t, "k"); f.Refresh == (dewar.Fence{}) {
		t.Error("not free after it was released")
	}
}

func TestRefreshLeaseShowsLeasesDamageAndOtherTypes(t *testing.T) {
	tier, mini := miniTier(t)
	fence := tier.leaseOne(t.Context(), "leased").Fence
	if f := tier.leaseRefreshOne(t, "leased"); f.State != dewar.RemoteLeased || f.Fence != fence {
		t.Errorf("leased: %+v", f)
	}
	dk := tier.keys.Load().redisKey("damaged")
	mini.Set(dk, magic+"\x01V")
	if f := tier.leaseRefreshOne(t, "damaged"); f.State != dewar.RemoteAbsent || mini.Exists(dk) {
		t.Errorf("damaged: %+v, there: %v", f, mini.Exists(dk))
	}
	mini.Lpush(tier.keys.Load().redisKey("list"), "x")
	if f := tier.leaseRefreshOne(t, "list"); f.State != dewar.RemoteForeign || f.Refresh == (dewar.Fence{}) {
		t.Errorf("list: %+v", f)
	}
	// Another type where the refresh lease should be: nobody gets it.
	tier.put(t, "k", "v")
	mini.Lpush(refreshKey(tier.keys.Load().redisKey("k")), "x")
	if f := tier.leaseRefreshOne(t, "k"); f.State != dewar.RemoteValue || f.Refresh != (dewar.Fence{}) {
		t.Errorf("occupied: %+v", f)
	}
	if got := tier.Stats(); got.Errors != 0 {
		t.Errorf("%+v", got)
	}
}

// Of many processes that find a stale value at the same time, one loads; and
// one that comes after the fill sees it, or does not get the lease.
func TestNoProcessRefreshesWhatWasRefreshed(t *testing.T) {
	addr := realRedis(t)
	o := testOptions
	o.Name = "refreshed-once"
	var tiers []*tier[string]
	for range 4 {
		tiers = append(tiers, openTier(t, Config[string]{Client: newClient(t, addr)}, o))
	}
	for range 50 {
		tiers[0].put(t, "k", "old")
		var mu sync.Mutex // mu guards loads
		loads := 0
		var wg sync.WaitGroup
		for _, tier := range tiers {
			wg.Go(func() { // waited for below
				f := tier.leaseRefreshOne(t, "k")
				if f.Refresh == (dewar.Fence{}) {
					return
				}
				if f.Entry.Value == "old" {
					mu.Lock()
					loads++
					mu.Unlock()
					if err := tier.fillOne(t.Context(), "k", f.Fence, "new"); err != nil {
						t.Error(err)
					}
				}
				tier.Release(t.Context(), refreshFill("k", f.Refresh))
			})
		}
		wg.Wait()
		if loads != 1 {
			t.Fatalf("%d loads", loads)
		}
	}
}

func TestLeasesLiveForAsLongAsTheyAreRenewed(t *testing.T) {
	addr := realRedis(t)
	client := newClient(t, addr)
	o := testOptions
	o.Name, o.LeaseFor = "renewed", time.Minute
	tier := openTier(t, Config[string]{Client: client}, o)
	tier.put(t, "value", "v")
	dk, vk := tier.keys.Load().redisKey("k"), tier.keys.Load().redisKey("value")
	defer client.Del(t.Context(), dk, vk, refreshKey(vk)) // the leases would outlive the test
	lease := tier.leaseOne(t.Context(), "k").Fence
	refresh := tier.leaseRefreshOne(t, "value").Refresh
	value := tier.readOne(t.Context(), "value").Fence
	for _, key := range []string{dk, refreshKey(vk)} {
		if err := client.PExpire(t.Context(), key, 20*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fills := []dewar.Fill[string]{
		{Key: "k", Fence: lease},
		{Key: "value", Fence: refresh, Refresh: true},
		{Key: "k", Fence: newFence(kindLease)},    // another's
		{Key: "gone", Fence: newFence(kindLease)}, // expired
		{Key: "value", Fence: value},              // no lease
		{Key: "k"},                                // nothing
	}
	tier.Renew(t.Context(), fills)
	for i, f := range fills {
		if granted := i < 2; granted && f.Err != nil || !granted && !errors.Is(f.Err, dewar.ErrFenced) {
			t.Errorf("fill %d: %v", i, f.Err)
		}
	}
	for _, key := range []string{dk, refreshKey(vk)} {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl < 30*time.Second || ttl > time.Minute {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
	if ttl := client.PTTL(t.Context(), vk).Val(); ttl < 90*time.Second {
		t.Errorf("the value was cut short to %v", ttl)
	}
	if n := client.Exists(t.Context(), tier.keys.Load().redisKey("gone")).Val(); n != 0 {
		t.Error("something was made by Renew")
	}
}

func TestRefreshLeasesOfManyKeysTakeOneRoundTrip(t *testing.T) {
	mini := startMini(t)
	client := newClient(t, mini.Addr())
	tier := openTier(t, Config[string]{Client: client}, testOptions)
	keys := benchKeys(10)
	for _, key := range keys {
		tier.put(t, key, key)
	}
	tier.back.wg.Wait()                 // the scripts are loaded
	trips := &tripCounter{about: "id-"} // the bus listens with this client too
	client.AddHook(trips)
	found := make([]dewar.Found[string], len(keys))
	tier.LeaseRefresh(t.Context(), keys, found)
	for i, f := range found {
		if f.Entry.Value != keys[i] || f.Refresh == (dewar.Fence{}) {
			t.Errorf("%s: %+v", keys[i], f)
		}
	}
	if n := trips.n.Load(); n != 1 {
		t.Errorf("%d round trips", n)
	}
	for i := range keys {
		if pair := trips.last[2*i : 2*i+2]; pair[0].Name() != "set" || pair[1].Name() != "get" {
			t.Fatalf("%s: looks first and leases later", keys[i])
		}
	}
}
