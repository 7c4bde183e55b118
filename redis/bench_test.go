package redistier

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// video is about what services cache: 200 bytes encoded.
type video struct {
	ID          string        `json:"id"`
	Title       string        `json:"title"`
	Description string        `json:"description"`
	Duration    time.Duration `json:"duration"`
	Published   time.Time     `json:"published"`
	Tags        []string      `json:"tags"`
	Views       int64         `json:"views"`
}

func aVideo(i int) video {
	return video{
		ID:          fmt.Sprintf("video-%06d", i),
		Title:       "How a Dewar flask keeps what is inside at temperature",
		Description: "Two walls, and nothing between them.",
		Duration:    754 * time.Second,
		Published:   time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC),
		Tags:        []string{"physics", "vacuum", "cold"},
		Views:       int64(i) * 1009,
	}
}

// benchTier returns a tier and its client on a real server, or on a miniredis
// where there is none: then only the ratios to each other mean something.
func benchTier(b *testing.B) (*tier[video], *redis.Client) {
	b.Helper()
	addr := ""
	if s, err := startServer(); err == nil {
		b.Cleanup(s.stop)
		addr = s.addr
	} else {
		b.Log("on miniredis: no redis-server: ", err)
		addr = miniredis.RunT(b).Addr()
	}
	client := newClient(b, addr)
	// The default Timeout, so that its cost is in the figures.
	opened, err := Config[video]{Client: client}.OpenRemote(testOptions)
	if err != nil {
		b.Fatal(err)
	}
	return opened.(*tier[video]), client
}

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("id-%d", i)
	}
	return keys
}

// stock stores a video under each key, by the tier and bare, under "raw:"+key.
func stock(b *testing.B, t *tier[video], client *redis.Client, keys []string) (raw []string) {
	b.Helper()
	for i, key := range keys {
		t.put(b, key, aVideo(i))
		enc, err := t.codec.Append(nil, aVideo(i))
		if err != nil {
			b.Fatal(err)
		}
		raw = append(raw, "raw:"+key)
		if err := client.Set(b.Context(), raw[i], enc, time.Hour).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return raw
}

func BenchmarkRead1(b *testing.B) {
	t, client := benchTier(b)
	keys := benchKeys(1)
	raw := stock(b, t, client, keys)
	b.Run("goredis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := client.Get(b.Context(), raw[0]).Result()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := t.codec.Decode(asBytes(s)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tier", func(b *testing.B) {
		b.ReportAllocs()
		found := make([]dewar.Found[video], 1)
		for b.Loop() {
			if t.Read(b.Context(), keys, found); found[0].State != dewar.RemoteValue {
				b.Fatal(found[0])
			}
		}
	})
}

func BenchmarkRead100(b *testing.B) {
	t, client := benchTier(b)
	keys := benchKeys(100)
	raw := stock(b, t, client, keys)
	b.Run("goredis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			vals, err := client.MGet(b.Context(), raw...).Result()
			if err != nil {
				b.Fatal(err)
			}
			for _, val := range vals {
				if _, err := t.codec.Decode(asBytes(val.(string))); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("tier", func(b *testing.B) {
		b.ReportAllocs()
		found := make([]dewar.Found[video], len(keys))
		for b.Loop() {
			if t.Read(b.Context(), keys, found); found[99].State != dewar.RemoteValue {
				b.Fatal(found[99])
			}
		}
	})
}

func BenchmarkFill50(b *testing.B) {
	t, client := benchTier(b)
	keys := benchKeys(50)
	b.Run("goredis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pipe := client.Pipeline()
			for i, key := range keys {
				enc, err := t.codec.Append(nil, aVideo(i))
				if err != nil {
					b.Fatal(err)
				}
				pipe.Set(b.Context(), "raw:"+key, enc, time.Minute)
			}
			if _, err := pipe.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tier", func(b *testing.B) {
		b.ReportAllocs()
		found := make([]dewar.Found[video], len(keys))
		fills := make([]dewar.Fill[video], len(keys))
		for b.Loop() {
			b.StopTimer()
			t.Seize(b.Context(), keys, found)
			b.StartTimer()
			for i, key := range keys {
				fills[i] = aFill(key, found[i].Fence, aVideo(i))
			}
			if t.Fill(b.Context(), fills); fills[0].Err != nil || fills[49].Err != nil {
				b.Fatal(fills[0].Err, fills[49].Err)
			}
		}
	})
}

func BenchmarkLease50(b *testing.B) {
	t, client := benchTier(b)
	keys := benchKeys(50)
	errs := make([]error, len(keys))
	b.Run("goredis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pipe := client.Pipeline()
			for _, key := range keys {
				pipe.Set(b.Context(), "raw:"+key, "12345678901234567890", time.Minute)
			}
			if _, err := pipe.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tier", func(b *testing.B) {
		b.ReportAllocs()
		found := make([]dewar.Found[video], len(keys))
		for b.Loop() {
			b.StopTimer()
			t.Unlink(b.Context(), keys, errs)
			b.StartTimer()
			if t.Lease(b.Context(), keys, found); found[49].State != dewar.RemoteGranted {
				b.Fatal(found[49])
			}
		}
	})
}

// BenchmarkEnvelope is what is paid for one value besides the round trip.
func BenchmarkEnvelope(b *testing.B) {
	big := aVideo(1)
	for range 6 { // 4 KiB or so
		big.Description += " " + big.Description
		big.Tags = append(big.Tags, big.Tags...)
	}
	for _, c := range []struct {
		name string
		cfg  Config[video]
	}{
		{"cbor", Config[video]{}},
		{"json", Config[video]{Codec: JSON[video]()}},
		{"compressed", Config[video]{CompressOver: 1}},
		{"sealed", Config[video]{Seal: sealKeys(1)}},
		{"compressed-sealed", Config[video]{CompressOver: 1, Seal: sealKeys(1), CompressSealed: true}},
	} {
		for size, v := range map[string]video{"small": aVideo(1), "large": big} {
			t := offline(b, c.cfg)
			fill, now := aFill("k", dewar.Fence{}, v), t.clock.read(b.Context())
			raw := t.sealed(b, "k", v)
			b.Run(c.name+"/"+size+"/write", func(b *testing.B) {
				b.ReportAllocs()
				var buf []byte
				for b.Loop() {
					var err error
					if buf, err = t.encode(t.keys.Load(), buf[:0], &fill, false, now); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(raw)), "B/value")
			})
			b.Run(c.name+"/"+size+"/read", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var f dewar.Found[video]
					if t.judge(t.keys.Load(), asString(raw), "k", now, &f); f.State != dewar.RemoteValue {
						b.Fatal(f.State)
					}
				}
			})
		}
	}
}
