package dewartest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// ErrDown is why operations fail while Chaos.Down is set.
var ErrDown = errors.New("dewartest: the remote tier is down")

// Chaos makes a remote tier fail in the ways that a test chooses:
//
//	chaos := &dewartest.Chaos[Video]{Remote: dewartest.NewRemote[Video]()}
//	cache, err := dewar.New(dewar.Config[string, Video]{Remote: chaos, ...})
//	chaos.Down(true)
//
// An operation fails if Down is set, else waits for Delay, then is shown to
// Intercept, then is carried out, then is shown to Answer. Its name, op, is that
// of the method of dewar.RemoteTier: "Read", "Lease", "LeaseRefresh", "Seize",
// "Fill", "Renew", "Release", "Unlink", "Expire", "Announce", or "NextEpoch",
// which has no keys. Seed adds faults that nobody chose.
//
// In a fleet each process has a Chaos of its own around the one Remote. What its
// caches hear of the others goes wrong by Lag, Miss and Deaf, and by the faults
// of announcements; all these need Remote to be a *Remote, and do nothing over
// any other tier.
type Chaos[V any] struct {
	// Remote is what is decorated. Required. The fields are not to be changed
	// once a tier is open.
	Remote dewar.RemoteOpener[V]

	// Intercept, if not nil, is called before each operation, from the
	// goroutine that asks for it. It may block, so that a test holds a fill at
	// a gate. An error fails the operation for all its keys, and nothing is
	// carried out. It must not keep keys.
	Intercept func(op string, keys []string) error

	// Answer, if not nil, is called after each operation that was carried
	// out. An error takes the place of the answer: done, but nobody knows.
	Answer func(op string, keys []string) error

	down  atomic.Bool
	delay atomic.Int64 // ns
	line  line
}

var _ dewar.RemoteOpener[string] = (*Chaos[string])(nil)

// Down makes all operations that begin from now on fail at once with ErrDown,
// or lets them through again.
func (c *Chaos[V]) Down(down bool) { c.down.Store(down) }

// Delay makes all operations that begin from now on wait for d first, or until
// their context is done, which then fails them. 0 ends it.
func (c *Chaos[V]) Delay(d time.Duration) { c.delay.Store(int64(d)) }

// Lag makes what is announced from now on be heard d later. 0 ends it.
func (c *Chaos[V]) Lag(d time.Duration) { c.line.set(func() { c.line.lag = d }) }

// Miss makes what is announced from now on not be heard. With Miss(false), or
// when a tier that was deaf hears again, the gap is found: Missed is called
// before anything else, and a tier that has missed a new epoch moves there.
func (c *Chaos[V]) Miss(miss bool) { c.line.set(func() { c.line.miss = miss }) }

// Deaf makes announcements stop coming in, or come in again. After 2 s of it
// the caches are told so with RemoteEvents.Deaf(maxAge). What was announced
// meanwhile is heard in the end, before Hearing; together with Miss it is
// missed.
func (c *Chaos[V]) Deaf(deaf bool, maxAge time.Duration) {
	now := dewar.Clock()
	c.line.set(func() {
		switch {
		case !deaf:
			c.line.deaf = 0
		case c.line.deaf == 0:
			c.line.deaf = now
		}
		c.line.maxAge = maxAge
	})
}

// Pause stalls the process for d from now on: no operation is carried out, no
// answer and no announcement arrives, whatever the contexts say.
func (c *Chaos[V]) Pause(d time.Duration) { c.line.pause(d) }

// Seed makes operations and announcements go wrong at the rates of f, as seed
// decides; Faults{} ends it. Each process of a fleet needs a seed of its own.
//
// A seed that has failed a test can be replayed. What befalls an operation
// depends only on the seed, its name, its keys and how often it was asked of
// these keys before, and what befalls an announcement on the seed and the
// announcement: not on the order in which goroutines come. And each operation
// and each announcement takes up to 0.1 ms of the seed's choosing, so that
// inside a testing/synctest bubble no two happen at the same instant; in which
// order they happen is then up to the seed too. What is left to the scheduler
// is what the test itself does at one instant: let its goroutines pause for
// times of the seed's choosing as well.
func (c *Chaos[V]) Seed(seed uint64, f Faults) { c.line.seed(seed, f) }

// Validate implements dewar.RemoteOpener.
func (c *Chaos[V]) Validate() error {
	if c == nil || c.Remote == nil {
		return errors.New("dewartest: Chaos.Remote is required")
	}
	return c.Remote.Validate()
}

// OpenRemote implements dewar.RemoteOpener. It succeeds also while Down is
// set.
func (c *Chaos[V]) OpenRemote(o dewar.RemoteOptions) (dewar.RemoteTier[V], error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Events != nil {
		o.Events = &lineEvents{o.Events, &c.line}
	}
	inner, err := c.Remote.OpenRemote(o)
	if err != nil {
		return nil, err
	}
	return &chaosTier[V]{RemoteTier: inner, chaos: c, quit: make(chan struct{})}, nil
}
