package dewar_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// benchRedis starts a redis-server for a benchmark.
func benchRedis(b *testing.B) *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: startRedis(b).addr, ContextTimeoutEnabled: true, PoolSize: 256})
	b.Cleanup(func() { rdb.Close() })
	return rdb
}

// remoteOnly is a cache without a local tier, so that every read goes to Redis.
func remoteOnly(b *testing.B, rdb *redis.Client) *dewar.Cache[string, *video] {
	c, err := dewar.New(dewar.Config[string, *video]{
		Name: "bench", TTL: time.Hour, Warm: dewar.Warm{Ahead: -1},
		Remote: redistier.Config[*video]{Client: rdb}, LoadMany: loadMany,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// plainRedis is what a careful user writes without a library: values under
// their own keys, decoded by the same codec.
type plainRedis struct {
	rdb   *redis.Client
	codec redistier.Codec[*video]
}

func (p plainRedis) set(ctx context.Context, pipe redis.Cmdable, key string, v *video) {
	raw, err := p.codec.Append(nil, v)
	if err != nil {
		panic(err)
	}
	pipe.Set(ctx, "plain:"+key, raw, time.Hour)
}

func (p plainRedis) get(ctx context.Context, c redis.Cmdable, key string) *video {
	raw, err := c.Get(ctx, "plain:"+key).Bytes()
	if err != nil {
		panic(err)
	}
	v, err := p.codec.Decode(raw)
	if err != nil {
		panic(err)
	}
	return v
}

// getMany returns what there is of keys, and which are missing.
func (p plainRedis) getMany(ctx context.Context, keys []string) (map[string]*video, []string) {
	dks := make([]string, len(keys))
	for i, k := range keys {
		dks[i] = "plain:" + k
	}
	raws, err := p.rdb.MGet(ctx, dks...).Result()
	if err != nil {
		panic(err)
	}
	m := make(map[string]*video, len(keys))
	var missing []string
	for i, raw := range raws {
		s, ok := raw.(string)
		if !ok {
			missing = append(missing, keys[i])
			continue
		}
		if m[keys[i]], err = p.codec.Decode([]byte(s)); err != nil {
			panic(err)
		}
	}
	return m, missing
}

// writeFirst loads what is missing and writes it back before it answers.
func (p plainRedis) writeFirst(ctx context.Context, keys []string) {
	m, missing := p.getMany(ctx, keys)
	loaded, _ := loadMany(ctx, missing)
	pipe := p.rdb.Pipeline()
	for k, v := range loaded {
		p.set(ctx, pipe, k, v)
		m[k] = v
	}
	if _, err := pipe.Exec(ctx); err != nil || len(m) != len(keys) {
		panic(fmt.Sprint(len(m), err))
	}
}

// halfMissing makes batches of 50 keys that are in Redis and 50 that are
// nowhere.
type halfMissing struct {
	keys  []string
	fresh atomic.Int64
}

func newHalfMissing(keys []string) *halfMissing { return &halfMissing{keys: keys} }

func (h *halfMissing) batch(i int) []string {
	at := i * 50 % len(h.keys)
	mixed := append(make([]string, 0, 100), h.keys[at:at+50]...)
	n := h.fresh.Add(50)
	for j := range int64(50) {
		mixed = append(mixed, fmt.Sprintf("fresh:%018d", n+j))
	}
	return mixed
}

const benchRemoteKeys = 10_000

// fillRemote puts the same values into Redis for both.
func fillRemote(b *testing.B, c *dewar.Cache[string, *video], p plainRedis, keys []string) {
	ctx := context.Background()
	pipe := p.rdb.Pipeline()
	for _, k := range keys {
		p.set(ctx, pipe, k, newVideo(k))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(keys); i += 100 {
		if _, err := c.GetMany(ctx, keys[i:i+100]); err != nil {
			b.Fatal(err)
		}
		if err := c.Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// concurrently shares b.N calls among n callers.
func concurrently(b *testing.B, n int, call func(i int)) {
	b.ReportAllocs()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				call(int(i))
			}
		})
	}
	wg.Wait()
}

// BenchmarkRemoteHit is a hit in Redis of different keys, beside go-redis GET
// and decode.
func BenchmarkRemoteHit(b *testing.B) {
	rdb := benchRedis(b)
	c, p := remoteOnly(b, rdb), plainRedis{rdb, redistier.CBOR[*video]()}
	keys := benchKeys(benchRemoteKeys)
	fillRemote(b, c, p, keys)
	ctx := context.Background()
	for _, callers := range []int{1, 64, 256} {
		b.Run("callers="+strconv.Itoa(callers)+"/dewar", func(b *testing.B) {
			concurrently(b, callers, func(i int) {
				if v, err := c.Get(ctx, keys[i*7919%len(keys)]); err != nil || v == nil {
					panic(fmt.Sprint(v, err))
				}
			})
		})
		b.Run("callers="+strconv.Itoa(callers)+"/go-redis", func(b *testing.B) {
			concurrently(b, callers, func(i int) { p.get(ctx, rdb, keys[i*7919%len(keys)]) })
		})
	}
	if s := c.Stats(); s.Loads > benchRemoteKeys/100 {
		b.Fatalf("%d loads: not all reads were hits", s.Loads)
	}
}

// BenchmarkGetMany100Remote is 100 hits in Redis, beside MGET and decode.
func BenchmarkGetMany100Remote(b *testing.B) {
	rdb := benchRedis(b)
	c, p := remoteOnly(b, rdb), plainRedis{rdb, redistier.CBOR[*video]()}
	keys := benchKeys(benchRemoteKeys)
	fillRemote(b, c, p, keys)
	ctx := context.Background()
	batch := func(i int) []string { at := i * 100 % len(keys); return keys[at : at+100] }
	b.Run("dewar", func(b *testing.B) {
		concurrently(b, 1, func(i int) {
			if m, err := c.GetMany(ctx, batch(i)); len(m) != 100 || err != nil {
				panic(fmt.Sprint(len(m), err))
			}
		})
	})
	b.Run("mget", func(b *testing.B) {
		concurrently(b, 1, func(i int) {
			if m, _ := p.getMany(ctx, batch(i)); len(m) != 100 {
				panic(len(m))
			}
		})
	})
}

// BenchmarkGetMany100HalfMissing is 50 hits in Redis and 50 keys that are
// nowhere, before an origin that costs nothing, beside MGET, load, and a
// pipeline of SETs before answering.
func BenchmarkGetMany100HalfMissing(b *testing.B) {
	rdb := benchRedis(b)
	c, p := remoteOnly(b, rdb), plainRedis{rdb, redistier.CBOR[*video]()}
	keys := benchKeys(benchRemoteKeys)
	fillRemote(b, c, p, keys)
	ctx := context.Background()
	half := newHalfMissing(keys)
	for _, callers := range []int{1, 64} {
		b.Run("callers="+strconv.Itoa(callers)+"/dewar", func(b *testing.B) {
			concurrently(b, callers, func(i int) {
				if m, err := c.GetMany(ctx, half.batch(i)); len(m) != 100 || err != nil {
					panic(fmt.Sprint(len(m), err))
				}
			})
			b.StopTimer()
			_ = c.Wait(ctx)
			b.ReportMetric(float64(c.Stats().WritesDropped), "dropped")
		})
		b.Run("callers="+strconv.Itoa(callers)+"/write-first", func(b *testing.B) {
			concurrently(b, callers, func(i int) { p.writeFirst(ctx, half.batch(i)) })
		})
	}
}
