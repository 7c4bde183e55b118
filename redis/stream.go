package redistier

import (
	"strconv"
	"strings"

	"github.com/dewarcache/dewar"
)

// The form of the stream's entries is documented and stable: writers in other
// languages add to it.
//
//	op    i invalidated | s set | x expired | e epoch | h hello
//	k     a key, as the cache's user knows it; repeated
//	from  who announces: random per opened tier
//	as    what the announcer's copies are under, <fmt>:<schema>:<epoch>
//	n     with op e: the epoch
//	why   with op e: all (everything was invalidated) or loss (of what the
//	      server had answered)
const (
	fieldOp, fieldKey, fieldFrom, fieldAs, fieldEpoch, fieldWhy = "op", "k", "from", "as", "n", "why"

	opInvalidate, opSet, opExpire, opEpoch, opHello = "i", "s", "x", "e", "h"

	whyAll, whyLoss = "all", "loss"
)

const (
	maxEntryKeys  = 64      // keys of one entry
	maxEntryBytes = 4 << 10 // of them together, unless one is longer
	maxStream     = 10_000  // entries, about
	busKeepMS     = 7 * 24 * 3600 * 1000
)

func opOf(kind dewar.AnnouncementKind) string {
	switch kind {
	case dewar.AnnounceSet:
		return opSet
	case dewar.AnnounceExpire:
		return opExpire
	}
	return opInvalidate
}

// addArgs begins an XADD; fields and values follow.
func addArgs(stream string, room int) []any {
	return append(make([]any, 0, 6+room), "xadd", stream, "maxlen", "~", maxStream, "*")
}

// entryEnd returns how many of keys go into one entry.
func entryEnd(keys []string) int {
	size := 0
	for n, key := range keys {
		size += len(key)
		if n == maxEntryKeys || n > 0 && size > maxEntryBytes {
			return n
		}
	}
	return len(keys)
}

// entry is an entry of a stream as it was read.
type entry struct {
	place             dewar.Place
	op, from, as, why string
	epoch             uint64 // 0: none, or nothing that can be one
	keys              []string
}

// parseStreams takes apart the reply to an XREAD: of RESP3 a map, of RESP2 a
// list of pairs. What has not the form of an entry is left out.
func parseStreams(reply any) map[string][]entry {
	streams := make(map[string][]entry)
	switch r := reply.(type) {
	case map[any]any:
		for key, entries := range r {
			if key, ok := key.(string); ok {
				streams[key] = parseEntries(entries)
			}
		}
	case []any:
		for _, pair := range r {
			if p, ok := pair.([]any); ok && len(p) == 2 {
				if key, ok := p[0].(string); ok {
					streams[key] = parseEntries(p[1])
				}
			}
		}
	}
	return streams
}

func parseEntries(raw any) []entry {
	list, _ := raw.([]any)
	entries := make([]entry, 0, len(list))
	for _, item := range list {
		pair, ok := item.([]any)
		if !ok || len(pair) != 2 {
			continue
		}
		id, _ := pair[0].(string)
		place, ok := parsePlace(id)
		if !ok {
			continue
		}
		fields, _ := pair[1].([]any)
		entries = append(entries, parseEntry(place, fields))
	}
	return entries
}

func parseEntry(place dewar.Place, fields []any) entry {
	e := entry{place: place}
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, ok := fields[i+1].(string)
		if !ok {
			continue
		}
		switch name {
		case fieldOp:
			e.op = value
		case fieldKey:
			e.keys = append(e.keys, value)
		case fieldFrom:
			e.from = value
		case fieldAs:
			e.as = value
		case fieldWhy:
			e.why = value
		case fieldEpoch:
			e.epoch = parseEpoch(value)
		}
	}
	return e
}

// kind returns what e tells of its keys. An op of the future is taken for the
// strongest that there is today.
func (e *entry) kind() (kind dewar.AnnouncementKind, known bool) {
	switch e.op {
	case opInvalidate:
		return dewar.AnnounceInvalidate, true
	case opSet:
		return dewar.AnnounceSet, true
	case opExpire:
		return dewar.AnnounceExpire, true
	}
	return dewar.AnnounceInvalidate, false
}

// parsePlace reads the id of an entry.
func parsePlace(id string) (p dewar.Place, ok bool) {
	ms, seq, _ := strings.Cut(id, "-")
	var err1, err2 error
	p.Time, err1 = strconv.ParseUint(ms, 10, 64)
	p.Seq, err2 = strconv.ParseUint(seq, 10, 64)
	return p, err1 == nil && err2 == nil
}

func placeID(p dewar.Place) string {
	return strconv.FormatUint(p.Time, 10) + "-" + strconv.FormatUint(p.Seq, 10)
}

// justBefore returns the id before p: an XREAD from there begins with p.
func justBefore(p dewar.Place) string {
	switch {
	case p.Seq > 0:
		p.Seq--
	case p.Time > 0:
		p.Time--
		p.Seq = 1<<64 - 1
	}
	return placeID(p)
}
