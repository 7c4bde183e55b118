package dewartest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// chaosTier passes Stats through.
type chaosTier[V any] struct {
	dewar.RemoteTier[V]
	chaos *Chaos[V]

	mu     sync.Mutex // guards closed, and wg growing from zero
	closed bool
	quit   chan struct{}  // closed with closed
	wg     sync.WaitGroup // operations that are carried out later
}

// call is one operation that is asked for.
type call struct {
	op   string
	keys []string
	do   func()                       // carries it out for the caller
	fail func(error)                  // answers instead
	copy func() func(context.Context) // returns what carries it out for nobody
}

// around carries c out, or not, as chaos has it.
func (t *chaosTier[V]) around(ctx context.Context, c call) {
	if t.chaos.down.Load() {
		c.fail(ErrDown)
		return
	}
	f := t.chaos.line.fate(c.op, c.keys)
	if f.pause > 0 {
		t.chaos.line.pause(f.pause)
	}
	t.stall(f.resume)
	if _, err := sleep(ctx, time.Duration(t.chaos.delay.Load())); err != nil {
		c.fail(err)
		return
	}
	if left, err := sleep(ctx, f.before); err != nil {
		if f.outcome != refused {
			t.later(ctx, left, c.copy())
		}
		c.fail(err)
		return
	}
	t.stall(f.resume)
	if t.chaos.Intercept != nil {
		if err := t.chaos.Intercept(c.op, c.keys); err != nil {
			c.fail(err)
			return
		}
	}
	switch f.outcome {
	case refused:
		c.fail(ErrFault)
		return
	case carriedOutLate:
		t.later(ctx, f.late, c.copy())
		c.fail(ErrFault)
		return
	}
	c.do()
	if f.again > 0 {
		t.later(ctx, f.again, c.copy())
	}
	_, err := sleep(ctx, f.after)
	t.stall(f.resume)
	if err == nil && f.outcome == answerLost {
		err = ErrFault
	}
	if err == nil && t.chaos.Answer != nil {
		err = t.chaos.Answer(c.op, c.keys)
	}
	if err != nil {
		c.fail(err)
	}
}

// sleep waits for d, or until ctx is done: then it returns why, and what is
// left of d.
func sleep(ctx context.Context, d time.Duration) (left time.Duration, err error) {
	if d <= 0 {
		return 0, nil
	}
	until := dewar.Clock() + int64(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0, nil
	case <-ctx.Done():
		return max(0, time.Duration(until-dewar.Clock())), context.Cause(ctx)
	}
}

// stall waits while the process is paused, and for resume after that, but at
// most until Close.
func (t *chaosTier[V]) stall(resume time.Duration) {
	for {
		d := time.Duration(t.chaos.line.pausedUntil() - dewar.Clock())
		if d <= 0 {
			return
		}
		timer := time.NewTimer(d + resume)
		select {
		case <-timer.C:
		case <-t.quit:
			timer.Stop()
			return
		}
	}
}

// later carries out do in d, or when the tier is closed; Close waits.
func (t *chaosTier[V]) later(ctx context.Context, d time.Duration, do func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	ctx = context.WithoutCancel(ctx)
	t.wg.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.quit:
		}
		do(ctx)
	})
}

// Close carries out at once what was still to be carried out later.
func (t *chaosTier[V]) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.quit)
	}
	t.mu.Unlock()
	t.wg.Wait()
	return t.RemoteTier.Close()
}

func (t *chaosTier[V]) look(ctx context.Context, op string, do func(context.Context, []string, []dewar.Found[V]), keys []string, found []dewar.Found[V]) {
	t.around(ctx, call{
		op: op, keys: keys,
		do:   func() { do(ctx, keys, found) },
		fail: func(err error) { failFound(found[:len(keys)], err) },
		copy: func() func(context.Context) {
			keys := slices.Clone(keys)
			return func(ctx context.Context) { do(ctx, keys, make([]dewar.Found[V], len(keys))) }
		},
	})
}

func (t *chaosTier[V]) Read(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.look(ctx, "Read", t.RemoteTier.Read, keys, found)
}

func (t *chaosTier[V]) Lease(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.look(ctx, "Lease", t.RemoteTier.Lease, keys, found)
}

func (t *chaosTier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.look(ctx, "LeaseRefresh", t.RemoteTier.LeaseRefresh, keys, found)
}

func (t *chaosTier[V]) Seize(ctx context.Context, keys []string, found []dewar.Found[V]) {
	t.look(ctx, "Seize", t.RemoteTier.Seize, keys, found)
}

func (t *chaosTier[V]) write(ctx context.Context, op string, do func(context.Context, []dewar.Fill[V]), fills []dewar.Fill[V]) {
	t.around(ctx, call{
		op: op, keys: fillKeys(fills),
		do:   func() { do(ctx, fills) },
		fail: func(err error) { failFills(fills, err) },
		copy: func() func(context.Context) {
			fills := slices.Clone(fills)
			return func(ctx context.Context) { do(ctx, fills) }
		},
	})
}

func (t *chaosTier[V]) Fill(ctx context.Context, fills []dewar.Fill[V]) {
	t.write(ctx, "Fill", t.RemoteTier.Fill, fills)
}

func (t *chaosTier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	t.write(ctx, "Renew", t.RemoteTier.Renew, fills)
}

func (t *chaosTier[V]) Release(ctx context.Context, fills []dewar.Fill[V]) {
	t.write(ctx, "Release", t.RemoteTier.Release, fills)
}

// confirm is an operation that answers with errors alone.
func (t *chaosTier[V]) confirm(ctx context.Context, op string, do func(context.Context, []string, []error), keys []string, errs []error) {
	t.around(ctx, call{
		op: op, keys: keys,
		do:   func() { do(ctx, keys, errs) },
		fail: func(err error) { failErrs(errs[:len(keys)], err) },
		copy: func() func(context.Context) {
			keys := slices.Clone(keys)
			return func(ctx context.Context) { do(ctx, keys, make([]error, len(keys))) }
		},
	})
}

func (t *chaosTier[V]) Unlink(ctx context.Context, keys []string, errs []error) {
	t.confirm(ctx, "Unlink", t.RemoteTier.Unlink, keys, errs)
}

func (t *chaosTier[V]) Expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	t.confirm(ctx, "Expire", func(ctx context.Context, keys []string, errs []error) {
		t.RemoteTier.Expire(ctx, keys, keep, errs)
	}, keys, errs)
}

func (t *chaosTier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	t.around(ctx, call{
		op: "Announce", keys: keys,
		do:   func() { t.RemoteTier.Announce(ctx, kind, keys, places, errs) },
		fail: func(err error) { failErrs(errs[:len(keys)], err) },
		copy: func() func(context.Context) {
			keys := slices.Clone(keys)
			return func(ctx context.Context) {
				t.RemoteTier.Announce(ctx, kind, keys, make([]dewar.Place, len(keys)), make([]error, len(keys)))
			}
		},
	})
}

func (t *chaosTier[V]) NextEpoch(ctx context.Context) (err error) {
	t.around(ctx, call{
		op:   "NextEpoch",
		do:   func() { err = t.RemoteTier.NextEpoch(ctx) },
		fail: func(failed error) { err = failed },
		copy: func() func(context.Context) {
			return func(ctx context.Context) { t.RemoteTier.NextEpoch(ctx) }
		},
	})
	return err
}

func fillKeys[V any](fills []dewar.Fill[V]) []string {
	keys := make([]string, len(fills))
	for i := range fills {
		keys[i] = fills[i].Key
	}
	return keys
}
