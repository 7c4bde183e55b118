package redistier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// maxBatch is the largest number of keys in one command or pipeline: more
// would hold Redis, which does one thing at a time, for too long.
const maxBatch = 1000

// wire sends commands and watches how that goes.
type wire struct {
	client  redis.UniversalClient
	single  bool // one node answers for all keys: commands may take several
	name    string
	timeout time.Duration // 0: by size
	log     *slog.Logger

	nodes *nodes
	clock *redisClock
	back  *background

	// suspect tells the bus that a node may not be the one it was.
	suspect func()

	closed atomic.Bool
	apart  atomic.Bool  // the bus has not joined yet: nothing may be sent
	mean   atomic.Int64 // moving average of the sizes of values read, bytes

	errors     atomic.Uint64
	denied     atomic.Uint64
	down       atomic.Bool  // told the log that Redis fails, not yet that it is back
	lastWarn   atomic.Int64 // when it was told, on dewar.Clock; 0: never
	lastDenied atomic.Int64 // when the log was told of a refusal, likewise
}

// start makes what w needs besides its plain fields and gets ready in the
// background what can be: the table of slots, and Redis's knowledge of the
// scripts. clockKey is the Redis key whose node tells the time.
func (w *wire) start(wall func() time.Time, clockKey string) {
	w.back = newBackground()
	w.nodes = newNodes(w, w.back)
	w.clock = newRedisClock(func(ctx context.Context) (time.Time, error) { return w.serverTime(ctx, clockKey) }, wall, w.log)
	w.back.start(func(ctx context.Context) {
		if !w.single {
			w.nodes.look(ctx)
		}
		w.loadScripts(ctx)
	})
}

// stop ends what start began and refuses what is asked from now on.
func (w *wire) stop() {
	w.closed.Store(true)
	w.back.stop()
}

// serverTime asks the node of key for the time: on a Cluster all processes ask
// the same one.
func (w *wire) serverTime(ctx context.Context, key string) (time.Time, error) {
	bounded, cancel, err := w.bound(ctx, 0)
	if err != nil {
		return time.Time{}, err
	}
	defer cancel()
	v, err := w.nodes.of(key).reads.allow()
	if err != nil {
		return time.Time{}, err
	}
	verdict := errUncounted
	defer func() { v.end(verdict) }()
	at, err := timeOf(bounded, w.client, key)
	verdict = blame(ctx, err)
	return at, err
}

// timeOf is serverTime past breakers.
func timeOf(ctx context.Context, client redis.UniversalClient, key string) (time.Time, error) {
	primary, err := primaryOf(ctx, client, key)
	if err != nil {
		return time.Time{}, err
	}
	return primary.Time(ctx).Result()
}

