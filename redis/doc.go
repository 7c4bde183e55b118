// Package redistier is dewar's remote tier: what a fleet of processes shares
// in Redis 7.0 or newer.
//
// # Usage
//
// Describe it in the cache's Config; the cache opens and closes it. The client
// stays yours.
//
//	rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{
//		Addrs: []string{"localhost:6379"}, // several: a Cluster; with a MasterName: Sentinels
//	}))
//	cache, err := dewar.New(dewar.Config[string, Video]{
//		Name:   "videos",
//		TTL:    30 * time.Second,
//		Remote: redistier.Config[Video]{Client: rdb},
//		Load:   load,
//	})
//
// # What is written
//
// One string per key, <prefix>:<fmt>:<name>:<schema>:<epoch>:<key>, with a
// time to live: the value in an envelope that carries its times, a checksum
// and a stamp that no other write has. Keys over 200 bytes are hashed. While a
// value is being refreshed there is {<that key>}:r beside it for a few seconds.
// Each name has a stream, {<prefix>}:stream:<name>, and its epoch's number,
// {<prefix>}:epoch:<name>; both live for 7 days after they were last used. A
// fleet that shares a dial has {<prefix>}:defcon:<name>, which stays. The tier
// never lists keys.
//
// The times are on Redis's clock, asked for once a minute, because those of
// processes may be hours apart.
//
// # Concurrency
//
// A value is written only over something that was seen: a lease that the
// writer took before it loaded, or the value that it refreshes. Whatever
// happens in between, a deletion, an eviction, an expiry or another writer,
// has changed the first 20 bytes under the key, and the write is refused. So
// no slow load brings back what was invalidated while it ran.
//
// # Fleets
//
// The processes of a fleet tell each other what they do, in the stream of the
// name: every Invalidate, Set and Expire adds an entry with the keys once Redis
// has answered for them, and everybody drops its local copies. An InvalidateAll
// moves the name to another epoch, which is part of every key: what was there
// is out of reach at once, and dies by its time to live. A process that only
// reads announces nothing.
//
// Entries are numbered, and stand in the same log of Redis as the deletions
// that they tell of. So every process can prove that it has missed nothing: it
// reads on from the last entry it knows, that one included. All caches of one
// client and prefix share a reader and a connection; idle, they cost Redis two
// commands a second together, and TIME once a minute.
//
// Writers in other languages announce by one command:
//
//	XADD {dewar}:stream:videos MAXLEN ~ 10000 * op i k <key> k <key> ...
//
// The keys are those of the cache's users. What is under them in Redis need
// not be deleted first: every process that hears of it does.
//
// When nothing has come in for 2 seconds, not even that there is nothing, the
// cache is told that it is deaf: entries live out their TTL, or
// Config.MaxDeaf. Once Redis is back,
//
//   - and the last entry is still there, all that was announced meanwhile is
//     heard, and nothing else happens;
//   - and it is not, because over 10,000 came after it or somebody deleted the
//     stream, the cache compares what it holds locally with Redis before it
//     serves that as fresh;
//   - and another server answers that has lost entries, because it started
//     anew or was promoted too early, deletions are lost with them. The fleet
//     moves to another epoch, once, and begins with an empty Redis. On a
//     Cluster each node is watched for that.
//
// A cache that is opened while Redis is away works from its origin and joins
// when Redis is there. Until then its operations fail with ErrNotJoined at
// once: no read waits.
//
// # A dial for the fleet
//
// [SharedDefcon] makes the [dewar.Defcon] of every process turn together. The
// last turn is under one key, {<prefix>}:defcon:<name>:
//
//	dewar-defcon/1 <revision> <id> <level> {"who":"anna","why":"ad break"}
//
// The revision is the time of the turn by Redis's clock, in Unix milliseconds,
// and the id 16 random hex digits. What is there is only ever replaced by a turn
// with a higher revision, by a script that compares them, so that it does not
// matter how often or how late a turn arrives: the fleet settles on the last. Each
// process reads the key about three times a second, goes over to what is newer,
// and puts back what it knows if Redis has lost it. Redis may be away for any
// time: each dial stays where it is, can be turned, and tells its last turn, with
// the revision of when it was made, once Redis is back.
//
// Other programs turn the fleet by one command, with the time and an id of their
// own:
//
//	SET {dewar}:defcon:defcon "dewar-defcon/1 1772396100000 9f86d081884c7d65 3 {\"who\":\"deploy.sh\"}"
//
// # Failure modes
//
// Redis being slow or gone is told of each key and ends within
// Config.Timeout; the cache goes on without it. A node that fails five times in
// a row, or every other time, is left alone for a second and then tried by one
// command (ErrBreakerOpen): each node by itself, and reads and writes apart.
// Writes other than deletions are sent once: one that timed out may still be
// carried out later, and the fence then decides. What is under a key and not
// ours, or of a newer version, is a miss and is left alone; what is ours and
// damaged is a miss and is deleted. The log hears when Redis begins to fail and
// when it is back; it never sees a key.
package redistier
