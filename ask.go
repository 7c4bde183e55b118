package dewar

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

// This file makes the calls of the origin: what each must pass before, who
// hears of how it went, and what happens when it outlives its time.

// The stages of a call, in asked.stage.
const (
	stageWaiting  = iota // for permission; nobody is calling
	stageRunning         // the loader runs
	stageOverdue         // it runs past its time: its flights are settled
	stageReturned        // it has returned
)

// asked is one call of the origin, with its repetition.
type asked[K comparable, V any] struct {
	c      *Cache[K, V]
	fs     []*flight[K, V]
	ctx    context.Context
	permit permit
	stage  atomic.Int32
	begun  int64 // of the loader's last run, on Clock; written before stageRunning
}

// ask makes one call of the origin for fs. call runs under a slot, and has its
// own error, or why it was not made, passed to finish, which settles every
// flight. When the flight runs out of time first, or the cache is closed, the
// flights settle with that at once, and the slot stays taken until the loader
// returns. What is refused settles as refused. held is what a background call
// has got so far.
func (c *Cache[K, V]) ask(fs []*flight[K, V], held *permit, call func(ctx context.Context, begun int64) error, finish func(error)) {
	ctx, cancel := c.flightContext(fs)
	defer cancel()
	a := &asked[K, V]{c: c, fs: fs, ctx: ctx}
	defer context.AfterFunc(ctx, a.late)()

	release, err := a.admit(held)
	if err != nil {
		c.refuse(fs, err)
		return
	}
	defer release()
	defer func() { finish(err) }()
	for repeated, again := false, true; again; repeated = true {
		if !a.begin() {
			err = context.Cause(ctx)
			return
		}
		err = ErrLoaderExited // unless the call returns or panics: only deferred functions see an exit
		if err = a.call(call, repeated); repeated {
			return
		}
		again, err = a.again(err)
	}
}

// admit passes what stands before the origin: the dial, and the guard.
func (a *asked[K, V]) admit(held *permit) (release func(), err error) {
	c := a.c
	policy := c.dialled.policy()
	if err := policy.pass(); err != nil {
		return nil, err
	}
	if held != nil {
		release = func() {} // whoever got it releases it
		err = held.resume(a.ctx)
		a.permit = *held
	} else {
		a.permit, err = c.origin.admit(a.ctx, a.fs[0].need.chain)
		release = a.permit.release
	}
	if err != nil {
		return nil, err
	}
	if turned := c.dialled.policy(); turned != policy { // while this waited
		if err := turned.pass(); err != nil {
			a.permit.tell(ErrNotCounted, 0)
			release()
			return nil, err
		}
	}
	if c.origin.retries != nil {
		c.origin.retries.earn()
	}
	return release, nil
}

// begin starts the loader's time. From here on the end of ctx counts it as
// overdue. If it has ended already there is nobody to load for; that is asked
// before as well, or late might find a loader that runs and never did.
func (a *asked[K, V]) begin() bool {
	a.begun = Clock()
	if a.ctx.Err() != nil {
		a.permit.tell(ErrNotCounted, 0)
		return false
	}
	a.stage.Store(stageRunning)
	if a.ctx.Err() == nil {
		return true
	}
	a.returned(ErrNotCounted)
	return false
}

// late runs when the time is over.
func (a *asked[K, V]) late() {
	cause := context.Cause(a.ctx)
	if a.stage.CompareAndSwap(stageRunning, stageOverdue) {
		a.c.overdue.Add(1)
		if unsaid, yes := a.c.toldLate.may(); yes {
			a.c.log.Warn("dewar: a load is past its time; it keeps its slot until it returns",
				"keys", len(a.fs), "first", a.c.cfg.LogKeys.of(a.fs[0].str), "why", cause, "unsaid", unsaid)
		}
		a.permit.tell(cause, time.Duration(Clock()-a.begun))
	}
	for _, f := range a.fs {
		a.c.settle(f, a.c.failed(cause))
	}
}

