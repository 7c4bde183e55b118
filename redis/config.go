package redistier

import (
	"errors"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

const (
	defaultPrefix   = "dewar"
	defaultTimeout  = 100 * time.Millisecond
	defaultMaxValue = 1 << 20

	maxPrefix = 64
)

// Config describes the remote tier: Redis 7.0 or newer, a single node, behind
// Sentinel, or a Cluster. It goes into dewar.Config.Remote.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
//	... Remote: redistier.Config[Video]{Client: rdb} ...
//
// One client may serve any number of caches, and anything else. They share one
// of its connections, on which a read waits for announcements. With a PoolSize
// of 1 there is none to spare, and Redis is asked for them 20 times a second.
type Config[V any] struct {
	// Client is the caller's client, a *redis.Client or *redis.ClusterClient.
	// The tier never closes it. Required.
	//
	// It must have ContextTimeoutEnabled set: without it go-redis ignores
	// deadlines, and a Redis that stalls holds every reader for its
	// ReadTimeout, 3 seconds, times the number of tries. Reads must go to
	// primaries, and go-redis's client-side cache must be off: both would
	// answer with what was deleted already. (A client made by
	// NewFailoverClient does not show its ReplicaOnly; leave it off.) Harden
	// makes options that suit.
	Client redis.UniversalClient

	// Codec encodes the values. Defaults to CBOR[V]().
	Codec Codec[V]

	// Prefix begins every Redis key, or stands between its first braces: letters,
	// digits, and any of ". _ - /", at most 64 bytes. Defaults to "dewar".
	Prefix string

	// Timeout bounds one Redis round trip: waiting for a connection, dialling,
	// retries of the client and all. The caller's context bounds it as well.
	// Defaults to 100ms plus 1ms for each 64 KiB expected.
	Timeout time.Duration

	// MaxValue is the largest encoded value that is written, in bytes before
	// compression; larger ones stay local. At most 4 MiB; what is read is
	// bounded by 8 MiB, and by 8 MiB again once decompressed. Defaults to 1 MiB.
	MaxValue int

	// CompressOver is the size in bytes over which encoded values are
	// compressed, by zstd, unless that does not make them smaller. Compressed
	// values are read whatever it says. Defaults to 0: none is compressed.
	CompressOver int

	// Seal holds the keys by which values are encrypted, AES-256-GCM: the first
	// one seals what is written, all of them open what is read. Remembered
	// missing keys are sealed as well. Defaults to none: nothing is sealed.
	//
	// A sealed value counts only under the very prefix, name, schema, epoch and
	// key it was written for, with the times, stamp and codec it was written
	// with; an altered or moved one is a miss and is deleted. A value that is not
	// sealed is a miss and is left alone, and so is a sealed one to a tier that
	// has not got its key. So that a fleet does not work with half a cache while
	// sealing is being turned on or off, change dewar.Config.Schema with it.
	//
	// To change keys, add the new one last in every process, then move it to
	// the front in every process, then take the old one out when what it sealed
	// is dead. A key may seal 4,294,967,296 values (2^32) over all caches and
	// processes that share it, 49 days at 1,000 writes a second: nonces are 96
	// random bits, and beyond that two of them might be alike, which would give
	// away what they hide. Nobody counts; change keys in time, or give each
	// cache its own.
	//
	// Not hidden are the users' keys, times, sizes, and whether a key is
	// missing. Who may write to Redis can still delete, take leases, and put
	// back what was once sealed for the same key until that is dead.
	Seal []SealKey

	// CompressSealed permits CompressOver together with Seal. The size of what
	// was compressed tells of its contents: who can have text of his choice
	// stored beside a secret learns the secret from sizes. Defaults to false.
	CompressSealed bool

	// MaxDeaf bounds what the local tier serves while no announcements come in:
	// after 2 seconds without them, entries loaded longer ago than this are no
	// longer fresh. It trades load of the origin, at the worst moment, for
	// freshness. Defaults to 0: off, entries live out their TTL.
	MaxDeaf time.Duration

	// AllowLossy accepts a V of which the CBOR or JSON codec does not keep
	// everything: unexported fields, fields tagged "-", fields of an interface
	// type (map[string]any among them: an int64 comes back as a uint64 or a
	// float64, a struct as a map), funcs and channels. Otherwise such a V is an
	// error that names each field, because a field that is there on a hit of the
	// local tier and gone on a hit of Redis is found out late. Defaults to false.
	AllowLossy bool

	wall func() time.Time // this machine's clock; nil: time.Now
}

var _ dewar.RemoteOpener[string] = Config[string]{}

// Validate returns every problem of the description, joined, or nil. It does
// not talk to Redis.
func (c Config[V]) Validate() error {
	errs := []error{checkClient(c.Client), checkPrefix(c.Prefix)}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("redistier: Timeout is %v; it must not be negative", c.Timeout))
	}
	if c.MaxDeaf < 0 {
		errs = append(errs, fmt.Errorf("redistier: MaxDeaf is %v; it must not be negative", c.MaxDeaf))
	}
	if c.MaxValue < 0 || c.MaxValue > maxRead/2 {
		errs = append(errs, fmt.Errorf("redistier: MaxValue is %d; it must be 0 to %d bytes", c.MaxValue, maxRead/2))
	}
	if c.CompressOver < 0 {
		errs = append(errs, fmt.Errorf("redistier: CompressOver is %d; it must not be negative; 0 compresses nothing", c.CompressOver))
	}
	errs = append(errs, checkSeal(c.Seal)...)
	if len(c.Seal) > 0 && c.CompressOver > 0 && !c.CompressSealed {
		errs = append(errs, errors.New("redistier: CompressOver together with Seal: the sizes of compressed values leak what is in them; leave CompressOver 0, or set CompressSealed if that does not matter here"))
	}
	if f, ok := c.codec().(interface{ missing() error }); ok {
		errs = append(errs, f.missing())
	}
	if n, ok := c.codec().(numbered); ok && !c.AllowLossy {
		if err := n.lossy(); err != nil {
			errs = append(errs, fmt.Errorf("redistier: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (c Config[V]) codec() Codec[V] {
	if c.Codec == nil {
		return CBOR[V]()
	}
	return c.Codec
}

// OpenRemote opens the tier. It tries for one Timeout to reach Redis, which may
// be down: then the tier goes on trying and its operations fail with
// ErrNotJoined until it has. Closing the tier does not close the Client.
func (c Config[V]) OpenRemote(o dewar.RemoteOptions) (dewar.RemoteTier[V], error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.LeaseFor <= 0 {
		return nil, fmt.Errorf("redistier: RemoteOptions.LeaseFor is %v; it must be positive", o.LeaseFor)
	}
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.MaxValue == 0 {
		c.MaxValue = defaultMaxValue
	}
	seal, err := newSealer(c.Seal)
	if err != nil {
		return nil, fmt.Errorf("redistier: Seal: %w", err)
	}
	t := &tier[V]{
		wire: wire{
			client:  c.Client,
			name:    o.Name,
			timeout: c.Timeout,
			log:     o.Logger,
		},
		codec:    c.codec(),
		seal:     seal,
		maxValue: c.MaxValue,
		leasePX:  millis(o.LeaseFor),
	}
	t.zip.over = c.CompressOver
	t.into, _ = t.codec.(inPlace[V])
	if n, ok := t.codec.(numbered); ok {
		t.codecNumber = n.number()
	}
	_, t.single = c.Client.(interface{ Options() *redis.Options })
	if c.wall == nil {
		c.wall = time.Now
	}
	t.suspect = t.suspectServers
	t.start(c.wall, "{"+c.Prefix+"}")
	t.follower.open(&t.wire, c.Prefix, c.MaxDeaf, o)
	return t, nil
}
