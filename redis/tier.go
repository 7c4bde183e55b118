package redistier

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// tier is the remote tier of one cache.
type tier[V any] struct {
	wire
	follower
	codec       Codec[V]
	into        inPlace[V] // the codec, if it can
	codecNumber byte
	zip         compressor
	seal        *sealer // nil: values are not sealed
	maxValue    int     // bytes
	leasePX     int64   // ms

	foreign, corrupt, refused atomic.Uint64
}

// inBatches calls do for consecutive ranges of n keys, at most maxBatch each.
// When one could not be sent or answered the others are not tried, so that a
// dead Redis costs one Timeout: the error is that of all keys from rest on.
func inBatches(n int, do func(i, j int) error) (rest int, err error) {
	for i := 0; i < n; i += maxBatch {
		j := min(i+maxBatch, n)
		if err := do(i, j); err != nil {
			return j, err
		}
	}
	return n, nil
}

func failAll[V any](found []dewar.Found[V], err error) {
	for i := range found {
		found[i] = dewar.Found[V]{State: dewar.RemoteFailed, Err: err}
	}
}

// Read implements dewar.RemoteTier.
func (t *tier[V]) Read(ctx context.Context, keys []string, found []dewar.Found[V]) {
	rest, err := inBatches(len(keys), func(i, j int) error { return t.read(ctx, keys[i:j], found[i:j]) })
	if err != nil {
		failAll(found[rest:len(keys)], err)
	}
}

func (t *tier[V]) read(ctx context.Context, keys []string, found []dewar.Found[V]) error {
	ks := t.keys.Load()
	dks := ks.redisKeys(keys)
	var damaged struct {
		mu    sync.Mutex // mu guards swaps
		swaps []swap
	}
	t.fetch(ctx, dks, func(i int, raw string, now clocks, err error) {
		if t.answer(ks, &found[i], raw, keys[i], now, err) == remainsDamaged {
			damaged.mu.Lock()
			defer damaged.mu.Unlock()
			damaged.swaps = append(damaged.swaps, swap{dk: dks[i], seen: strings.Clone(raw[:min(len(raw), fenceSize)])})
		}
	})
	if len(damaged.swaps) > 0 {
		// Deleted now rather than at the next Lease, which may be long in
		// coming: readers that only look would decode it again and again.
		t.swap(ctx, damaged.swaps)
	}
	return noneFound(found)
}

// noneFound returns one of the errors of found if all failed.
func noneFound[V any](found []dewar.Found[V]) error {
	for i := range found {
		if found[i].State != dewar.RemoteFailed {
			return nil
		}
	}
	return found[0].Err
}

// answer sets f to what looking up key gave: raw, or err.
func (t *tier[V]) answer(ks *keyspace, f *dewar.Found[V], raw, key string, now clocks, err error) remains {
	switch {
	case err == nil:
		return t.judge(ks, raw, key, now, f)
	case err == redis.Nil:
		*f = dewar.Found[V]{State: dewar.RemoteAbsent}
	case isWrongType(err):
		t.foreign.Add(1)
		*f = dewar.Found[V]{State: dewar.RemoteForeign}
	default:
		*f = dewar.Found[V]{State: dewar.RemoteFailed, Err: err}
	}
	return remainsAsIs
}

// remains says what is to be done with the bytes that judge looked at.
type remains uint8

const (
	remainsAsIs    remains = iota
	remainsDead            // alive in Redis, dead by its own times: may be replaced
	remainsDamaged         // of no use to anybody: to be deleted
)

