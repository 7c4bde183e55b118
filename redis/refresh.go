package redistier

import (
	"context"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// refreshKey returns the key of the refresh lease of what is under dk. A
// Cluster hashes only what stands between the braces: both are in one slot, on
// one node. Nobody else has a key like it, because dk never holds braces.
func refreshKey(dk string) string { return "{" + dk + "}:r" }

// fencedKey returns the Redis key that f.Fence is about.
func fencedKey[V any](ks *keyspace, f *dewar.Fill[V]) string {
	dk := ks.redisKey(f.Key)
	if f.Refresh {
		return refreshKey(dk)
	}
	return dk
}

// LeaseRefresh implements dewar.RemoteTier. Redis carries out the two commands
// of a key in the order sent, so what is found is not older than the lease:
//
//  1. we look, and see the stale value
//  2. another process, which has the refresh lease, fills and releases
//  3. we take the lease, and load what is fresh already
//
// With the lease first, 2 comes before the look or makes the lease refused.
func (t *tier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	rest, err := inBatches(len(keys), func(i, j int) error { return t.leaseRefresh(ctx, keys[i:j], found[i:j]) })
	if err != nil {
		failAll(found[rest:len(keys)], err)
	}
}

func (t *tier[V]) leaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) error {
	bounded, cancel, err := t.bound(ctx, int64(len(keys))*t.mean.Load())
	if err != nil {
		failAll(found, err)
		return err
	}
	defer cancel()
	ks := t.keys.Load()
	dks := ks.redisKeys(keys)
	tokens := newTokens(len(keys))
	px := any(t.leasePX)
	leases := make([]onceString, len(keys))
	looks := make([]*redis.StringCmd, len(keys))
	cmds := make([]redis.Cmder, 0, 2*len(keys))
	for i, dk := range dks {
		leases[i].StringCmd = redis.NewStringCmd(bounded, "set", refreshKey(dk), asString(tokens[i][:]), "nx", "get", "px", px)
		looks[i] = redis.NewStringCmd(bounded, "get", dk)
		cmds = append(cmds, &leases[i], looks[i])
	}
	t.carry(ctx, bounded, writing, dks, cmds)

	var now clocks
	var damaged []swap
	failures, last := 0, error(nil)
	for i := range looks {
		raw, err := looks[i].Result()
		switch {
		case err == nil && now == (clocks{}):
			now = t.clock.read(ctx)
		case err != nil && err != redis.Nil && !isWrongType(err):
			err = t.failed(ctx, "GET", err)
		}
		if t.answer(ks, &found[i], raw, keys[i], now, err) == remainsDamaged {
			damaged = append(damaged, swap{dk: dks[i], seen: raw[:min(len(raw), fenceSize)]})
		}
		if found[i].State == dewar.RemoteFailed {
			failures, last = failures+1, found[i].Err
		}
		// What is under the refresh key and is no lease of ours, is another's.
		switch theirs, err := leases[i].Result(); {
		case err == redis.Nil, err == nil && theirs == asString(tokens[i][:]):
			found[i].Refresh = tokens[i]
			t.wentWell()
		case err != nil && !isWrongType(err):
			_ = t.failed(ctx, "SET NX GET", err) // somebody else may refresh
		}
	}
	if len(damaged) > 0 {
		t.swap(ctx, damaged)
	}
	if failures == len(keys) {
		return last
	}
	return nil
}

// Renew implements dewar.RemoteTier. What is not a lease is not renewed: a
// value would be cut short by it.
func (t *tier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	t.overFences(ctx, fills, func(dk string, f *dewar.Fill[V]) (swap, bool) {
		return swap{dk: dk, seen: asString(f.Fence[:]), renew: true, px: t.leasePX}, f.Fence[3] == kindLease
	})
}

// Release implements dewar.RemoteTier.
func (t *tier[V]) Release(ctx context.Context, fills []dewar.Fill[V]) {
	t.overFences(ctx, fills, func(dk string, f *dewar.Fill[V]) (swap, bool) {
		return swap{dk: dk, seen: asString(f.Fence[:])}, f.Fence != dewar.Fence{}
	})
}

// overFences carries out one swap for each fill, and refuses those of which
// swapOf does.
func (t *tier[V]) overFences(ctx context.Context, fills []dewar.Fill[V], swapOf func(dk string, f *dewar.Fill[V]) (s swap, ok bool)) {
	rest, err := inBatches(len(fills), func(i, j int) error {
		if err := t.barred(ctx); err != nil { // before a refusal that was not asked for
			for k := i; k < j; k++ {
				fills[k].Err = err
			}
			return err
		}
		part, ks := fills[i:j], t.keys.Load()
		swaps := make([]swap, 0, len(part))
		owner := make([]int, 0, len(part))
		for k := range part {
			s, ok := swapOf(fencedKey(ks, &part[k]), &part[k])
			if !ok {
				t.refused.Add(1)
				part[k].Err = dewar.ErrFenced
				continue
			}
			swaps, owner = append(swaps, s), append(owner, k)
		}
		if len(swaps) == 0 {
			return nil
		}
		return t.settle(ctx, part, swaps, owner)
	})
	if err != nil {
		for i := rest; i < len(fills); i++ {
			fills[i].Err = err
		}
	}
}
