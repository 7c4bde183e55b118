package dewar_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
	redistier "github.com/dewarcache/dewar/redis"
)

// Keys and values that somebody else chose.

func hostileKeys() []string {
	long := strings.Repeat("x", 1<<20)
	keys := []string{
		"", " ", "\x00", "\x00\x00", "a\x00", "a\x00b", "\n", "a\r\nDEL b\r\n", "\t", "*1\r\n$8\r\nFLUSHALL\r\n",
		"{", "}", "{}", "{a}", "{a}b", "a{b}", "{{a}}", "}{", "{}a", "%7Ba%7D", "%7ba%7d", "%", "%%", "%25", "%0", `\{`, `\`, `\\`,
		":", "::", ":a", "a:", "a:b", "a::b", "fleet:0:k", "dewar:1:fleet:0:k", "r", ":r", "a:r", "k:r",
		"\xff", "\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "é", "e\u0301", "É", "\u202e", "\ufeff", "😀",
		strings.Repeat("a", 200), strings.Repeat("a", 201), strings.Repeat("a", 199) + "{", strings.Repeat("a", 250),
		strings.Repeat("{", 200), long, long + "y", long[1:], "*", "?", "[a-z]", "${a}", "$(reboot)", "'; DROP TABLE", "%s%d%n",
	}
	for n := 120; n < 204; n++ { // around the length at which keys are hashed
		keys = append(keys, strings.Repeat("b", n))
	}
	return keys
}

func engines[V any]() map[string]dewar.LocalOpener[V] {
	return map[string]dewar.LocalOpener[V]{
		"ristretto":   memory.Config[V]{MaxEntries: 10_000},
		"otter":       memory.Otter[V]{MaxEntries: 10_000},
		"remote only": nil,
	}
}

// forEachRedis runs test on a miniredis and on a real server.
func forEachRedis(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("miniredis", func(t *testing.T) { test(t, miniredis.RunT(t).Addr()) })
	t.Run("redis", func(t *testing.T) { test(t, startRedis(t).addr) })
}

func shorten(key string) string { return fmt.Sprintf("%.40q (%d bytes)", key, len(key)) }

// shortValue stands for a value that may have the length of a key.
func shortValue(v string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(v))) }

func TestKeysOfAnyBytesAreDistinctAndWork(t *testing.T) {
	keys := hostileKeys()
	forEachRedis(t, func(t *testing.T, addr string) {
		for name, local := range engines[string]() {
			t.Run(name, func(t *testing.T) {
				redisClient(t, addr).FlushAll(t.Context())
				origin := newLedger()
				use := func(cfg *fleetConfig) {
					cfg.Local = local
					cfg.Load = func(_ context.Context, k string) (string, error) {
						v, err := origin.load(k)
						return shortValue(v), err
					}
				}
				a := openOn(t, addr, origin, use)
				for _, k := range keys {
					if v, err := a.Get(t.Context(), k); v != shortValue(valueAt(k, 0)) || err != nil {
						t.Errorf("Get(%s) = %s, %v", shorten(k), shorten(v), err)
					}
				}
				if err := a.Wait(t.Context()); err != nil {
					t.Error(err)
				}

				// Another process finds each of them in Redis.
				b := openOn(t, addr, origin, use)
				rs, err := b.GetManyResults(t.Context(), keys)
				if err != nil || len(rs) != len(keys) {
					t.Errorf("%d results of %d keys, %v", len(rs), len(keys), err)
				}
				for _, k := range keys {
					if r := rs[k]; r.Value != shortValue(valueAt(k, 0)) || r.Tier != dewar.TierRemote {
						t.Errorf("the other process's %s = %s from %q", shorten(k), shorten(r.Value), r.Tier)
					}
				}

				// A write touches the one key and no other.
				for i, k := range keys {
					version := origin.commit(k)
					switch i % 4 {
					case 0:
						err = a.Invalidate(t.Context(), k)
					case 1:
						err = a.Set(t.Context(), k, shortValue(valueAt(k, version)))
					case 2:
						err = a.Expire(t.Context(), k)
					case 3:
						err = a.Refresh(t.Context(), k)
					}
					if err != nil {
						t.Errorf("the write of %s: %v", shorten(k), err)
					}
				}
				m, err := a.GetMany(t.Context(), keys)
				if err != nil {
					t.Error(err)
				}
				for _, k := range keys {
					if m[k] != shortValue(valueAt(k, 1)) {
						t.Errorf("%s = %s after the write", shorten(k), shorten(m[k]))
					}
					if n := origin.loadsOf(k); n > 2 {
						t.Errorf("%s was loaded %d times: another key's write removed it", shorten(k), n)
					}
				}
				if err := a.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestManyHostileKeysInOneErrorAreReadable(t *testing.T) {
	origin := newLedger()
	origin.fail(errors.New("down"))
	c := openOn(t, miniredis.RunT(t).Addr(), origin)
	_, err := c.GetMany(t.Context(), hostileKeys())
	if err == nil || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x00\r\n") {
		t.Errorf("the error has %d bytes: %.200q", len(fmt.Sprint(err)), fmt.Sprint(err))
	}
}

func TestValuesTooLargeForTheRemoteTierStayLocal(t *testing.T) {
	huge := strings.Repeat("v", 1<<20+1)
	forEachRedis(t, func(t *testing.T, addr string) {
		for name, local := range engines[string]() {
			if local == nil {
				continue
			}
			t.Run(name, func(t *testing.T) {
				rdb := redisClient(t, addr)
				rdb.FlushAll(t.Context())
				loads := 0
				c := openOn(t, addr, nil, func(cfg *fleetConfig) {
					cfg.Local = local
					cfg.Load = func(context.Context, string) (string, error) { loads++; return huge, nil }
				})
				for range 3 {
					if v, err := c.Get(t.Context(), "k"); v != huge || err != nil {
						t.Error(len(v), err)
					}
				}
				if loads != 1 {
					t.Errorf("%d loads: it is not kept locally", loads)
				}
				if err := c.Wait(t.Context()); !errors.Is(err, dewar.ErrUnencodable) {
					t.Errorf("Wait: %v", err)
				}
				if n := c.Stats().WritesFailed; n != 1 {
					t.Errorf("%d writes counted as failed", n)
				}

				if err := c.Set(t.Context(), "s", "small"); err != nil {
					t.Error(err)
				}
				if err := c.Set(t.Context(), "s", huge); !errors.Is(err, dewar.ErrUnencodable) {
					t.Errorf("Set: %v", err)
				}
				if v, err := c.Get(t.Context(), "s", dewar.CacheOnly()); v != huge || err != nil {
					t.Error(len(v), err)
				}
				other := openOn(t, addr, nil, func(cfg *fleetConfig) {
					cfg.Load = func(context.Context, string) (string, error) { return "loaded", nil }
				})
				if v, err := other.Get(t.Context(), "s"); v != "loaded" || err != nil {
					t.Errorf("another process has %.20q, %v: the old value was left", v, err)
				}
				if err := c.SetMany(t.Context(), map[string]string{"h": huge, "t": "tiny"}); !errors.Is(err, dewar.ErrUnencodable) {
					t.Errorf("SetMany: %v", err)
				}
				if v, err := other.Get(t.Context(), "t", dewar.CacheOnly()); v != "tiny" || err != nil {
					t.Errorf("the value beside the huge one: %q, %v", v, err)
				}
			})
		}
	})
}

func TestValuesUpToTheBoundAreShared(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	large := strings.Repeat("v", 1<<20-16) // the codec adds a few bytes
	a, b := openOn(t, addr, newLedger()), openOn(t, addr, newLedger())
	for k, v := range map[string]string{"large": large, "empty": "", "nul": "\x00", "invalid": "\xff\xfe"} {
		if err := a.Set(t.Context(), k, v); err != nil {
			t.Errorf("%s: %v", k, err)
		}
		if got, err := b.Get(t.Context(), k, dewar.CacheOnly()); got != v || err != nil {
			t.Errorf("%s: %d bytes, %v", k, len(got), err)
		}
	}
}

type badCodec struct{ how string }

func (c badCodec) Append(dst []byte, v string) ([]byte, error) {
	switch c.how {
	case "append panics":
		panic("append")
	case "append fails":
		return nil, errors.New("append")
	case "append loses":
		return nil, nil
	}
	return append(dst, v...), nil
}

func (c badCodec) Decode(src []byte) (string, error) {
	switch c.how {
	case "decode panics":
		panic("decode")
	case "decode fails":
		return "", errors.New("decode")
	}
	return string(src), nil
}

func TestACodecThatMisbehavesCostsALoadAndNoMore(t *testing.T) {
	mini := miniredis.RunT(t)
	for _, how := range []string{"append panics", "append fails", "append loses", "decode panics", "decode fails"} {
		t.Run(how, func(t *testing.T) {
			mini.FlushAll()
			rdb := redisClient(t, mini.Addr())
			use := func(cfg *fleetConfig) {
				cfg.Remote = redistier.Config[string]{Client: rdb, Codec: badCodec{how}}
			}
			origin := newLedger()
			for range 2 {
				c := openOn(t, mini.Addr(), origin, use)
				if v, err := c.Get(t.Context(), "k"); v != "k@0" || err != nil {
					t.Error(v, err)
				}
				c.Wait(t.Context())
				err := c.Set(t.Context(), "s", "v")
				if strings.HasPrefix(how, "append") != errors.Is(err, dewar.ErrUnencodable) {
					t.Errorf("Set: %v", err)
				}
				if v, err := c.Get(t.Context(), "s"); v != "v" || err != nil {
					t.Error(v, err)
				}
			}
		})
	}
}

// User code that panics must reach its caller, and leave the key usable.
func TestPanicsInUserCodeLeaveTheKeyUsable(t *testing.T) {
	for name, change := range map[string]func(cfg *fleetConfig, bad func()){
		"TTLOf": func(cfg *fleetConfig, bad func()) {
			cfg.TTLOf = func(string, string) time.Duration { bad(); return time.Minute }
		},
		"NotFound": func(cfg *fleetConfig, bad func()) {
			cfg.Load = func(context.Context, string) (string, error) { return "", errors.New("x") }
			cfg.NotFound = func(error) bool { bad(); return true }
		},
		"Accepts": func(cfg *fleetConfig, bad func()) {
			cfg.Stale.IfError = time.Hour
			cfg.Stale.Accepts = func(error) bool { bad(); return true }
			cfg.Load = func(context.Context, string) (string, error) { return "", errors.New("x") }
		},
		"Cost, ristretto": func(cfg *fleetConfig, bad func()) {
			cfg.Local = memory.Config[string]{MaxCost: 100, Cost: func(string, string) int64 { bad(); return 1 }}
		},
		"Cost, otter": func(cfg *fleetConfig, bad func()) {
			cfg.Local = memory.Otter[string]{MaxCost: 100, Cost: func(string, string) int64 { bad(); return 1 }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			panics := true
			c := openOn(t, miniredis.RunT(t).Addr(), newLedger(), func(cfg *fleetConfig) {
				change(cfg, func() {
					if panics {
						panic("user code")
					}
				})
			})
			// A Cost that panics costs the local copy only.
			if v, err := c.Get(t.Context(), "k"); (err == nil) != strings.HasPrefix(name, "Cost") {
				t.Errorf("%q, %v", v, err)
			}
			func() {
				defer func() { recover() }()
				c.Set(t.Context(), "s", "v")
			}()
			panics = false
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := c.Get(ctx, "k"); errors.Is(err, context.DeadlineExceeded) {
				t.Error("the key is stuck")
			}
			if err := c.Set(ctx, "s", "v"); err != nil {
				t.Error(err)
			}
			start := time.Now()
			if err := c.Close(); err != nil || time.Since(start) > time.Second {
				t.Errorf("Close after %v: %v", time.Since(start), err)
			}
		})
	}
}