// judge sets f to what raw is, found under key of ks at now. What is dead or
// damaged is RemoteAbsent.
func (t *tier[V]) judge(ks *keyspace, raw, key string, now clocks, f *dewar.Found[V]) remains {
	*f = dewar.Found[V]{}
	var env envelope
	switch ks.parse(asBytes(raw), key, &env) {
	case isForeign:
		t.foreign.Add(1)
		f.State = dewar.RemoteForeign
		return remainsAsIs
	case isCorrupt:
		t.corrupt.Add(1)
		return remainsDamaged
	case isLease:
		f.State, f.Fence = dewar.RemoteLeased, env.fence
		return remainsAsIs
	}
	if !now.clamp(&env) {
		return remainsDead
	}
	v := isForeign
	if env.kind == kindNegative || env.codec == t.codecNumber {
		v = t.unpack(ks, asBytes(raw), key, &env, &f.Entry.Value)
	}
	switch v {
	case isForeign:
		// Written by a process that is configured otherwise. Deleting it would
		// make the two delete each other's values for ever.
		t.foreign.Add(1)
		*f = dewar.Found[V]{State: dewar.RemoteForeign}
		return remainsAsIs
	case isCorrupt:
		t.corrupt.Add(1)
		*f = dewar.Found[V]{}
		return remainsDamaged
	}
	loaded, fresh := now.toClock(env.loaded), now.toClock(env.fresh)
	if env.kind == kindNegative {
		f.Entry = dewar.NegativeEntry[V](loaded, fresh)
	} else {
		f.Entry.Loaded, f.Entry.Due, f.Entry.Fresh = loaded, fresh, fresh
	}
	f.State, f.Fence = dewar.RemoteValue, env.fence
	f.Took = max(0, time.Duration(env.took))
	return remainsAsIs
}

// unpack sets *v to what the payload of env holds, which was parsed of raw
// under key: isEntry if it could. It guards against codecs that panic: a value
// that was written by a newer version of the program is no reason to end this
// one.
func (t *tier[V]) unpack(ks *keyspace, raw []byte, key string, env *envelope, v *V) (is verdict) {
	defer func() {
		if recover() != nil {
			is = isCorrupt
		}
	}()
	if t.seal == nil && env.flags == 0 {
		return t.decode(env, env.payload, v)
	}
	opened, grown := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	defer putBuffer(opened)
	defer putBuffer(grown)
	payload, is := t.seal.open(*ks, raw, key, env, opened)
	if is != isEntry {
		return is
	}
	if env.flags&flagCompressed != 0 {
		plain, err := t.zip.grow(*grown, payload)
		if err != nil {
			return isCorrupt
		}
		payload, *grown = plain, plain
	}
	return t.decode(env, payload, v)
}

func (t *tier[V]) decode(env *envelope, payload []byte, v *V) verdict {
	var err error
	switch {
	case env.kind == kindNegative: // there is nothing in it
	case t.into != nil:
		err = t.into.decodeInto(payload, v)
	default:
		*v, err = t.codec.Decode(payload)
	}
	if err != nil {
		return isCorrupt
	}
	return isEntry
}

// Lease implements dewar.RemoteTier.
func (t *tier[V]) Lease(ctx context.Context, keys []string, found []dewar.Found[V]) {
	rest, err := inBatches(len(keys), func(i, j int) error { return t.lease(ctx, keys[i:j], found[i:j]) })
	if err != nil {
		failAll(found[rest:len(keys)], err)
	}
}

func (t *tier[V]) lease(ctx context.Context, keys []string, found []dewar.Found[V]) error {
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

	const most = 7 // arguments of one command
	args := make([]any, 0, most*len(keys))
	strs := make([]onceString, len(keys))
	cmds := make([]redis.Cmder, len(keys))
	for i, dk := range dks {
		start := len(args)
		args = append(args, "set", dk, asString(tokens[i][:]), "nx", "get", "px", px)
		strs[i].StringCmd = redis.NewStringCmd(bounded, args[start:len(args):len(args)]...)
		cmds[i] = &strs[i]
	}
	t.carry(ctx, bounded, writing, dks, cmds)

	var now clocks
	var takeovers []swap
	var taken []int // keys of takeovers
	failures, last := 0, error(nil)
	for i := range strs {
		f := &found[i]
		raw, err := strs[i].Result()
		switch {
		case err == redis.Nil, err == nil && raw == asString(tokens[i][:]):
			*f = dewar.Found[V]{State: dewar.RemoteGranted, Fence: tokens[i]}
		case err == nil:
			if now == (clocks{}) {
				now = t.clock.read(ctx)
			}
			if t.judge(ks, raw, keys[i], now, f) != remainsAsIs {
				takeovers = append(takeovers, swap{
					dk:   dks[i],
					seen: raw[:min(len(raw), fenceSize)],
					put:  asString(tokens[i][:]),
					px:   t.leasePX,
				})
				taken = append(taken, i)
			}
		case isWrongType(err):
			t.foreign.Add(1)
			*f = dewar.Found[V]{State: dewar.RemoteForeign}
		default:
			last = t.failed(ctx, "SET NX GET", err)
			failures++
			*f = dewar.Found[V]{State: dewar.RemoteFailed, Err: last}
			continue
		}
		t.wentWell()
	}
	t.takeOver(ctx, takeovers, taken, tokens, found)
	if failures == len(keys) {
		return last
	}
	return nil
}

