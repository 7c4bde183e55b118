package dewar

import (
	"context"
	"log/slog"
	"math"
	"time"
)

// clockBase is where Clock counts from.
var clockBase = time.Now()

// clockStart is what Clock reads at clockBase. Inside a testing/synctest
// bubble time begins in the year 2000, long before clockBase: the 36 years
// here keep the readings positive there too, so that 0 is before all time.
const clockStart = 1 << 60

// Clock returns the monotonic clock on which the times of every [Entry] are
// kept, in nanoseconds. Only differences mean something. Tiers compare with it
// and convert from it; it never jumps when the wall clock is set.
func Clock() int64 { return clockStart + int64(time.Since(clockBase)) }

// negativeDue in Entry.Due marks a negative entry. It lies before every
// instant, so that the one comparison of the hit path (now < Due) sends a
// reader of a negative entry to the slow path, where it is told apart.
const negativeDue = math.MinInt64

// Entry is one answer of the origin as a tier keeps it. Times are nanoseconds
// on [Clock]. An entry is immutable once a tier has it.
type Entry[V any] struct {
	Value  V
	Loaded int64 // when the load that produced it began: its age counts from here
	Due    int64 // from here on a read makes it due for a refresh
	Fresh  int64 // fresh before this instant, stale or dead from it on
}

// NegativeEntry remembers that the origin has no such key.
func NegativeEntry[V any](loaded, fresh int64) Entry[V] {
	return Entry[V]{Loaded: loaded, Due: negativeDue, Fresh: fresh}
}

// Negative reports whether the entry says "the origin has no such key".
func (e *Entry[V]) Negative() bool { return e.Due == negativeDue }

// LocalTier is the in-process layer. All methods are safe for concurrent use
// and may race Close.
//
// The contract, checked by dewartest.LocalTier: after Set returns, Get answers
// that entry or nil, never an older one; after Delete returns, Get answers nil
// until the next Set of the key, and after Clear for every key; after Close
// returns, Get answers nil and Set does nothing. The tier may forget any entry
// at any time, and does not look at the entry's times: ages are the cache's
// business.
type LocalTier[V any] interface {
	// Get returns the entry of key, or nil. It is on the hit path: it must
	// not allocate.
	Get(key string) *Entry[V]
	Set(key string, e Entry[V])
	Delete(key string)
	Clear() // deletes everything
	Stats() LocalStats
	Close()
}

// LocalStats is a snapshot of what a local tier holds.
type LocalStats struct {
	Entries int64  // entries held, dead ones that were not yet evicted included
	Cost    int64  // the sum of their costs; equals Entries when costs are not configured
	Evicted uint64 // entries dropped for want of room since the tier was opened
}

// LocalOpener describes a local tier; [New] opens it and owns what it opened.
type LocalOpener[V any] interface {
	// Validate returns every problem of the description, joined, or nil.
	Validate() error
	// OpenLocal opens the tier for the cache of the given name.
	OpenLocal(name string) (LocalTier[V], error)
}

// Fence identifies one write to a key of the remote tier: the first 20 bytes
// of what was written. A [Fill] names the fence it found and is carried out
// only while that very write is still there, so a deletion, an expiry, an
// eviction or another writer in between refuses it. The zero Fence grants no
// right to write.
type Fence [20]byte

// RemoteState says what the remote tier has under a key.
type RemoteState uint8

const (
	RemoteAbsent  RemoteState = iota // nothing that we wrote and can read
	RemoteValue                      // an entry, in Found.Entry
	RemoteLeased                     // somebody else's lease: load, and write nothing
	RemoteGranted                    // our own lease, just taken: load, then Fill over Found.Fence
	RemoteForeign                    // something that is not ours to touch: load, and write nothing
	RemoteFailed                     // not known, see Found.Err: load, and write nothing
)

// String returns "absent", "value", "leased", "granted", "foreign" or "failed".
func (s RemoteState) String() string {
	return [...]string{"absent", "value", "leased", "granted", "foreign", "failed"}[min(s, RemoteFailed)]
}

