package redistier

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

const (
	defaultDefconName = "defcon"
	maxDefconName     = 64
)

// DefconConfig describes for [SharedDefcon] how the dials of a fleet turn
// together. Dials with the same Redis, Prefix and Name are one fleet.
type DefconConfig struct {
	// Client is the caller's, of the sorts that Config.Client takes, and may
	// be the same. It is never closed. Required.
	Client redis.UniversalClient

	// Name is the fleet's: 1 to 64 of A-Z a-z 0-9 . _ -. Defaults to "defcon".
	Name string

	// Prefix is that of Config. Defaults to "dewar".
	Prefix string

	// Timeout bounds each round trip to Redis. With one of more than 300ms, a
	// Redis that is slow may keep a turn from the fleet for longer than a
	// second. Defaults to 100ms.
	Timeout time.Duration

	// Logger hears when the fleet cannot be reached and when it can again.
	// The turns themselves are told by the dial. Defaults to the dial's Logger;
	// if that is nil too, nobody hears.
	Logger *slog.Logger
}

// check returns every problem, joined, or nil.
func (c DefconConfig) check(dial *dewar.Defcon) error {
	errs := []error{checkClient(c.Client), checkPrefix(c.Prefix), checkDefconName(c.Name)}
	if dial == nil {
		errs = append(errs, errors.New("redistier: SharedDefcon needs a dial; pass the one that is Config.Defcon of your caches"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("redistier: Timeout is %v; it must not be negative", c.Timeout))
	}
	return errors.Join(errs...)
}

func checkDefconName(name string) error {
	ok := len(name) <= maxDefconName
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("redistier: Name must be 1 to %d of A-Z a-z 0-9 . _ -, not %.80q", maxDefconName, name)
	}
	return nil
}

// FleetDefcon is a dial's part in a fleet. See [SharedDefcon].
type FleetDefcon struct {
	dial    *dewar.Defcon
	client  redis.UniversalClient
	key     string
	timeout time.Duration
	log     *slog.Logger

	back    *background // runs the goroutine that talks with Redis
	wake    chan struct{}
	unwatch func()
	closing sync.Once
	err     error // what Close returns, once back is stopped

	mu    sync.Mutex  // mu guards these
	own   *dewar.Turn // the last turn of this dial that has no revision yet; nil: none
	set   dewar.Level // what the dial was last set to, as far as heard; 0: nothing was heard
	heard int         // turns by the fleet that were heard

	// Of the goroutine, and before that of SharedDefcon.
	last    record // the newest turn that is known; its revision is 0 while there is none
	owed    bool   // last is a turn of this dial, and Redis may not have it
	made    int    // turns by the fleet that this has made
	fails   int    // rounds in a row
	foreign bool   // told the log that something else is under the key
}

// SharedDefcon makes a dial turn together with those of the other processes
// that share it: what one is turned to, in any way but by the rule of
// Automate, all are within a second. Close the result when the program ends.
//
//	dial := new(dewar.Defcon)
//	fleet, err := redistier.SharedDefcon(dial, redistier.DefconConfig{Client: rdb})
//	if err != nil {
//		return err
//	}
//	defer fleet.Close()
//	cache, err := dewar.New(dewar.Config[string, Video]{Defcon: dial, ...})
//
// The dial itself is turned at once, whether Redis answers or not, and no turn
// waits for Redis. Turns that come from another process have Via
// [dewar.ViaFleet] and that one's Who and Why, without what cannot be printed
// and cut after 200 and 1000 bytes; every dial logs them. If several people
// turn dials, the last turn by Redis's clock is everybody's, also where it
// reached Redis late. What the rule does stays each process's own: it judges
// what that process sees, and never goes past the level that the fleet has set.
// A flag that Follow reports is shared like any other turn, unless the fleet has
// its level already, so that one process or all may follow.
//
// If the fleet has a level, the dial is turned to it before SharedDefcon
// returns, which takes no longer than Timeout. If it has none, then a turn of
// the dial before this call, by anything but the rule, becomes the fleet's.
//
// Redis may be away, at the start as well: every process keeps its level, and
// is told what happened, and tells what it was turned to, when Redis is back. A
// Redis that has lost the last turn, by a flush, an eviction, a restart or a
// failover, gets it back from whichever process still knows it. The key,
// {<prefix>}:defcon:<name>, has no time to live: to forget a level, turn a dial
// to Normal. What is under the key and not a turn is left alone, and overwritten
// by the next turn. Redis is asked three times a second by each process.
//
// It returns every problem of the configuration, joined, and an error for a dial
// that is shared already. Redis being unreachable is none.
func SharedDefcon(dial *dewar.Defcon, cfg DefconConfig) (*FleetDefcon, error) {
	if err := cfg.check(dial); err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = dial.Logger
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	name := cmp.Or(cfg.Name, defaultDefconName)
	f := &FleetDefcon{
		dial:    dial,
		client:  cfg.Client,
		key:     defconKey(cmp.Or(cfg.Prefix, defaultPrefix), name),
		timeout: cmp.Or(cfg.Timeout, defaultTimeout),
		log:     log.With("name", name),
		back:    newBackground(),
		wake:    make(chan struct{}, 1),
	}
	if !f.claim() {
		return nil, errors.New("redistier: this dial is shared already; a dial can follow one fleet: Close the other first")
	}
	f.unwatch = dial.Watch(f.turned)
	f.begin()
	f.back.start(f.run) // waited for by Close
	return f, nil
}

// Close ends the dial's part in the fleet; the dial stays at its level. A turn
// that Redis has not confirmed is tried once more, for a Timeout, and if that
// fails too the error says that the fleet has not heard of it. Close waits for
// what it ends and must not be called by what [dewar.Defcon.Watch] calls.
// Calling it again returns the same.
func (f *FleetDefcon) Close() error {
	f.closing.Do(func() {
		f.unwatch()
		f.back.stop()
		f.release()
	})
	return f.err
}

// sharedDials are those that have a part in a fleet. Two fleets on one dial
// would turn it back and forth: each takes the other's turns for its own.
var sharedDials = struct {
	mu sync.Mutex // mu guards of
	of map[*dewar.Defcon]*FleetDefcon
}{of: make(map[*dewar.Defcon]*FleetDefcon)}

func (f *FleetDefcon) claim() bool {
	sharedDials.mu.Lock()
	defer sharedDials.mu.Unlock()
	if sharedDials.of[f.dial] != nil {
		return false
	}
	sharedDials.of[f.dial] = f
	return true
}

func (f *FleetDefcon) release() {
	sharedDials.mu.Lock()
	defer sharedDials.mu.Unlock()
	delete(sharedDials.of, f.dial)
}
