package outage

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/klauspost/compress/zstd"
)

// damage is what somebody else has put where a value of ours was.
type damage struct {
	name string
	// make returns it, for the Redis key dk of key, where raw was. all are the
	// values that were there, by key.
	make func(dk, key string, raw []byte, all map[string][]byte) []byte
	list bool // not a string but a list
	kept bool // not ours to touch: it stays, and nothing is stored in its place
}

var damages = []damage{
	{
		name: "another type under our keys",
		list: true, kept: true,
	},
	{
		name: "foreign bytes",
		make: func(string, string, []byte, map[string][]byte) []byte { return []byte(`{"of":"somebody else"}`) },
		kept: true,
	},
	{
		name: "corrupt values",
		make: func(_, _ string, raw []byte, _ map[string][]byte) []byte {
			raw[len(raw)-2] ^= 0x10
			return raw
		},
	},
	{
		name: "truncated values",
		make: func(_, _ string, raw []byte, _ map[string][]byte) []byte { return raw[:len(raw)-3] },
	},
	{
		name: "values of other keys",
		make: func(_, key string, _ []byte, all map[string][]byte) []byte {
			for other, raw := range all {
				if other != key {
					return raw
				}
			}
			return nil
		},
	},
	{
		name: "values of a future format",
		make: func(_, _ string, raw []byte, _ map[string][]byte) []byte {
			raw[2]++
			return raw
		},
		kept: true,
	},
	{
		name: "decompression bombs",
		make: bomb,
	},
	{
		name: "values too large to be ours",
		make: func(_, _ string, raw []byte, _ map[string][]byte) []byte {
			return append(raw, make([]byte, 9<<20)...)
		},
		kept: true,
	},
}

// bomb returns a value that is ours to every appearance, checksum and all, of
// some kilobytes that decompress to 64 MiB.
func bomb(dk, key string, raw []byte, _ map[string][]byte) []byte {
	const flagsAt, sizeAt, crcAt, head, compressed = 53, 58, 62, 66, 2
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err) // there are no options
	}
	payload := enc.EncodeAll(make([]byte, 64<<20), nil)
	raw = append(slices.Clone(raw[:head]), payload...)
	raw[flagsAt] |= compressed
	binary.BigEndian.PutUint32(raw[sizeAt:], uint32(len(payload)))
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum([]byte(strings.TrimSuffix(dk, key)+key), table)
	sum = crc32.Update(sum, table, raw[:crcAt])
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Update(sum, table, payload))
	return raw
}

// TestDamage puts under keys what a cache must not serve. Each row is one of
// the table in docs/OPERATIONS.md.
func TestDamage(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := openScene(t, outage{slack: 10 * time.Second})
			ctx := context.Background()
			keys := hotKeys[:6]
			for _, key := range keys {
				if _, err := s.a.Get(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			s.settle(t, s.a)
			put := s.damage(t, d, keys)

			// No other cache has them locally: each reads in Redis, one key at
			// a time and all at once.
			late := kit.NewCache(t, kit.Config{Client: kit.Plain(t, s.server.Addr), Origin: s.origin, Timeout: 10 * time.Second})
			kit.AwaitJoined(t, late)
			for _, key := range keys {
				got, err := s.b.GetResult(ctx, key)
				if want := (kit.Value{Key: key, Version: 1}); err != nil || got.Value != want || got.Tier != dewar.TierOrigin {
					t.Errorf("%s: %+v, %v; want it loaded", key, got, err)
				}
			}
			s.settle(t, s.b)
			got, err := late.GetMany(ctx, keys)
			if err != nil {
				t.Error(err)
			}
			for _, key := range keys {
				if want := (kit.Value{Key: key, Version: 1}); got[key] != want {
					t.Errorf("%s: %+v; want %+v", key, got[key], want)
				}
			}
			r, found := s.b.Stats().Remote, late.Stats().RemoteHits
			if d.kept {
				if r.Foreign < uint64(len(keys)) || r.Corrupt > 0 {
					t.Errorf("%+v; want %d foreign values", r, len(keys))
				}
				if now := s.dumps(t, keys); !slices.EqualFunc(now, put, bytes.Equal) {
					t.Error("what is not ours was changed")
				}
			} else {
				if r.Corrupt != uint64(len(keys)) || r.Foreign > 0 {
					t.Errorf("%+v; want %d corrupt values", r, len(keys))
				}
				if found != uint64(len(keys)) {
					t.Errorf("%d of %d keys were found in Redis afterwards; damage is to be deleted and replaced", found, len(keys))
				}
			}
			if r.OpenBreakers > 0 {
				t.Error("a breaker opened")
			}
		})
	}
}

// damage does it to keys, and returns what is then there.
func (s *scene) damage(t *testing.T, d damage, keys []string) [][]byte {
	t.Helper()
	ctx := context.Background()
	all := make(map[string][]byte)
	for _, key := range keys {
		raw, err := s.admin.Get(ctx, s.redisKey(key)).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		all[key] = raw
	}
	for _, key := range keys {
		dk := s.redisKey(key)
		if d.list {
			kit.Do(t, s.admin, "del", dk)
			kit.Do(t, s.admin, "rpush", dk, "of", "somebody", "else")
			continue
		}
		kit.Do(t, s.admin, "set", dk, d.make(dk, key, slices.Clone(all[key]), all), "keepttl")
	}
	return s.dumps(t, keys)
}

// dumps returns what is under keys, in Redis's own form.
func (s *scene) dumps(t *testing.T, keys []string) (dumps [][]byte) {
	t.Helper()
	for _, key := range keys {
		dumps = append(dumps, []byte(fmt.Sprint(kit.Do(t, s.admin, "dump", s.redisKey(key)))))
	}
	return dumps
}
