// Package redistier is dewar's remote tier: what a fleet of processes shares
// in Redis 7.0 or newer.
//
// # Usage
//
// Describe it in the cache's Config; the cache opens and closes it. The client
// stays yours.
//
//	rdb := redis.NewClient(&redis.Options{
//		Addr:                  "localhost:6379",
//		ContextTimeoutEnabled: true, // required
//	})
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
// and a stamp that no other write has. Keys over 200 bytes are hashed. The
// tier never lists keys.
//
// # Concurrency
//
// A value is written only over something that was seen: a lease that the
// writer took before it loaded, or the value that it refreshes. Whatever
// happens in between, a deletion, an eviction, an expiry or another writer,
// has changed the first 20 bytes under the key, and the write is refused. So
// no slow load brings back what was invalidated while it ran.
//
// # Failure modes
//
// Redis being slow or gone is told of each key and ends within
// Config.Timeout; the cache goes on without it. Writes other than deletions
// are sent once: one that timed out may still be carried out later, and the
// fence then decides. What is under a key and not ours, or of a newer version,
// is a miss and is left alone; what is ours and damaged is a miss and is
// deleted. The log hears when Redis begins to fail and when it is back; it
// never sees a key.
package redistier
