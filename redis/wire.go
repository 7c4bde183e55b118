package redistier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
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

	closed atomic.Bool
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
	var asked interface {
		Time(ctx context.Context) *redis.TimeCmd
	} = w.client
	if cluster, ok := w.client.(interface {
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	}); ok {
		primary, err := cluster.MasterForKey(bounded, key)
		if err != nil {
			verdict = blame(ctx, err)
			return time.Time{}, err
		}
		asked = primary
	}
	at, err := asked.Time(bounded).Result()
	verdict = blame(ctx, err)
	return at, err
}

// bound returns ctx with the bound of one round trip in which about size bytes
// travel, or why nothing may be sent.
func (w *wire) bound(ctx context.Context, size int64) (context.Context, context.CancelFunc, error) {
	if w.closed.Load() {
		return nil, nil, dewar.ErrClosed
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

// access says which of a node's breakers commands go through.
type access bool

const (
	reading access = false
	writing access = true
)

func (n *node) breaker(to access) *breaker {
	if to == writing {
		return n.writes
	}
	return n.reads
}

// carry carries out cmds in one round trip per node, past the breakers. The
// same number of them, one after the other, is about each of dks. With a
// single node dks may be nil. Every command that was not answered has an
// error afterwards. ctx is the caller's, bounded that of the round trip.
func (w *wire) carry(ctx, bounded context.Context, to access, dks []string, cmds []redis.Cmder) {
	w.carryThen(ctx, bounded, to, dks, cmds, nil)
}

// carryThen is carry that calls then, unless it is nil, for the keys of each
// node when that is done with: with their indexes, or nil for all. The calls
// may run at the same time.
func (w *wire) carryThen(ctx, bounded context.Context, to access, dks []string, cmds []redis.Cmder, then func(which []int)) {
	if len(cmds) == 0 {
		return
	}
	table := w.nodes.table.Load()
	if table != nil && len(dks) > 1 {
		w.visitAll(ctx, bounded, to, *table, dks, cmds, then)
	} else {
		n := w.nodes.only
		if len(dks) > 0 {
			n = w.nodes.of(dks[0])
		}
		w.visit(ctx, bounded, n.breaker(to), cmds)
		if then != nil {
			then(nil)
		}
	}
	if table != nil {
		w.nodes.lookSoon(lookAgain)
	}
}

// visitAll is carryThen for several nodes: each is sent its commands, in
// their order, and none waits for another.
func (w *wire) visitAll(ctx, bounded context.Context, to access, table slotTable, dks []string, cmds []redis.Cmder, then func(which []int)) {
	var visited []*node
	var ends []int // at first the number of keys of each node, then where they end in order
	place := make([]uint16, len(dks))
	for i, dk := range dks {
		n := table.of(slotOf(dk), w.nodes.only)
		k := slices.Index(visited, n)
		if k < 0 {
			k = len(visited)
			visited, ends = append(visited, n), append(ends, 0)
		}
		place[i] = uint16(k)
		ends[k]++
	}
	if len(visited) == 1 {
		w.visit(ctx, bounded, visited[0].breaker(to), cmds)
		if then != nil {
			then(nil)
		}
		return
	}
	start := 0
	for k, n := range ends {
		ends[k] = start
		start += n
	}
	per := len(cmds) / len(dks)
	order := make([]int, len(dks)) // indexes of dks, node by node
	sorted := make([]redis.Cmder, len(cmds))
	for i, k := range place {
		at := ends[k]
		order[at] = i
		copy(sorted[at*per:], cmds[i*per:(i+1)*per])
		ends[k]++
	}
	var wg sync.WaitGroup
	var panicked atomic.Pointer[any]
	start = 0
	for k, n := range visited {
		from, end := start, ends[k]
		start = end
		wg.Go(func() { // waited for below
			defer func() {
				if r := recover(); r != nil {
					panicked.Store(&r)
				}
			}()
			w.visit(ctx, bounded, n.breaker(to), sorted[from*per:end*per:end*per])
			if then != nil {
				then(order[from:end])
			}
		})
	}
	wg.Wait()
	if r := panicked.Load(); r != nil {
		panic(*r) // a hook of the client's; where the caller can recover
	}
}

// visit is one round trip to one node, if its breaker lets it through.
func (w *wire) visit(ctx, bounded context.Context, b *breaker, cmds []redis.Cmder) {
	v, err := b.allow()
	if err != nil {
		setErrs(cmds, err)
		w.nodes.lookSoon(lookAtMost)
		return
	}
	verdict := errUncounted // if a hook panics
	defer func() { w.ended(v, verdict) }()
	w.send(bounded, cmds)
	verdict = blameAny(ctx, cmds)
}

// ended ends a visit. After a failure another node may have the keys.
func (w *wire) ended(v visit, verdict error) {
	v.end(verdict)
	if verdict != nil && !w.single {
		w.nodes.lookSoon(lookAtMost)
	}
}

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
	switch {
	case isDenied(err):
		w.denied.Add(1)
		w.wasDenied(op, err)
	case ctx.Err() == nil:
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

// taker is told what was found under number i of some keys at now, Redis's
// time after the reply. The string is gone when it returns. err is redis.Nil
// for what is absent, and isWrongType for what is not a string, if that can be
// told.
type taker func(i int, raw string, now clocks, err error)

// fetch gets the values of at most maxBatch keys and calls take for each of
// them: for those of one node in order, for those of several at the same time.
func (w *wire) fetch(ctx context.Context, dks []string, take taker) {
	bounded, cancel, err := w.bound(ctx, int64(len(dks))*w.mean.Load())
	if err != nil {
		for i := range dks {
			take(i, "", clocks{}, err)
		}
		return
	}
	defer cancel()
	if w.single && len(dks) > 1 {
		w.fetchMany(ctx, bounded, dks, take)
	} else {
		w.fetchEach(ctx, bounded, dks, take)
	}
}

// fetched counts what one node answers and hands it on.
type fetched struct {
	w             *wire
	take          taker
	now           clocks
	present, size int
	answered      bool
}

func (f *fetched) each(ctx context.Context, i int, raw string, err error) {
	switch {
	case err == nil:
		if f.now == (clocks{}) {
			f.now = f.w.clock.read(ctx)
		}
		f.present++
		f.size += len(raw)
		f.answered = true
	case err == redis.Nil, isWrongType(err):
		f.answered = true
	}
	f.take(i, raw, f.now, err)
}

func (f *fetched) end() {
	if f.answered {
		f.w.wentWell()
	}
	if f.present > 0 {
		mean := f.w.mean.Load()
		f.w.mean.Store(mean + (int64(f.size/f.present)-mean)/8) // a lost update does not matter
	}
}

// fetchMany asks the one node by MGET, which answers nil for other types. The
// strings that take is called with are gone when it returns.
func (w *wire) fetchMany(ctx, bounded context.Context, dks []string, take taker) {
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
	f := fetched{w: w, take: take}
	each := func(i int, raw string, err error) { f.each(ctx, i, raw, err) }
	if err := w.fetchRaw(ctx, bounded, reply, args, each); err != nil {
		err = w.failed(ctx, "MGET", err)
		for i := range dks {
			take(i, "", clocks{}, err)
		}
	}
	f.end()
}

// fetchRaw is the round trip of fetchMany. Unless it returns an error it has
// called each.
func (w *wire) fetchRaw(ctx, bounded context.Context, reply *rawReply, args []any, each func(i int, raw string, err error)) error {
	vals, err := w.askMany(ctx, bounded, reply, args)
	switch {
	case err != nil:
		return err
	case vals == nil:
		return reply.cut(len(args)-1, each)
	case len(vals) != len(args)-1:
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

// askMany sends the MGET of args, the raw way first. vals is nil when the
// answer is in reply.
func (w *wire) askMany(ctx, bounded context.Context, reply *rawReply, args []any) (vals []any, err error) {
	v, err := w.nodes.only.reads.allow()
	if err != nil {
		return nil, err
	}
	verdict := errUncounted // if a hook panics
	defer func() { v.end(verdict) }()
	cmd := redis.NewRawWriteToCmd(bounded, reply, args...)
	w.send(bounded, []redis.Cmder{cmd})
	if err = cmd.Err(); err != nil && bounded.Err() == nil {
		// go-redis never repeats a raw command, as half of its reply may have
		// been written. Reading may be repeated: the usual way, with retries.
		again := redis.NewSliceCmd(bounded, args...)
		w.send(bounded, []redis.Cmder{again})
		vals, err = again.Result()
	}
	verdict = blame(ctx, err)
	return vals, err
}

// fetchEach asks by GETs, which a Cluster client sends to the node of each.
func (w *wire) fetchEach(ctx, bounded context.Context, dks []string, take taker) {
	cmds := make([]redis.Cmder, len(dks))
	args := make([]any, 2*len(dks))
	for i := range dks {
		pair := args[2*i : 2*i+2 : 2*i+2]
		pair[0], pair[1] = "get", &dks[i] // by pointer, as in fetchMany
		if len(dks) == 1 {
			pair[1] = dks[i]
		}
		cmds[i] = redis.NewStringCmd(bounded, pair...)
	}
	w.carryThen(ctx, bounded, reading, dks, cmds, func(which []int) {
		f := fetched{w: w, take: take}
		one := func(i int) {
			raw, err := cmds[i].(*redis.StringCmd).Result()
			if err != nil && err != redis.Nil && !isWrongType(err) {
				err = w.failed(ctx, "GET", err)
			}
			f.each(ctx, i, raw, err)
		}
		if which == nil {
			for i := range cmds {
				one(i)
			}
		}
		for _, i := range which {
			one(i)
		}
		f.end()
	})
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