// takeOver puts leases over what is dead or damaged but still there.
func (t *tier[V]) takeOver(ctx context.Context, takeovers []swap, taken []int, tokens []dewar.Fence, found []dewar.Found[V]) {
	if len(takeovers) == 0 {
		return
	}
	t.swap(ctx, takeovers)
	for k, i := range taken {
		switch s := &takeovers[k]; {
		case s.err != nil:
			found[i] = dewar.Found[V]{State: dewar.RemoteFailed, Err: s.err}
		case s.done:
			found[i] = dewar.Found[V]{State: dewar.RemoteGranted, Fence: tokens[i]}
		default: // somebody was quicker
			found[i] = dewar.Found[V]{State: dewar.RemoteLeased}
		}
	}
}

// newTokens returns the leases of n attempts. A lease is its fence, no more.
func newTokens(n int) []dewar.Fence {
	tokens := make([]dewar.Fence, n)
	for i := range tokens {
		tokens[i] = newFence(kindLease)
	}
	return tokens
}

// Seize implements dewar.RemoteTier.
func (t *tier[V]) Seize(ctx context.Context, keys []string, found []dewar.Found[V]) {
	rest, err := inBatches(len(keys), func(i, j int) error { return t.seize(ctx, keys[i:j], found[i:j]) })
	if err != nil {
		failAll(found[rest:len(keys)], err)
	}
}

func (t *tier[V]) seize(ctx context.Context, keys []string, found []dewar.Found[V]) error {
	bounded, cancel, err := t.bound(ctx, 0)
	if err != nil {
		failAll(found, err)
		return err
	}
	defer cancel()
	tokens := newTokens(len(keys))
	stats := make([]onceStatus, len(keys))
	cmds := make([]redis.Cmder, len(keys))
	dks := t.keys.Load().redisKeys(keys)
	for i, dk := range dks {
		stats[i].StatusCmd = redis.NewStatusCmd(bounded, "set", dk, asString(tokens[i][:]), "px", t.leasePX)
		cmds[i] = &stats[i]
	}
	t.carry(ctx, bounded, writing, dks, cmds)
	failures, last := 0, error(nil)
	for i := range stats {
		if err := stats[i].Err(); err != nil {
			last = t.failed(ctx, "SET", err)
			failures++
			found[i] = dewar.Found[V]{State: dewar.RemoteFailed, Err: last}
			continue
		}
		t.wentWell()
		found[i] = dewar.Found[V]{State: dewar.RemoteGranted, Fence: tokens[i]}
	}
	if failures == len(keys) {
		return last
	}
	return nil
}

// Unlink implements dewar.RemoteTier.
func (t *tier[V]) Unlink(ctx context.Context, keys []string, errs []error) {
	rest, err := inBatches(len(keys), func(i, j int) error {
		t.unlink(ctx, t.keys.Load().redisKeys(keys[i:j]), errs[i:j])
		return allFailed(errs[i:j])
	})
	if err != nil {
		fill(errs[rest:len(keys)], err)
	}
}

// allFailed returns one of errs if none of them is nil.
func allFailed(errs []error) error {
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errs[0]
}

// Stats implements dewar.RemoteTier.
func (t *tier[V]) Stats() dewar.RemoteStats {
	s := dewar.RemoteStats{
		Foreign: t.foreign.Load(),
		Corrupt: t.corrupt.Load(),
		Refused: t.refused.Load(),
		Errors:  t.errors.Load(),
		Denied:  t.denied.Load(),

		OpenBreakers: t.nodes.open(),
	}
	t.busStats(&s)
	return s
}

// Close implements dewar.RemoteTier. What is sent already ends by itself,
// bounded by Timeout; what is asked afterwards fails with dewar.ErrClosed. It
// waits for the bus's reader if no other tier needs it.
func (t *tier[V]) Close() error {
	t.leaving.Do(t.leave)
	t.stop()
	return nil
}
