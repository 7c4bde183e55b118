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

	closed atomic.Bool
	apart  atomic.Bool // the bus has not joined yet: nothing may be sent

	// suspect tells the bus that a node may not be the one it was; nil: nobody
	// to tell.
	suspect func()
	mean    atomic.Int64 // moving average of the sizes of values read, bytes

	errors   atomic.Uint64
	down     atomic.Bool  // told the log that Redis fails, not yet that it is back
	lastWarn atomic.Int64 // when it was told, on dewar.Clock; 0: never
}

// bound returns ctx with the bound of one round trip in which about size bytes
// travel, or why nothing may be sent.
func (w *wire) bound(ctx context.Context, size int64) (context.Context, context.CancelFunc, error) {
	if w.closed.Load() {
		return nil, nil, dewar.ErrClosed
	}
	if w.apart.Load() {
		return nil, nil, ErrNotJoined
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
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

// send carries out cmds in one round trip per node. Every command that was
// not answered has an error afterwards.
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
	w.errors.Add(1)
	if w.suspect != nil {
		w.suspect()
	}
	if ctx.Err() == nil {
		w.wentDown(op, err)
	}
	return fmt.Errorf("redistier: %s: %w", op, err)
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

// fetch gets the values of at most maxBatch keys and calls take for each of
// them, in order. The string is gone when take returns. It is called with redis.Nil for what is absent, with an error that
// isWrongType for what is not a string, if that can be told.
func (w *wire) fetch(ctx context.Context, dks []string, take func(i int, raw string, err error)) {
	bounded, cancel, err := w.bound(ctx, int64(len(dks))*w.mean.Load())
	if err != nil {
		for i := range dks {
			take(i, "", err)
		}
		return
	}
	defer cancel()

	var present, size int
	answered := false
	each := func(i int, raw string, err error) {
		switch {
		case err == nil:
			present++
			size += len(raw)
			answered = true
		case errors.Is(err, redis.Nil), isWrongType(err):
			answered = true
		}
		take(i, raw, err)
	}
	if w.single && len(dks) > 1 {
		w.fetchMany(ctx, bounded, dks, each)
	} else {
		w.fetchEach(ctx, bounded, dks, each)
	}
	if answered {
		w.wentWell()
	}
	if present > 0 {
		mean := w.mean.Load()
		w.mean.Store(mean + (int64(size/present)-mean)/8) // a lost update does not matter
	}
}

// fetchMany asks the one node by MGET, which answers nil for other types. The
// strings that each is called with are gone when it returns.
func (w *wire) fetchMany(ctx, bounded context.Context, dks []string, each func(i int, raw string, err error)) {
	args := make([]any, 1, 1+len(dks))
	args[0] = "mget"
	// By pointer, which go-redis takes as well: a string would be allocated
	// once more for each key. A hook of the client's that looks at arguments
	// sees pointers.
	for i := range dks {
		args = append(args, &dks[i])
	}
	reply := replies.Get().(*rawReply)
	defer reply.put()
	cmd := redis.NewRawWriteToCmd(bounded, reply, args...)
	w.send(bounded, []redis.Cmder{cmd})
	err := cmd.Err()
	if err == nil {
		err = reply.cut(len(dks), each)
	} else if bounded.Err() == nil {
		// go-redis never repeats a raw command, as half of its reply may have
		// been written. Reading may be repeated: the usual way, with retries.
		err = w.fetchAgain(bounded, args, each)
	}
	if err != nil {
		err = w.failed(ctx, "MGET", err)
		for i := range dks {
			each(i, "", err)
		}
	}
}

// fetchAgain is fetchMany's second try. Unless it returns an error it calls
// each.
func (w *wire) fetchAgain(bounded context.Context, args []any, each func(i int, raw string, err error)) error {
	cmd := redis.NewSliceCmd(bounded, args...)
	w.send(bounded, []redis.Cmder{cmd})
	vals, err := cmd.Result()
	if err != nil {
		return err
	}
	if len(vals) != len(args)-1 {
		return fmt.Errorf("%d values for %d keys", len(vals), len(args)-1)
	}
	for i, val := range vals {
		if raw, ok := val.(string); ok {
			each(i, raw, nil)
		} else {
			each(i, "", redis.Nil)
		}
	}
	return nil
}

// fetchEach asks by GETs, which a Cluster client sends to the node of each.
func (w *wire) fetchEach(ctx, bounded context.Context, dks []string, each func(i int, raw string, err error)) {
	cmds := make([]redis.Cmder, len(dks))
	for i, dk := range dks {
		cmds[i] = redis.NewStringCmd(bounded, "get", dk)
	}
	w.send(bounded, cmds)
	for i, cmd := range cmds {
		raw, err := cmd.(*redis.StringCmd).Result()
		if err != nil && err != redis.Nil && !isWrongType(err) {
			err = w.failed(ctx, "GET", err)
		}
		each(i, raw, err)
	}
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
		w.send(bounded, []redis.Cmder{cmd})
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
	w.send(bounded, cmds)
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
