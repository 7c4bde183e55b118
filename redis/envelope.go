package redistier

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/dewarcache/dewar"
)

// What is written under a Redis key, all integers big-endian:
//
//	 0  2  magic
//	 2  1  fmt
//	 3  1  kind
//	 4 16  stamp, random for every attempt to write
//	       here a lease ends
//	20  8  loaded: when the load of the value began, Unix ns on Redis's clock
//	28  8  fresh: fresh before this instant, Unix ns
//	36  8  dead: hard expiry, Unix ns
//	44  8  took: how long the load took, ns
//	52  1  codec: who encoded the payload
//	53  1  flags
//	54  4  length of the key inside
//	58  4  length of the payload
//	62  4  crc32c of the Redis key's base, the user's key, bytes 0 to 62 and the payload
//	66     key (with flagKey), payload
//
// With flagSealed the payload is sealed, of a negative entry as well (seal.go
// has its form); with flagCompressed it is, or was before it was sealed, one
// frame of zstd. Unknown flags are a later version's, and so is the value.
//
// The first 20 bytes identify the write: they are the dewar.Fence. The
// checksum covers the key also where the key is not inside, so a value that
// comes back for another key than it was written for (moved by hand, or a
// reply that got crossed with another's on its way) is never taken for ours.
const (
	magic  = "\xdew"
	format = 1

	fenceSize   = 20
	headSize    = 66
	flagsOffset = 53
	sealedHead  = 54 // the bytes of the head that a seal covers
	crcOffset   = 62

	kindValue    = 'V'
	kindNegative = 'N'
	kindLease    = 'L'

	flagKey        = 1 << 0 // the full key is inside, because the Redis key is hashed
	flagCompressed = 1 << 1
	flagSealed     = 1 << 2

	knownFlags = flagKey | flagCompressed | flagSealed
)

// maxRead bounds what is looked at: a larger value cannot be ours and is not
// decoded.
const maxRead = 8 << 20

// newFence returns the first bytes of a write that is about to be tried.
// Stamps are unique across processes: math/rand/v2's own generator is ChaCha8,
// seeded by the operating system, and needs no lock.
func newFence(kind byte) dewar.Fence {
	var f dewar.Fence
	copy(f[:], magic)
	f[2], f[3] = format, kind
	binary.BigEndian.PutUint64(f[4:], rand.Uint64())
	binary.BigEndian.PutUint64(f[12:], rand.Uint64())
	return f
}

// envelope is the parsed form. Its times are Unix ns on Redis's clock, as the
// writer saw it.
type envelope struct {
	fence                     dewar.Fence
	loaded, fresh, dead, took int64
	kind, codec               byte
	flags                     byte   // without flagKey, which follows from the key
	payload                   []byte // a view of what was parsed
}

// verdict says what the bytes under a Redis key are.
type verdict uint8

const (
	isEntry   verdict = iota // a value or a negative entry, whole and for this key
	isLease                  // a lease
	isForeign                // not ours, of a newer format, or larger than anything we write
	isCorrupt                // ours, but damaged or cut short
)