// returned tells the breaker, unless the loader was overdue and it knows.
func (a *asked[K, V]) returned(err error) {
	if a.stage.Swap(stageReturned) == stageOverdue {
		a.c.overdue.Add(-1)
		return
	}
	a.permit.tell(err, time.Duration(Clock()-a.begun))
}

// call runs the loader once.
func (a *asked[K, V]) call(call func(ctx context.Context, begun int64) error, repeated bool) (err error) {
	c := a.c
	info := LoadInfo{Cache: c.cfg.Name, Origin: c.origin.name, Keys: len(a.fs), Background: a.fs[0].need.background, Repeated: repeated}
	ctx := a.ctx
	c.count.add(countLoads, 1)
	c.count.add(countLoadedKeys, len(a.fs))
	if repeated {
		c.count.add(countRetries, 1)
	}
	c.seen.batchSize.see(float64(len(a.fs)))
	if c.trace.LoadStart != nil {
		c.trace.LoadStart(info)
	}
	var loaded func(LoadInfo)
	if c.trace.Load != nil {
		if ctx, loaded = c.trace.Load(ctx, info); ctx == nil {
			ctx = a.ctx // the loader is not to pay for the hook's mistake
		}
	}
	err = ErrLoaderExited
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		a.returned(err)
		if err != nil {
			c.count.add(countLoadErrors, 1)
		}
		info.Took, info.Err = time.Duration(Clock()-a.begun), err
		c.seen.loadTime.seeTime(info.Took)
		if loaded != nil {
			info.Waiters = a.waiters()
			loaded(info)
		}
		if c.trace.LoadDone != nil {
			info.Waiters = nil
			c.trace.LoadDone(info)
		}
	}()
	return causeOf(a.ctx, call(ctx, a.begun))
}

// waiters are the contexts of those who wait for the call beside the one whose
// context it began with: who has joined one of its flights, or started another.
func (a *asked[K, V]) waiters() []context.Context {
	var waiting []*need
	add := func(n *need) {
		if n != a.fs[0].need && n.caller != nil && len(waiting) < maxJoined && !slices.Contains(waiting, n) {
			waiting = append(waiting, n)
		}
	}
	for _, f := range a.fs {
		add(f.need)
		f.shard.mu.Lock()
		joined := f.joined
		f.shard.mu.Unlock()
		for _, n := range joined {
			add(n)
		}
	}
	contexts := make([]context.Context, len(waiting))
	for i, n := range waiting {
		contexts[i] = n.caller
	}
	return contexts
}

// again reports whether the call that ended with err is to be made once more,
// and what its flights end with where it is not.
func (a *asked[K, V]) again(err error) (bool, error) {
	o := a.c.origin
	if err == nil || a.ctx.Err() != nil || !o.repeats(err) {
		return false, err
	}
	pause(a.ctx, o.retries.wait())
	if a.ctx.Err() != nil {
		return false, context.Cause(a.ctx)
	}
	return a.c.dialled.policy().pass() == nil && a.permit.renew(), err
}

// allowed settles flights that have no chance of a load, before they ask the
// fleet for the right to one, and returns the others.
func (c *Cache[K, V]) allowed(fs []*flight[K, V]) []*flight[K, V] {
	if len(fs) == 0 {
		return nil
	}
	if err := c.hopeless(); err != nil {
		c.refuse(fs, err)
		return nil
	}
	return fs
}

// hopeless returns why no load would be let through, or nil.
func (c *Cache[K, V]) hopeless() error {
	if err := c.dialled.policy().refuses(); err != nil {
		return err
	}
	return c.origin.refuses()
}

// refuse settles flights that did not get as far as the origin.
func (c *Cache[K, V]) refuse(fs []*flight[K, V], err error) {
	out := c.failed(err)
	out.refused = true
	switch {
	case errors.Is(err, ErrOverloaded):
		c.count.add(countOverloaded, 1)
	case errors.Is(err, ErrBreakerOpen):
		c.count.add(countBreakerRefused, 1)
	case errors.Is(err, ErrDefcon):
		c.count.add(countDefconRefused, 1)
	default: // its time is over
		out.refused = false
	}
	for _, f := range fs {
		c.settle(f, out)
	}
}
