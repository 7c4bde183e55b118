package redistier

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

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
	switch {
	case len(dks) == 1:
		w.fetchOne(ctx, bounded, dks, take)
	case w.single:
		w.fetchMany(ctx, bounded, dks, take)
	default:
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

// got is each for a GET that was carried.
func (f *fetched) got(ctx context.Context, i int, cmd *redis.StringCmd) {
	raw, err := cmd.Result()
	if err != nil && err != redis.Nil && !isWrongType(err) {
		err = f.w.failed(ctx, "GET", err)
	}
	f.each(ctx, i, raw, err)
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
	if err = cmd.Err(); err == nil {
		err = reply.refusal() // to go-redis that is a reply as any other
	} else if bounded.Err() == nil {
		// go-redis never repeats a raw command, as half of its reply may have
		// been written. Reading may be repeated: the usual way, with retries.
		again := redis.NewSliceCmd(bounded, args...)
		w.send(bounded, []redis.Cmder{again})
		vals, err = again.Result()
	}
	verdict = blame(ctx, err)
	return vals, err
}

// fetchOne asks for one key.
func (w *wire) fetchOne(ctx, bounded context.Context, dks []string, take taker) {
	cmd := redis.NewStringCmd(bounded, "get", dks[0])
	w.carry(ctx, bounded, reading, dks, []redis.Cmder{cmd})
	f := fetched{w: w, take: take}
	f.got(ctx, 0, cmd)
	f.end()
}

// fetchEach asks by GETs, which a Cluster client sends to the node of each.
func (w *wire) fetchEach(ctx, bounded context.Context, dks []string, take taker) {
	cmds := make([]redis.Cmder, len(dks))
	args := make([]any, 2*len(dks))
	for i := range dks {
		pair := args[2*i : 2*i+2 : 2*i+2]
		pair[0], pair[1] = "get", &dks[i] // by pointer, as in fetchMany
		cmds[i] = redis.NewStringCmd(bounded, pair...)
	}
	w.carryThen(ctx, bounded, reading, dks, cmds, func(which []int) {
		f := fetched{w: w, take: take}
		if which == nil {
			for i, cmd := range cmds {
				f.got(ctx, i, cmd.(*redis.StringCmd))
			}
		}
		for _, i := range which {
			f.got(ctx, i, cmds[i].(*redis.StringCmd))
		}
		f.end()
	})
}