// parse reads raw, which was found under key. The envelope is set with
// isEntry and isLease only.
func (ks keyspace) parse(raw []byte, key string, env *envelope) verdict {
	if len(raw) < len(magic) || string(raw[:len(magic)]) != magic || len(raw) > maxRead {
		return isForeign
	}
	if len(raw) < 4 {
		return isCorrupt
	}
	if raw[2] != format {
		return isForeign
	}
	switch kind := raw[3]; {
	case kind == kindLease && len(raw) == fenceSize:
		env.fence, env.kind = dewar.Fence(raw), kind
		return isLease
	case kind != kindValue && kind != kindNegative, len(raw) < headSize:
		return isCorrupt
	}
	keySize := int64(binary.BigEndian.Uint32(raw[54:]))
	paySize := int64(binary.BigEndian.Uint32(raw[58:]))
	if headSize+keySize+paySize != int64(len(raw)) {
		return isCorrupt
	}
	inside, payload := raw[headSize:headSize+keySize], raw[headSize+keySize:]
	flags := raw[flagsOffset]
	if flags&flagKey != 0 && string(inside) != key || flags&flagKey == 0 && keySize != 0 {
		return isCorrupt
	}
	if binary.BigEndian.Uint32(raw[crcOffset:]) != ks.checksum(raw, key, payload) {
		return isCorrupt
	}
	if flags&^knownFlags != 0 {
		return isForeign
	}
	least := int64(0)
	if flags&flagSealed != 0 {
		least = sealOverhead
	}
	if paySize < least || raw[3] == kindNegative && (paySize != least || flags&flagCompressed != 0) {
		return isCorrupt
	}
	*env = envelope{
		fence:   dewar.Fence(raw[:fenceSize]),
		loaded:  int64(binary.BigEndian.Uint64(raw[20:])),
		fresh:   int64(binary.BigEndian.Uint64(raw[28:])),
		dead:    int64(binary.BigEndian.Uint64(raw[36:])),
		took:    int64(binary.BigEndian.Uint64(raw[44:])),
		kind:    raw[3],
		codec:   raw[52],
		flags:   flags &^ flagKey,
		payload: payload,
	}
	return isEntry
}

func (ks keyspace) checksum(head []byte, key string, payload []byte) uint32 {
	crc := crc32.Update(ks.crc, castagnoli, asBytes(key))
	crc = crc32.Update(crc, castagnoli, head[:crcOffset])
	return crc32.Update(crc, castagnoli, payload)
}

// openEnvelope appends the head of env and, when the Redis key is hashed, the
// key. The payload is appended next; closeEnvelope then completes it.
func openEnvelope(dst []byte, env *envelope, key string, hashed bool) []byte {
	dst = append(dst, env.fence[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(env.loaded))
	dst = binary.BigEndian.AppendUint64(dst, uint64(env.fresh))
	dst = binary.BigEndian.AppendUint64(dst, uint64(env.dead))
	dst = binary.BigEndian.AppendUint64(dst, uint64(env.took))
	flags := env.flags
	var keySize int
	if hashed {
		flags |= flagKey
		keySize = len(key)
	}
	dst = append(dst, env.codec, flags)
	dst = binary.BigEndian.AppendUint32(dst, uint32(keySize))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // payload length and crc
	if hashed {
		dst = append(dst, key...)
	}
	return dst
}

// closeEnvelope writes the payload's length and the checksum into raw, which
// openEnvelope began and which must hold nothing else.
func (ks keyspace) closeEnvelope(raw []byte, key string) {
	start := headSize + int(binary.BigEndian.Uint32(raw[54:]))
	binary.BigEndian.PutUint32(raw[58:], uint32(len(raw)-start))
	binary.BigEndian.PutUint32(raw[crcOffset:], ks.checksum(raw, key, raw[start:]))
}

// clamp makes the times of env plausible here and reports whether it is
// alive. A writer that took Redis's clock to be ahead of where we see it seems
// to have loaded in the future: the whole entry is moved back, so that it was
// loaded now and is fresh and alive no longer than its writer meant.
func (c clocks) clamp(env *envelope) (alive bool) {
	if env.loaded > c.unix {
		env.fresh = shift(env.fresh, c.unix, env.loaded)
		env.dead = shift(env.dead, c.unix, env.loaded)
		env.loaded = c.unix
	}
	env.fresh = min(env.fresh, env.dead)
	return env.dead > c.unix
}

// maxKeep is the longest expiry sent to Redis: a hundred years. Redis refuses
// expiries that overflow its own clock.
const maxKeep = 100 * 365 * 24 * time.Hour

// millis rounds a time to live up to Redis's unit, so that Redis never drops
// an entry before it is dead, and keeps it at one or more.
func millis(d time.Duration) int64 {
	d = min(d, maxKeep)
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}
