package redistier

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dewarcache/dewar"
)

// record is one turn of a fleet, as Redis has it:
//
//	dewar-defcon/1 <revision> <id> <level> {"who":"anna","why":"ad break","at":"2026-03-01T20:15:00Z"}
//
// The revision is the time of the turn by Redis's clock, in Unix ms, and always
// beyond every one that the writer knows; the id is 16 random hex digits; the
// level is 1 to 5. The rest is for people: where it cannot be read, who and why
// are not known. The form is documented and stable: writers in other languages
// may turn the fleet.
//
// Of two records the one with the higher revision is the newer. Redis holds one
// at a time and puts another in its place only if that is newer, whoever sends
// it, how often, and how late.
type record struct {
	revision uint64
	id       string
	level    dewar.Level
	who, why string
	text     string // as it is in Redis
}

const (
	recordMark  = "dewar-defcon/1 "
	recordID    = 16   // hex digits
	maxWho      = 200  // bytes
	maxWhy      = 1000 // bytes
	maxRecord   = 4096 // bytes that are read; none that is written has more
	maxRevision = 1 << 52
)

// defconScript puts ARGV[2], a record of revision ARGV[1], under KEYS[1] unless
// one is there that is not older, and returns what is there then. What is no
// record gives way if ARGV[3] is not empty. What it takes for a record is what
// parseRecord does.
var defconScript = newScript(`local v=redis.pcall('GETRANGE',KEYS[1],0,4095) ` +
	`if type(v)=='table' then if not string.find(v.err,'WRONGTYPE',1,true) then return v end v='?' end ` +
	`local r,id=string.match(v,'^dewar%-defcon/1 (%d+) (%x+) [1-5] ') r=tonumber(r or '') or 0 ` +
	`if r>0 and r<4503599627370496 and #id==16 then if r>=tonumber(ARGV[1]) then return v end ` +
	`elseif v~='' and ARGV[3]=='' then return v end ` +
	`redis.call('SET',KEYS[1],ARGV[2]) return ARGV[2]`)

// defconKey has the tag of streams and epochs: the rights that a cache needs
// are enough for it.
func defconKey(prefix, name string) string { return "{" + prefix + "}:defcon:" + name }

func newRecord(revision uint64, t dewar.Turn) record {
	var id [recordID / 2]byte
	_, _ = rand.Read(id[:]) // never fails
	r := record{
		revision: revision, id: hex.EncodeToString(id[:]), level: t.To,
		who: printable(cmp.Or(t.Who, t.Via), maxWho), why: printable(t.Why, maxWhy),
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s%d %s %d ", recordMark, r.revision, r.id, r.level)
	note := json.NewEncoder(&text)
	note.SetEscapeHTML(false) // or it might grow beyond maxRecord
	_ = note.Encode(struct {
		Who string    `json:"who"`
		Why string    `json:"why"`
		At  time.Time `json:"at"` // by the writer's clock
	}{r.who, r.why, t.At.UTC().Truncate(time.Millisecond)})
	r.text = strings.TrimSuffix(text.String(), "\n")
	return r
}

// beats reports whether r is what a process that knows other goes over to. Of
// two with one revision, which writers make who do not know of each other, it
// is the one that Redis has kept.
func (r record) beats(other record) bool {
	return r.revision > other.revision || r.revision == other.revision && r.id != other.id
}

// parseRecord reads what is under the key.
func parseRecord(text string) (r record, ok bool) {
	rest, ok := strings.CutPrefix(text, recordMark)
	part := strings.SplitN(rest, " ", 4)
	if !ok || len(part) != 4 || len(part[1]) != recordID || len(part[2]) != 1 {
		return record{}, false
	}
	revision, err := strconv.ParseUint(part[0], 10, 64)
	if err != nil || revision == 0 || revision >= maxRevision {
		return record{}, false
	}
	if _, err := hex.DecodeString(part[1]); err != nil {
		return record{}, false
	}
	level := dewar.Level(part[2][0]) - '0'
	if level < dewar.Lockdown || level > dewar.Normal {
		return record{}, false
	}
	var note struct{ Who, Why string }
	if json.Unmarshal([]byte(part[3]), &note) != nil {
		note.Who, note.Why = "", ""
	}
	return record{
		revision: revision, id: part[1], level: level,
		who: printable(note.Who, maxWho), why: printable(note.Why, maxWhy), text: text,
	}, true
}

// printable returns at most so many bytes of s, in which a blank stands for
// whatever cannot be printed on one line.
func printable(s string, most int) string {
	const more = "…"
	cut := len(s) > most
	if cut {
		s = s[:most-len(more)]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, ""))
	if cut {
		s += more
	}
	return s
}
