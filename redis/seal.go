package redistier

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
)

// SealKey is a key of Config.Seal.
type SealKey struct {
	// ID is written beside what the key seals, so that readers find the key.
	// No two keys that are ever in use for the same Redis may share it.
	ID byte

	// Key is the AES-256 key: 32 random bytes, from crypto/rand or a key
	// management service. Not a password.
	Key [32]byte
}

// Format implements fmt.Formatter: whatever the verb, the key is not shown.
func (k SealKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// String returns the ID alone.
func (k SealKey) String() string { return fmt.Sprintf("SealKey(%d)", k.ID) }

// MarshalText returns the ID alone, so that the key gets into no structured
// log either.
func (k SealKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A sealed payload is
//
//	 0  1  ID of the key
//	 1 12  nonce, random
//	13  n  what was sealed, encrypted
//	    16 tag
//
// and the tag covers, besides the payload, the base of the Redis key (prefix,
// format, name, schema and epoch), the user's key, bytes 0 to 54 of the
// envelope (kind, stamp, times, codec and flags) and the ID. So a sealed
// value is of use only where and as it was written.
const sealOverhead = 1 + 12 + 16

// sealer seals payloads and opens them. The nil sealer seals nothing and opens
// what is not sealed; any other opens only what is.
type sealer struct {
	first byte // ID of the key that seals
	keys  map[byte]cipher.AEAD
}

// checkSeal returns what is wrong with keys, one error each.
func checkSeal(keys []SealKey) (errs []error) {
	at := make(map[byte]int, len(keys))
	for i, k := range keys {
		if k.Key == ([32]byte{}) {
			errs = append(errs, fmt.Errorf("redistier: Seal[%d], ID %d, has a Key of zeros; fill it with 32 random bytes", i, k.ID))
		}
		if j, taken := at[k.ID]; taken {
			errs = append(errs, fmt.Errorf("redistier: Seal[%d] and Seal[%d] share the ID %d, by which readers find the key; give each key an ID of its own", j, i, k.ID))
			continue
		}
		at[k.ID] = i
	}
	return errs
}

// newSealer returns the sealer of keys, nil if there are none.
func newSealer(keys []SealKey) (*sealer, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	s := &sealer{first: keys[0].ID, keys: make(map[byte]cipher.AEAD, len(keys))}
	for _, k := range keys {
		block, err := aes.NewCipher(k.Key[:])
		if err != nil {
			return nil, err
		}
		// Two writes under one nonce would tell both. 2^32 random ones of 96
		// bits share none but for a chance of 2^-33: Config.Seal says so.
		if s.keys[k.ID], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// appendBound appends what the tag covers besides the payload. Only the user's
// key, in the middle, has no fixed length, so no two are alike.
func appendBound(dst []byte, ks keyspace, head []byte, key string, id byte) []byte {
	dst = append(dst, ks.base...)
	dst = append(dst, key...)
	dst = append(dst, head[:sealedHead]...)
	return append(dst, id)
}

// seal replaces out[body:], the payload of the envelope that begins at
// out[start], by its sealed form, and says so in the head.
func (s *sealer) seal(ks keyspace, out []byte, start, body int, key string) []byte {
	out[start+flagsOffset] |= flagSealed
	scratch := buffers.Get().(*[]byte)
	*scratch = appendBound((*scratch)[:0], ks, out[start:], key, s.first)
	out = append(out, 0)
	copy(out[body+1:], out[body:])
	out[body] = s.first
	out = s.keys[s.first].Seal(out[:body+1], nil, out[body+1:], *scratch)
	buffers.Put(scratch)
	return out
}

// open returns what was sealed of raw, which was parsed as env under key, or
// env's payload where nothing is sealed that should be. It uses the room
// behind *scratch, which it may replace.
//
// What is not sealed is foreign to who seals, and the other way round: while a
// fleet is being reconfigured both are written, and each half would delete the
// other's for ever. So is what a key seals that we do not have (yet, or any
// more).
func (s *sealer) open(ks keyspace, raw []byte, key string, env *envelope, scratch *[]byte) ([]byte, verdict) {
	sealed := env.flags&flagSealed != 0
	switch {
	case !sealed && s == nil:
		return env.payload, isEntry
	case !sealed, s == nil:
		return nil, isForeign
	}
	id := env.payload[0]
	aead, known := s.keys[id]
	if !known {
		return nil, isForeign
	}
	bound := appendBound((*scratch)[:0], ks, raw, key, id)
	both, err := aead.Open(bound, nil, env.payload[1:], bound)
	if err != nil {
		*scratch = bound
		return nil, isCorrupt
	}
	*scratch = both
	return both[len(bound):], isEntry
}
