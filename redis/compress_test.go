package redistier

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/klauspost/compress/zstd"
)

// offline returns a tier for what is done without a server.
func offline[V any](tb testing.TB, cfg Config[V]) *tier[V] {
	tb.Helper()
	cfg.Client = newClient(tb, "127.0.0.1:1")
	cfg.Timeout = time.Millisecond
	return openTier(tb, cfg, testOptions)
}

// look is what a reader gets of raw, found under key.
func (t *tier[V]) look(raw []byte, key string) dewar.Found[V] {
	var f dewar.Found[V]
	t.judge(t.keys.Load(), string(raw), key, t.clock.read(context.Background()), &f)
	return f
}

// noise returns n bytes that do not compress.
func noise(n int) string {
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = byte(rand.Uint32())
	}
	return string(raw)
}

func TestLargePayloadsAreCompressedIfThatMakesThemSmaller(t *testing.T) {
	plain := offline(t, Config[string]{Codec: String()})
	tier := offline(t, Config[string]{Codec: String(), CompressOver: 1000})
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"at the bound", strings.Repeat("a", 1000), false},
		{"over the bound", strings.Repeat("a", 1001), true},
		{"noise", noise(10_000), false},
		{"empty", "", false},
		{"as large as may be", strings.Repeat("0123456789abcdef", defaultMaxValue/16), true},
		{"some noise", noise(500_000) + strings.Repeat("a", 500_000), true},
	} {
		for _, key := range []string{"k", strings.Repeat("long", 100)} {
			raw := tier.sealed(t, key, c.value)
			if got := raw[flagsOffset]&flagCompressed != 0; got != c.want {
				t.Errorf("%s: compressed is %v", c.name, got)
			}
			size := len(plain.sealed(t, key, c.value))
			if c.want && len(raw) >= size || !c.want && len(raw) != size {
				t.Errorf("%s: %d bytes, %d without compression", c.name, len(raw), size)
			}
			for _, reader := range []interface {
				look([]byte, string) dewar.Found[string]
			}{tier, plain} {
				if f := reader.look(raw, key); f.State != dewar.RemoteValue || f.Entry.Value != c.value {
					t.Errorf("%s: state %d, %d bytes", c.name, f.State, len(f.Entry.Value))
				}
			}
		}
	}
	small := offline(t, Config[string]{CompressOver: 1})
	for n := range 1200 {
		value := strings.Repeat("a", n)
		raw := small.sealed(t, "k", value)
		if f := small.look(raw, "k"); f.State != dewar.RemoteValue || f.Entry.Value != value {
			t.Errorf("%d bytes: state %d, %d bytes", n, f.State, len(f.Entry.Value))
		}
		if compressed := raw[flagsOffset]&flagCompressed != 0; n > 100 && !compressed {
			t.Errorf("%d bytes: not compressed", n)
		}
	}
	f := aFill("k", dewar.Fence{}, strings.Repeat("a", defaultMaxValue+1))
	if _, err := tier.encode(tier.keys.Load(), nil, &f, false, tier.clock.read(context.Background())); !errors.Is(err, dewar.ErrUnencodable) {
		t.Errorf("over MaxValue, though not when compressed: %v", err)
	}
}

func TestCompressedValuesPassThroughRedis(t *testing.T) {
	mini := startMini(t)
	tier := openTier(t, Config[string]{Client: newClient(t, mini.Addr()), CompressOver: 100}, testOptions)
	value := strings.Repeat("value ", 1000)
	tier.put(t, "k", value)
	if raw, err := mini.Get(tier.keys.Load().redisKey("k")); err != nil || len(raw) > 500 {
		t.Errorf("%d bytes in Redis (%v)", len(raw), err)
	}
	if f := tier.readOne(t.Context(), "k"); f.Entry.Value != value {
		t.Errorf("state %d, %d bytes", f.State, len(f.Entry.Value))
	}
	if err := tier.expireOne(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if f := tier.readOne(t.Context(), "k"); f.Entry.Value != value || f.Entry.Fresh > dewar.Clock() {
		t.Errorf("after Expire: state %d, %d bytes", f.State, len(f.Entry.Value))
	}
}

// frame returns the head of a zstd frame that says its content has n bytes.
func frame(n uint64) []byte {
	raw := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0} // one segment, 8 bytes of size
	return binary.LittleEndian.AppendUint64(raw, n)
}