// Found is what the remote tier answered for one key.
type Found[V any] struct {
	State RemoteState
	Entry Entry[V]      // with RemoteValue; on this process's Clock. Due is MinInt64 if negative, else equals Fresh
	Took  time.Duration // with RemoteValue: how long the load that produced it took
	Fence Fence         // with RemoteValue and RemoteGranted; with RemoteLeased the lease's, if it is known
	Err   error         // with RemoteFailed

	// Refresh is the refresh lease that LeaseRefresh has taken; zero: another
	// process has it, or it is not known whether we do.
	Refresh Fence
}

// Fill is one entry to be written to the remote tier over what Fence names.
type Fill[V any] struct {
	Key   string
	Fence Fence
	Entry Entry[V]
	Took  time.Duration // how long its load took
	Dead  int64         // hard expiry, on Clock: how long the remote tier keeps it

	// Refresh says that Fence is a refresh lease's: Release and Renew only.
	Refresh bool

	// Err is set by RemoteTier.Fill: nil when stored, ErrFenced when what Fence
	// names was not there any more, an error that is ErrUnencodable to
	// errors.Is when the value cannot be written at all. After any other error
	// the write may or may not have happened, or may happen later: it must not
	// be repeated.
	Err error
}

// RemoteTier is the layer shared by a fleet of processes. All methods are safe
// for concurrent use, honour ctx, and take any number of keys in one call: one
// pipelined round trip per node and per step. They never fail as a whole: what
// went wrong with a key is told of that key. Slices passed in are not kept.
//
// The contract is checked by dewartest.RemoteTier.
type RemoteTier[V any] interface {
	// Read looks keys up. It sets found[i] for keys[i], to RemoteAbsent,
	// RemoteValue, RemoteLeased, RemoteForeign or RemoteFailed.
	Read(ctx context.Context, keys []string, found []Found[V])

	// Lease takes the right to fill those of keys that are absent, each with
	// a token of its own. What is there already is answered as by Read.
	Lease(ctx context.Context, keys []string, found []Found[V])

	// Seize takes the lease of each key whatever is there: the first step of
	// Set. found[i] is RemoteGranted or RemoteFailed. What is there is then
	// gone for every reader, also when the fill that should follow does not.
	Seize(ctx context.Context, keys []string, found []Found[V])

	// Fill writes each entry if its Fence is still in place, and sets its Err.
	Fill(ctx context.Context, fills []Fill[V])

	// Release deletes what each Fence names where it is still in place: a
	// lease that will not be filled, a refresh lease, or a value that must not
	// be kept. Only Key, Fence and Refresh are looked at. It sets each Err as
	// Fill does.
	Release(ctx context.Context, fills []Fill[V])

	// LeaseRefresh takes the refresh lease of each key, which is apart from the
	// key itself, and then looks the key up, in one round trip. found[i] is as
	// Read sets it; found[i].Refresh is the lease, if it was free. Whoever has
	// it reloads the key, the others of the fleet do not.
	LeaseRefresh(ctx context.Context, keys []string, found []Found[V])

	// Renew makes leases and refresh leases that are still in place live for
	// RemoteOptions.LeaseFor from now on. Only Key, Fence and Refresh are
	// looked at. It sets each Err as Fill does.
	Renew(ctx context.Context, fills []Fill[V])

	// Unlink deletes keys, whatever is there; errs[i] is nil once the deletion
	// of keys[i] was answered. It announces nothing.
	Unlink(ctx context.Context, keys []string, errs []error)

	// Expire makes values stale from now on, to be kept as fallback for keep,
	// and deletes leases and negative entries. What is absent stays absent.
	// errs[i] is nil once keys[i] is known to be no longer fresh. It announces
	// nothing.
	Expire(ctx context.Context, keys []string, keep time.Duration, errs []error)

	// Announce tells the fleet what was done to keys. errs[i] is nil once the
	// announcement of keys[i] was accepted, and places[i] then says where it
	// stands. After an error it may or may not be heard.
	Announce(ctx context.Context, kind AnnouncementKind, keys []string, places []Place, errs []error)

	// NextEpoch makes everything that is there under any key, of any schema,
	// unreachable for the whole fleet, and announces that. When it returns nil
	// this tier uses the new epoch.
	NextEpoch(ctx context.Context) error

	Stats() RemoteStats

	// Close releases what the tier opened, never the caller's client.
	Close() error
}

