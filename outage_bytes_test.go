package dewar_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/dewarcache/dewar"
)

// damage alters what Redis has under each of our keys.
func damage(t *testing.T, rdb *redis.Client, alter func(raw []byte) []byte) {
	t.Helper()
	ctx := t.Context()
	keys := rdb.Keys(ctx, "dewar:*").Val() // not the bus
	if len(keys) == 0 {
		t.Fatal("Redis has no keys")
	}
	for _, k := range keys {
		raw, err := rdb.Get(ctx, k).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(ctx, k, alter(raw), redis.KeepTTL).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadersAreWellWhateverBytesRedisHolds(t *testing.T) {
	mini := miniredis.RunT(t)
	for name, alter := range map[string]func([]byte) []byte{
		"foreign":         func([]byte) []byte { return []byte("something else altogether, which is long enough to be one") },
		"empty":           func([]byte) []byte { return nil },
		"one byte":        func(raw []byte) []byte { return raw[:1] },
		"our magic only":  func(raw []byte) []byte { return raw[:2] },
		"cut in the head": func(raw []byte) []byte { return raw[:25] },
		"cut at the end":  func(raw []byte) []byte { return raw[:len(raw)-1] },
		"longer":          func(raw []byte) []byte { return append(raw, 0) },
		"newer format":    func(raw []byte) []byte { raw[2] = 200; return raw },
		"other kind":      func(raw []byte) []byte { raw[3] ^= 0x55; return raw },
		"bad stamp":       func(raw []byte) []byte { raw[10] ^= 1; return raw },
		"bad times":       func(raw []byte) []byte { raw[24] ^= 0x80; return raw },
		"bad payload":     func(raw []byte) []byte { raw[len(raw)-2] ^= 1; return raw },
		"all zero":        func(raw []byte) []byte { clear(raw); return raw },
		"all one":         func(raw []byte) []byte { return slices.Repeat([]byte{0xff}, len(raw)) },
		"random": func(raw []byte) []byte {
			for i := range raw {
				raw[i] = byte(rand.IntN(256))
			}
			return raw
		},
		"random behind the head": func(raw []byte) []byte {
			for i := 4; i < len(raw); i++ {
				raw[i] = byte(rand.IntN(256))
			}
			return raw
		},
		"10 MB": func(raw []byte) []byte { return append(raw, make([]byte, 10<<20)...) },
	} {
		t.Run(name, func(t *testing.T) {
			mini.FlushAll()
			origin := newLedger()
			writer := openOn(t, mini.Addr(), origin)
			for i := range 3 {
				if _, err := writer.Get(t.Context(), fmt.Sprint("key", i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := writer.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			damage(t, redisClient(t, mini.Addr()), alter)
			readersAreWell(t, openOn(t, mini.Addr(), origin), origin, "key", 5*time.Second)
		})
	}
}

// Every single flipped bit and every cut of a stored value is a miss.
func TestNoDamagedBitIsServed(t *testing.T) {
	mini := miniredis.RunT(t)
	origin := newLedger()
	writer := openOn(t, mini.Addr(), origin)
	if _, err := writer.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	writer.Wait(t.Context())
	key := mini.Keys()[0]
	whole, err := mini.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	ttl := mini.TTL(key)
	reader := openOn(t, mini.Addr(), origin, func(cfg *fleetConfig) { cfg.Local = nil })
	try := func(what, raw string) {
		mini.Set(key, raw)
		mini.SetTTL(key, ttl)
		r, err := reader.GetResult(t.Context(), "k", dewar.CacheOnly())
		if err == nil && (r.Value != "k@0" || r.Status != dewar.StatusHit) || err == nil && what != "whole" {
			t.Errorf("%s: %+v", what, r)
		} else if err != nil && what == "whole" {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("whole", whole)
	for i := range len(whole) {
		for bit := range 8 {
			raw := []byte(whole)
			raw[i] ^= 1 << bit
			try(fmt.Sprintf("bit %d of byte %d flipped", bit, i), string(raw))
		}
		try(fmt.Sprintf("cut to %d bytes", i), whole[:i])
	}
	try("whole", whole)
}

func TestReadersAreWellWhenTheirKeysHoldOtherTypes(t *testing.T) {
	server := startRedis(t)
	origin := newLedger()
	writer := openOn(t, server.addr, origin)
	keys := []string{"key0", "key1", "key2", "key3"}
	if _, err := writer.GetMany(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	writer.Wait(t.Context())
	rdb := redisClient(t, server.addr)
	for i, k := range rdb.Keys(t.Context(), "dewar:*").Val() {
		rdb.Del(t.Context(), k)
		switch i % 4 {
		case 0:
			rdb.HSet(t.Context(), k, "a", "b")
		case 1:
			rdb.LPush(t.Context(), k, "a")
		case 2:
			rdb.ZAdd(t.Context(), k, redis.Z{Score: 1, Member: "a"})
		case 3:
			rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: k, Values: []string{"a", "b"}})
		}
	}
	readersAreWell(t, openOn(t, server.addr, origin), origin, "key", 2*time.Second)
	lone := openOn(t, server.addr, origin, func(cfg *fleetConfig) { cfg.Local = nil })
	readersAreWell(t, lone, origin, "key", 2*time.Second)
	for _, k := range keys {
		origin.commit(k)
		if err := lone.Invalidate(t.Context(), k); err != nil {
			t.Errorf("Invalidate: %v", err)
		}
		if v, err := lone.Get(t.Context(), k); v != k+"@1" || err != nil {
			t.Error(v, err)
		}
	}
}
