package dewartest

import (
	"context"
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
// Intercept, then is carried out, then is shown to Answer. Its name, op, is
// that of the method of dewar.RemoteTier: "Read", "Lease", "Seize", "Fill",
// "Release", "Unlink" or "Expire".
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
	return &chaosTier[V]{RemoteTier: inner, chaos: c}, nil
}

// chaosTier passes Stats and Close through.
type chaosTier[V any] struct {
	dewar.RemoteTier[V]
	chaos *Chaos[V]
}

// before returns why an operation is not carried out, or nil.
func (t *chaosTier[V]) before(ctx context.Context, op string, keys []string) error {
	if t.chaos.down.Load() {
		return ErrDown
	}
	if d := time.Duration(t.chaos.delay.Load()); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if t.chaos.Intercept != nil {
		return t.chaos.Intercept(op, keys)
	}
	return nil
}

// after returns why the answer of an operation is lost, or nil.
func (t *chaosTier[V]) after(op string, keys []string) error {
	if t.chaos.Answer != nil {
		return t.chaos.Answer(op, keys)
	}
	return nil
}

// around carries out an operation between before and after.
func (t *chaosTier[V]) around(ctx context.Context, op string, keys []string, do func(), fail func(error)) {
	if err := t.before(ctx, op, keys); err != nil {
		fail(err)
		return
	}
	do()
	if err := t.after(op, keys); err != nil {
		fail(err)
	}
}

func (t *chaosTier[V]) Read(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.around(ctx, "Read", keys,
		func() { t.RemoteTier.Read(ctx, keys, found) },
		func(err error) { failFound(found[:len(keys)], err) })
}

func (t *chaosTier[V]) Lease(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.around(ctx, "Lease", keys,
		func() { t.RemoteTier.Lease(ctx, keys, found) },
		func(err error) { failFound(found[:len(keys)], err) })
}

func (t *chaosTier[V]) Seize(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.around(ctx, "Seize", keys,
		func() { t.RemoteTier.Seize(ctx, keys, found) },
		func(err error) { failFound(found[:len(keys)], err) })
}

func (t *chaosTier[V]) Fill(ctx context.Context, fills []dewar.Fill[V]) {
	t.around(ctx, "Fill", fillKeys(fills),
		func() { t.RemoteTier.Fill(ctx, fills) },
		func(err error) { failFills(fills, err) })
}

func (t *chaosTier[V]) Release(ctx context.Context, fills []dewar.Fill[V]) {
	t.around(ctx, "Release", fillKeys(fills),
		func() { t.RemoteTier.Release(ctx, fills) },
		func(err error) { failFills(fills, err) })
}

func (t *chaosTier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.around(ctx, "LeaseRefresh", keys,
		func() { t.RemoteTier.LeaseRefresh(ctx, keys, found) },
		func(err error) { failFound(found[:len(keys)], err) })
}

func (t *chaosTier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	t.around(ctx, "Renew", fillKeys(fills),
		func() { t.RemoteTier.Renew(ctx, fills) },
		func(err error) { failFills(fills, err) })
}

func (t *chaosTier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	t.around(ctx, "Announce", keys,
		func() { t.RemoteTier.Announce(ctx, kind, keys, places, errs) },
		func(err error) { failErrs(errs[:len(keys)], err) })
}

func (t *chaosTier[V]) NextEpoch(ctx context.Context) (err error) {
	t.around(ctx, "NextEpoch", nil,
		func() { err = t.RemoteTier.NextEpoch(ctx) },
		func(failed error) { err = failed })
	return err
}

func (t *chaosTier[V]) Unlink(ctx context.Context, keys []string, errs []error) {
	t.around(ctx, "Unlink", keys,
		func() { t.RemoteTier.Unlink(ctx, keys, errs) },
		func(err error) { failErrs(errs[:len(keys)], err) })
}

func (t *chaosTier[V]) Expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	t.around(ctx, "Expire", keys,
		func() { t.RemoteTier.Expire(ctx, keys, keep, errs) },
		func(err error) { failErrs(errs[:len(keys)], err) })
}

func fillKeys[V any](fills []dewar.Fill[V]) []string {
	keys := make([]string, len(fills))
	for i := range fills {
		keys[i] = fills[i].Key
	}
	return keys
}
