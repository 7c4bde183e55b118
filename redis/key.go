package redistier

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"strings"
	"unsafe"
)

// maxPlainKey is the length in bytes up to which a user's key, braces
// escaped, is written into the Redis key as it is. Longer ones are hashed:
// Redis compares and moves keys whole, and a key of a megabyte would be paid
// for in every command.
const maxPlainKey = 200

// hashedMark begins the hashed form of a key. In an escaped key "%" is always
// followed by two hex digits, so no plain key has it.
const hashedMark = "%sha256:"

// castagnoli is the crc32c table: computed in hardware on amd64 and arm64.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// keyspace maps the keys of one cache in one epoch of its name to Redis keys:
//
//	<prefix>:<fmt>:<name>:<schema>:<epoch>:<key>
//
// Only the last part may hold a colon, so the form is unambiguous.
type keyspace struct {
	base  string // up to and including the last colon
	crc   uint32 // crc32c of base: where the checksum of every envelope begins
	epoch uint64
	as    string // <fmt>:<schema>:<epoch>: whose copies of a key are one and the same
}

func newKeyspace(prefix, name, schema string, epoch uint64) keyspace {
	f, e := string(rune('0'+format)), strconv.FormatUint(epoch, 10)
	base := prefix + ":" + f + ":" + name + ":" + schema + ":" + e + ":"
	return keyspace{
		base:  base,
		crc:   crc32.Checksum([]byte(base), castagnoli),
		epoch: epoch,
		as:    f + ":" + schema + ":" + e,
	}
}

// streamKey and epochKey are the keys of the bus. The tag puts all names of a
// prefix into one slot of a Cluster, so that one XREAD serves them.
func streamKey(prefix, name string) string { return "{" + prefix + "}:stream:" + name }
func epochKey(prefix, name string) string  { return "{" + prefix + "}:epoch:" + name }

// redisKey returns the Redis key of one key.
func (ks keyspace) redisKey(key string) string {
	return asString(ks.append(make([]byte, 0, len(ks.base)+plainSize(key)), key))
}

// redisKeys returns the Redis keys of keys, all in one allocation.
func (ks keyspace) redisKeys(keys []string) []string {
	size := 0
	for _, key := range keys {
		size += len(ks.base) + plainSize(key)
	}
	// Escapes may make buf grow. The strings cut so far then go on pointing
	// into the smaller buffer, which nobody writes any more.
	buf := make([]byte, 0, size)
	dks := make([]string, len(keys))
	for i, key := range keys {
		start := len(buf)
		buf = ks.append(buf, key)
		dks[i] = asString(buf[start:])
	}
	return dks
}

// plainSize is the size of key in a Redis key unless it has to be escaped.
func plainSize(key string) int {
	if len(key) > maxPlainKey {
		return len(hashedMark) + 2*sha256.Size
	}
	return len(key)
}

// append appends the Redis key of key. It is injective: distinct keys never
// share a Redis key (short of a collision of SHA-256, against which the full
// key is kept inside the value).
//
// Braces are escaped because Redis Cluster hashes only what stands between
// the first pair of them: keys like "{user}:1", "{user}:2" would all live in
// one slot, on one node, which is for the user of a cache never wanted.
func (ks keyspace) append(dst []byte, key string) []byte {
	dst = append(dst, ks.base...)
	if len(key) > maxPlainKey {
		return appendHashed(dst, key)
	}
	escapes := 0
	for i := range len(key) {
		if c := key[i]; c == '{' || c == '}' || c == '%' {
			escapes++
		}
	}
	if escapes == 0 {
		return append(dst, key...)
	}
	if len(key)+2*escapes > maxPlainKey {
		return appendHashed(dst, key)
	}
	for i := range len(key) {
		switch c := key[i]; c {
		case '{':
			dst = append(dst, "%7B"...)
		case '}':
			dst = append(dst, "%7D"...)
		case '%':
			dst = append(dst, "%25"...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func appendHashed(dst []byte, key string) []byte {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(key), len(key)))
	dst = append(dst, hashedMark...)
	return hex.AppendEncode(dst, sum[:])
}

// hashed reports whether dk, the Redis key of one of our keys, is the hashed
// form: then the full key goes into the value.
func (ks keyspace) hashed(dk string) bool {
	return strings.HasPrefix(dk[len(ks.base):], hashedMark)
}

// asString views b, which nobody writes any more, as a string.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// asBytes views s as bytes, which nobody may write.
func asBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