// AnnouncementKind says what was done to the keys of an [Announcement].
type AnnouncementKind uint8

const (
	AnnounceInvalidate AnnouncementKind = iota + 1 // deleted
	AnnounceSet                                    // written
	AnnounceExpire                                 // made stale
)

// Place is where an announcement stands among those of its name: all processes
// hear them in this order.
type Place struct{ Time, Seq uint64 }

// Before reports whether p stands before q.
func (p Place) Before(q Place) bool {
	return p.Time < q.Time || p.Time == q.Time && p.Seq < q.Seq
}

// Announcement tells what some process of the fleet has done to keys.
type Announcement struct {
	Kind  AnnouncementKind
	Place Place
	Keys  []string
	Own   bool // by the tier that hears it: the echo of its own Announce

	// Elsewhere says that what the announcer deleted or wrote was not this
	// tier's copy of the keys: it uses another schema or format, or only
	// announces. This tier's copy is still to be deleted.
	Elsewhere bool
}

// RemoteEvents is what a remote tier tells the cache that has opened it. Its
// methods are called one at a time, from a goroutine of the tier's, from
// OpenRemote on; none is running any more when the tier's Close has returned.
// They do not wait for I/O.
type RemoteEvents interface {
	// Announced is called for each announcement, in the order of their places.
	Announced(Announcement)

	// AnnouncedAll is called when the name has moved to another epoch because
	// everything was invalidated. It calls adopt, by which the tier goes over to
	// that epoch, at a moment at which no read can come in between. Own
	// NextEpochs are not told.
	AnnouncedAll(adopt func())

	// Missed is called when announcements may have been missed, or deletions
	// lost with the server that had answered them: what is kept locally must be
	// compared with the remote tier before it counts as fresh again. It is
	// called before any announcement that came after what was missed. If the
	// name has moved to another epoch, adopt is as in AnnouncedAll; otherwise it
	// is nil.
	Missed(adopt func())

	// Deaf is called when announcements have stopped coming in; with maxAge
	// above 0, entries loaded longer ago than that are then no longer fresh.
	Deaf(maxAge time.Duration)

	// Hearing is called when they come in again, after Missed if any was.
	Hearing()
}

// RemoteStats counts what a remote tier met since it was opened.
type RemoteStats struct {
	Foreign uint64 // values that are not ours or of a newer format: misses, left alone
	Corrupt uint64 // our values with a bad checksum, cut short or undecodable: misses, deleted
	Refused uint64 // fills whose fence was gone
	Errors  uint64 // commands that failed or timed out
	Denied  uint64 // commands refused for want of a right: wrong password, ACL

	Announced uint64 // keys announced to the fleet
	Heard     uint64 // keys heard of in announcements of others
	Gaps      uint64 // times that announcements may have been missed

	// Gauges.
	Epoch        uint64        // the name's epoch in use
	Deaf         bool          // announcements have stopped coming in
	SilentFor    time.Duration // since the server last answered on the bus
	Lag          time.Duration // how long the last announcement of another process took to be heard
	LastGap      time.Time     // when announcements were last missed; zero: never
	OpenBreakers int           // breakers that keep commands from the server
}

// RemoteOptions is what the cache tells a remote tier that it opens.
type RemoteOptions struct {
	Name     string        // namespace of the keys
	Schema   string        // version of the value's encoding
	LeaseFor time.Duration // how long a lease lives unless it is filled, released or renewed
	Logger   *slog.Logger  // never nil
	Events   RemoteEvents  // what is to hear of the fleet; nil: nobody
}

// RemoteOpener describes a remote tier; [New] opens it and owns what it opened.
type RemoteOpener[V any] interface {
	// Validate returns every problem of the description, joined, or nil.
	Validate() error
	// OpenRemote opens the tier. It succeeds also while the tier's server
	// cannot be reached.
	OpenRemote(RemoteOptions) (RemoteTier[V], error)
}