// runs appends n blocks of 128 KiB of zeros each, 4 bytes long, to a frame.
func runs(raw []byte, n int) []byte {
	for i := range n {
		head := uint32(128<<10)<<3 | 1<<1
		if i == n-1 {
			head |= 1
		}
		raw = append(raw, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return raw
}

// bombs are payloads that decompress to much, or say so.
func bombs(tb testing.TB) map[string][]byte {
	var stream bytes.Buffer
	w, err := zstd.NewWriter(&stream, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	for range 64 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			tb.Fatal(err)
		}
	}
	w.Close()
	return map[string][]byte{
		"64 MiB without a size":         stream.Bytes(),
		"4 GiB":                         runs(frame(4<<30), 4<<30/(128<<10)),
		"a byte over 8 MiB":             runs(frame(maxRead+1), maxRead/(128<<10)+1),
		"2^63 bytes":                    runs(frame(1<<63), 1),
		"8 MiB in 17 bytes":             runs(frame(maxRead), 1),
		"1000 bytes that are 64 MiB":    runs(frame(1000), 512),
		"no bytes that are 64 MiB":      runs(frame(0), 512),
		"512 frames of 128 KiB":         bytes.Repeat(runs(frame(128<<10), 1), 512),
		"128 KiB, then 64 MiB":          append(runs(frame(128<<10), 1), stream.Bytes()...),
		"a skippable frame, then much":  append([]byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x"), stream.Bytes()...),
		"a window of 2 GiB":             {0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xa8, 8, 0, 0, 0, 0, 0, 0, 0, 0x43, 0, 0, 0},
		"less than it says":             runs(frame(2<<20), 15),
		"a dictionary that nobody has":  {0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 4, 0x23, 0, 0, 0},
		"no frame":                      []byte("text"),
		"nothing":                       {},
		"cut in the head of the frame":  frame(8)[:6],
		"cut before the first block":    frame(8),
		"two frames, the second empty?": append(runs(frame(128<<10), 1), runs(frame(128<<10), 1)[:12]...),
	}
}

func TestDecompressionBombsAreDamageAndTakeLittleMemory(t *testing.T) {
	tier := offline(t, Config[string]{Codec: String()})
	head := tier.sealed(t, "k", "")
	head[flagsOffset] |= flagCompressed
	// The largest that may be: to have the coders and buffers made.
	full := tier.reseal(append(bytes.Clone(head), runs(frame(maxRead), maxRead/(128<<10))...), "k")
	if f := tier.look(full, "k"); len(f.Entry.Value) != maxRead {
		t.Fatalf("8 MiB: state %d, %d bytes", f.State, len(f.Entry.Value))
	}
	for name, payload := range bombs(t) {
		raw := tier.reseal(append(bytes.Clone(head), payload...), "k")
		before := tier.Stats()
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		var f dewar.Found[string]
		did := tier.judge(tier.keys.Load(), asString(raw), "k", tier.clock.read(context.Background()), &f)
		runtime.ReadMemStats(&m1)
		if f.State != dewar.RemoteAbsent || did != remainsDamaged || tier.Stats().Corrupt != before.Corrupt+1 {
			t.Errorf("%s: state %d, %d bytes", name, f.State, len(f.Entry.Value))
		}
		// With the race detector pools forget what they were given.
		if used := m1.TotalAlloc - m0.TotalAlloc; used > 7<<20 {
			t.Errorf("%s: %d bytes allocated", name, used)
		}
	}
}

func TestCompressionIsSafeForConcurrentUseAndLeavesNoGoroutines(t *testing.T) {
	tier := offline(t, Config[string]{CompressOver: 10, Seal: sealKeys(1), CompressSealed: true})
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() { // waited for below
			for i := range 50 {
				value := strings.Repeat(string(rune('a'+g)), 20+i*100)
				if f := tier.look(tier.sealed(t, "k", value), "k"); f.Entry.Value != value {
					t.Errorf("state %d, %.20q", f.State, f.Entry.Value)
				}
			}
		})
	}
	wg.Wait()
	for range 500 { // those above may not have ended quite
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
