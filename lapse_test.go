package dewar_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// The old value expires in the remote tier while its refresh is loading: the
// fill finds its fence gone, but nobody has written or invalidated the key.
func TestARefreshThatOutlivesTheOldValueIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		c := dewartest.New(t, dewar.Config[string, int64]{
			TTL: 10 * time.Second, Jitter: -1, Remote: dewartest.NewRemote[int64](),
			Load: func(context.Context, string) (int64, error) {
				n := loads.Add(1)
				if n > 1 {
					time.Sleep(200 * time.Millisecond)
				}
				return n, nil
			},
		})
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9900 * time.Millisecond)
		if v, err := c.Get(t.Context(), "k"); v != 1 || err != nil { // due: refreshed until 10.1 s
			t.Fatal(v, err)
		}
		time.Sleep(time.Second)
		if s := c.Stats(); s.FillsRefused != 1 {
			t.Fatalf("the old value did not expire under the refresh: %+v", s)
		}
		if r, err := c.GetResult(t.Context(), "k"); r.Value != 2 || r.Tier != dewar.TierLocal || err != nil {
			t.Errorf("%+v, %v", r, err)
		}
		if n := loads.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestACacheOnlyReaderWhoLeavesGetsItsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chaos := &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
		c := dewartest.New(t, dewar.Config[string, string]{
			Remote: chaos, Load: func(_ context.Context, k string) (string, error) { return k, nil },
		})
		chaos.Delay(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Get(ctx, "k", dewar.CacheOnly()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestWritesOfSeveralKeysTellOfEachWhenTheCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chaos := &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
		c := dewartest.New(t, dewar.Config[string, string]{
			Remote: chaos, Load: func(_ context.Context, k string) (string, error) { return k, nil },
		})
		chaos.Delay(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := c.Invalidate(ctx, "a", "b")
		batch, ok := errors.AsType[*dewar.BatchError[string]](err)
		if !ok || len(batch.Errs) != 2 || batch.Errs[0].Key != "a" || !errors.Is(batch.For("b"), dewar.ErrInvalidationPending) {
			t.Error(err)
		}
		chaos.Delay(0)
	})
}
