package redistier

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// expireRounds is how often Expire looks again when somebody wrote in between
// looking and writing. Then it deletes, which always succeeds.
const expireRounds = 3

// Expire implements dewar.RemoteTier. A value is replaced by itself, stale and
// under a new stamp, also when it was stale before:
//
//  1. a refresher reads the stale value and its fence, and loads
//  2. the origin is changed, Expire is called
//  3. the refresher fills over its fence what it loaded before the change
//
// Were the stamp left as it is, 3 would make the old value fresh. Nothing is
// kept longer by it than it would have been.
func (t *tier[V]) Expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	if keep <= 0 {
		t.Unlink(ctx, keys, errs)
		return
	}
	rest, err := inBatches(len(keys), func(i, j int) error {
		t.expire(ctx, keys[i:j], keep, errs[i:j])
		return allFailed(errs[i:j])
	})
	if err != nil {
		fill(errs[rest:len(keys)], err)
	}
}

func (t *tier[V]) expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	ks := t.keys.Load()
	dks := ks.redisKeys(keys)
	open := make([]int, len(keys)) // keys that are not settled
	for i := range open {
		open[i] = i
	}
	var hopeless []int // keys to be deleted
	for range expireRounds {
		var swaps []swap
		var owner []int
		looked := make([]string, len(open))
		for k, i := range open {
			looked[k] = dks[i]
		}
		var mu sync.Mutex // mu guards hopeless, swaps and owner
		t.fetch(ctx, looked, func(k int, raw string, now clocks, err error) {
			mu.Lock()
			defer mu.Unlock()
			i := open[k]
			switch {
			case err == redis.Nil:
				// MGET says so of other types too, but those serve nobody.
				errs[i] = nil
			case err == nil:
				s, ok := t.stale(ks, raw, keys[i], dks[i], now, keep)
				if !ok {
					hopeless = append(hopeless, i)
					return
				}
				swaps, owner = append(swaps, s), append(owner, i)
			case isWrongType(err):
				hopeless = append(hopeless, i)
			default:
				errs[i] = err
			}
		})
		open = open[:0]
		if len(swaps) > 0 {
			t.swap(ctx, swaps)
		}
		for k, i := range owner {
			switch s := &swaps[k]; {
			case s.err != nil:
				errs[i] = s.err
			case s.done:
				errs[i] = nil
			default:
				open = append(open, i)
			}
		}
		if len(open) == 0 {
			break
		}
	}
	t.unlinkSome(ctx, dks, append(hopeless, open...), errs)
}

// stale returns the write that makes raw stale, or that deletes it if it is a
// lease, negative or dead; ok is false when raw cannot be read.
func (t *tier[V]) stale(ks *keyspace, raw, key, dk string, now clocks, keep time.Duration) (s swap, ok bool) {
	var env envelope
	switch ks.parse(asBytes(raw), key, &env) {
	case isForeign, isCorrupt:
		return swap{}, false
	case isLease:
		return swap{dk: dk, seen: strings.Clone(raw[:fenceSize])}, true
	}
	s = swap{dk: dk, seen: strings.Clone(raw[:fenceSize])}
	if !now.clamp(&env) || env.kind == kindNegative {
		return s, true
	}
	payload, sealed := env.payload, env.flags&flagSealed != 0
	if sealed {
		// The seal covers stamp and times: it is opened and made anew. What is
		// not sealed stays that way, whoever wrote it.
		scratch := buffers.Get().(*[]byte)
		defer putBuffer(scratch)
		var is verdict
		if payload, is = t.seal.open(*ks, asBytes(raw), key, &env, scratch); is != isEntry {
			return swap{}, false
		}
	}
	env.fence = newFence(kindValue)
	env.fresh = min(env.fresh, now.unix)
	if until := now.unix + int64(min(keep, maxKeep)); until < env.dead {
		env.dead = until
	}
	s.px = millis(time.Duration(env.dead - now.unix))
	hashed := ks.hashed(dk)
	out := make([]byte, 0, len(raw)+sealOverhead)
	out = openEnvelope(out, &env, key, hashed)
	body := len(out)
	out = append(out, payload...)
	if sealed {
		out = t.seal.seal(*ks, out, 0, body, key)
	}
	ks.closeEnvelope(out, key)
	s.put = asString(out)
	return s, true
}

// unlinkSome deletes the keys at the given indexes.
func (t *tier[V]) unlinkSome(ctx context.Context, dks []string, which []int, errs []error) {
	if len(which) == 0 {
		return
	}
	some := make([]string, len(which))
	for k, i := range which {
		some[k] = dks[i]
	}
	result := make([]error, len(which))
	t.unlink(ctx, some, result)
	for k, i := range which {
		errs[i] = result[k]
	}
}

var _ dewar.RemoteTier[string] = (*tier[string])(nil)