// barred returns why nothing may be sent, or nil.
func (w *wire) barred(ctx context.Context) error {
	switch {
	case w.closed.Load():
		return dewar.ErrClosed
	case w.apart.Load():
		return ErrNotJoined
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// bound returns ctx with the bound of one round trip in which about size bytes
// travel, or why nothing may be sent.
func (w *wire) bound(ctx context.Context, size int64) (context.Context, context.CancelFunc, error) {
	if err := w.barred(ctx); err != nil {
		return nil, nil, err
	}
	timeout := w.timeout
	if timeout == 0 {
		timeout = defaultTimeout + time.Duration(size/(64<<10))*time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, cancel, nil
}

// The once commands are sent once. go-redis repeats commands whose reply was
// lost:
//
//  1. we send SET k <lease>; Redis executes it; the connection breaks
//  2. another process fills, a third invalidates k
//  3. go-redis sends the SET again, over what has happened since
//
// It does not when the command says NoRetry, or one of its pipeline does.
type (
	onceString struct{ *redis.StringCmd }
	onceStatus struct{ *redis.StatusCmd }
	onceInt    struct{ *redis.IntCmd }
)

func (*onceString) NoRetry() bool { return true }
func (*onceStatus) NoRetry() bool { return true }
func (*onceInt) NoRetry() bool    { return true }

// send carries out cmds in one round trip per node, past no breaker. Every
// command that was not answered has an error afterwards.
func (w *wire) send(ctx context.Context, cmds []redis.Cmder) {
	switch len(cmds) {
	case 0:
		return
	case 1:
		if err := w.client.Process(ctx, cmds[0]); err != nil && cmds[0].Err() == nil {
			cmds[0].SetErr(err)
		}
		return
	}
	pipe := w.client.Pipeline()
	if err := pipe.BatchProcess(ctx, cmds...); err != nil {
		setErrs(cmds, err)
		return
	}
	if _, err := pipe.Exec(ctx); err != nil {
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				return // the error is that of a command, the others were answered
			}
		}
		setErrs(cmds, err) // a hook refused the pipeline
	}
}

func setErrs(cmds []redis.Cmder, err error) {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// failed counts a command that Redis did not carry out, or may not have, and
// returns the error to tell. ctx is the caller's: when that is done, it was
// not Redis that failed.
func (w *wire) failed(ctx context.Context, op string, err error) error {
	if errors.Is(err, ErrBreakerOpen) {
		return err // nothing was sent
	}
	w.errors.Add(1)
	if isDenied(err) {
		w.denied.Add(1)
		w.wasDenied(op, err)
		return fmt.Errorf("redistier: %s: %w", op, err)
	}
	w.suspect()
	if ctx.Err() == nil {
		w.wentDown(op, err)
	}
	return fmt.Errorf("redistier: %s: %w", op, err)
}

// deniedEvery is the least time between two alarms: they last until somebody
// mends the password or the ACL.
const deniedEvery = time.Minute

func (w *wire) wasDenied(op string, err error) {
	last, now := w.lastDenied.Load(), max(1, dewar.Clock())
	if last != 0 && now-last < int64(deniedEvery) || !w.lastDenied.CompareAndSwap(last, now) {
		return
	}
	w.log.Error("dewar: Redis denies access; the cache goes on without it", "name", w.name, "op", op, "error", err)
}

// warnEvery is the least time between two warnings.
const warnEvery = 10 * time.Second

// wentDown tells the log, once until Redis is back. The error texts of Redis
// and of go-redis hold no keys.
func (w *wire) wentDown(op string, err error) {
	if w.down.Load() {
		return
	}
	last, now := w.lastWarn.Load(), dewar.Clock()
	if last != 0 && now-last < int64(warnEvery) || !w.lastWarn.CompareAndSwap(last, max(now, 1)) {
		return
	}
	w.down.Store(true)
	w.log.Warn("dewar: Redis fails; the cache goes on without it", "name", w.name, "op", op, "error", err)
}

// wentWell tells the log that Redis is back, if it was told otherwise.
func (w *wire) wentWell() {
	if w.down.Load() && w.down.CompareAndSwap(true, false) {
		w.log.Warn("dewar: Redis is back", "name", w.name)
	}
}

// isWrongType reports whether Redis refused because the key holds a hash, a
// list or the like: nothing of ours.
func isWrongType(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok && strings.Contains(err.Error(), "WRONGTYPE")
}

// unlink deletes at most maxBatch keys. It is the one write that go-redis may
// repeat: a deletion that runs twice, or late, costs a load and no more.
func (w *wire) unlink(ctx context.Context, dks []string, errs []error) {
	bounded, cancel, err := w.bound(ctx, 0)
	if err != nil {
		fill(errs, err)
		return
	}
	defer cancel()
	if w.single {
		args := make([]any, 1, 1+len(dks))
		args[0] = "unlink"
		for _, dk := range dks {
			args = append(args, dk)
		}
		cmd := redis.NewIntCmd(bounded, args...)
		w.carry(ctx, bounded, writing, nil, []redis.Cmder{cmd})
		if err := cmd.Err(); err != nil {
			fill(errs, w.failed(ctx, "UNLINK", err))
			return
		}
		w.wentWell()
		fill(errs, nil)
		return
	}
	cmds := make([]redis.Cmder, len(dks))
	for i, dk := range dks {
		cmds[i] = redis.NewIntCmd(bounded, "unlink", dk)
	}
	w.carry(ctx, bounded, writing, dks, cmds)
	for i, cmd := range cmds {
		if errs[i] = cmd.Err(); errs[i] != nil {
			errs[i] = w.failed(ctx, "UNLINK", errs[i])
		} else {
			w.wentWell()
		}
	}
}

// fill sets every element of errs.
func fill(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}
