package redistier

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func TestCachesWhoseClocksAreHoursApartServeAnEntryForItsTTL(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	server := startOwn(t)
	var loads atomic.Int64
	var caches []*dewar.Cache[string, string]
	offs := []time.Duration{0, 5 * time.Hour, -7 * time.Hour}
	for _, off := range offs {
		c, err := dewar.New(dewar.Config[string, string]{
			Name: "videos", TTL: ttl, Jitter: -1, Warm: dewar.Warm{Ahead: -1},
			Local:  memory.Config[string]{MaxEntries: 100},
			Remote: Config[string]{Client: newClient(t, server.addr), Timeout: 10 * time.Second, wall: skewed(off)},
			Load: func(_ context.Context, key string) (string, error) {
				loads.Add(1)
				return "value of " + key, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		caches = append(caches, c)
	}
	var keys []string
	began := time.Now()
	for i, writer := range caches {
		key := fmt.Sprint("loaded by ", offs[i])
		keys = append(keys, key)
		if _, err := writer.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := writer.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, reader := range caches {
		for j, key := range keys {
			want := dewar.TierRemote
			if i == j {
				want = dewar.TierLocal
			}
			r, err := reader.GetResult(t.Context(), key)
			if err != nil || r.Status != dewar.StatusHit || r.Tier != want || r.Age < 0 || r.Age > time.Since(began)+time.Second {
				t.Errorf("%s, read by %v: %+v, %v; want a hit of the %s tier, %v old at most", key, offs[i], r, err, want, time.Since(began))
			}
		}
	}
	if n := loads.Load(); n != int64(len(keys)) {
		t.Errorf("%d loads of %d keys: what the others had was dead on arrival", n, len(keys))
	}

	// What is kept is dead when its TTL is over, for all of them alike.
	raw := newClient(t, server.addr)
	for time.Since(began) < ttl+time.Second {
		time.Sleep(50 * time.Millisecond)
	}
	for i, reader := range caches {
		for _, key := range keys {
			if v, err := reader.Get(t.Context(), key, dewar.CacheOnly()); !errors.Is(err, dewar.ErrNotCached) {
				t.Errorf("%s, read by %v after its TTL: %q, %v", key, offs[i], v, err)
			}
		}
	}
	left, err := raw.Keys(t.Context(), "dewar:*").Result()
	if err != nil || len(left) > 0 {
		t.Errorf("Redis keeps %q, %v", left, err)
	}
}
