package redistier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// ErrNotJoined is the error of every operation until Redis was reached for the
// first time since the cache was opened.
var ErrNotJoined = errors.New("redistier: Redis has not been reached yet")

// open makes f a part of the bus. It tries to join at once; else the hub does.
func (f *follower) open(w *wire, prefix string, maxDeaf time.Duration, o dewar.RemoteOptions) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	f.w = w
	f.prefix, f.schema = prefix, o.Schema
	f.stream, f.epochKey = streamKey(prefix, o.Name), epochKey(prefix, o.Name)
	f.from = hex.EncodeToString(id[:])
	f.maxDeaf, f.events = maxDeaf, o.Events
	f.opened = dewar.Clock()
	f.answered.Store(f.opened)
	nowhere := newKeyspace(prefix, o.Name, o.Schema, 0)
	f.keys.Store(&nowhere)
	w.apart.Store(true)

	ctx, cancel := context.WithTimeout(context.Background(), f.timeout())
	defer cancel()
	if err := f.join(ctx, false); err != nil {
		_ = w.failed(context.Background(), "join", err) // counted and logged
	}
	f.enrol()
}

// timeout is that of one round trip.
func (f *follower) timeout() time.Duration {
	if f.w.timeout > 0 {
		return f.w.timeout
	}
	return defaultTimeout
}

// timeout is that of the bus's own round trips: the longest of fs.
func (h *hub) timeout(fs []*follower) time.Duration {
	timeout := busTimeout
	for _, f := range fs {
		timeout = max(timeout, min(f.timeout(), busBlock))
	}
	return timeout
}

// join learns the name's epoch and where its stream ends, or makes them. The
// place comes first: were it the epoch, a move in between would stand before
// the place and be heard by nobody.
func (f *follower) join(ctx context.Context, late bool) error {
	n, err := f.identityOf(ctx)
	if err != nil {
		return err
	}
	last, epoch, err := f.look(ctx)
	if err != nil {
		return err
	}
	fresh := last == dewar.Place{}
	if fresh {
		if last, err = f.hello(ctx); err != nil {
			return err
		}
		epoch = 0 // was read before the place
	}
	if epoch == 0 {
		if epoch, err = f.moveEpoch(ctx, epochRaise, ""); err != nil {
			return err
		}
	}
	missed := false
	if late && !fresh {
		if missed, err = f.deafTo(ctx, last); err != nil {
			return err
		}
	}
	f.server, f.last, f.told = n, last, epoch
	f.adopt(epoch)
	f.answered.Store(dewar.Clock())
	if missed {
		f.missed("joined late", 0)
	}
	f.joined = true
	f.w.apart.Store(false)
	return nil
}

// look returns the last place of the stream, zero if there is none, and the
// stored epoch, 0 if there is none.
func (f *follower) look(ctx context.Context) (last dewar.Place, epoch uint64, err error) {
	ends := redis.NewXMessageSliceCmd(ctx, "xrevrange", f.stream, "+", "-", "count", 1)
	stored := redis.NewStringCmd(ctx, "get", f.epochKey)
	if err := f.exchange(ctx, ends, stored); err != nil {
		return last, 0, err
	}
	if m := ends.Val(); len(m) > 0 {
		last, _ = parsePlace(m[0].ID)
	}
	return last, parseEpoch(stored.Val()), nil
}

// hello makes the stream begin.
func (f *follower) hello(ctx context.Context) (dewar.Place, error) {
	args := append(addArgs(f.stream, 4), fieldOp, opHello, fieldFrom, f.from)
	added := redis.NewStringCmd(ctx, args...)
	if err := f.exchange(ctx, added, redis.NewIntCmd(ctx, "pexpire", f.stream, busKeepMS)); err != nil {
		return dewar.Place{}, err
	}
	f.noteAnnounced(added.Val())
	place, _ := parsePlace(added.Val())
	return place, nil
}

// deafTo reports whether the entry at place was added since f was opened: then
// what the cache loaded from the origin, without Redis, may be older. Both
// times are the server's.
func (f *follower) deafTo(ctx context.Context, place dewar.Place) (bool, error) {
	now, err := timeOf(ctx, f.w.client, f.stream)
	if err != nil {
		if isRefused(err) {
			return true, nil
		}
		return false, err
	}
	const doubt = time.Second
	began := now.Add(-time.Duration(dewar.Clock()-f.opened) - doubt)
	return int64(place.Time) >= began.UnixMilli(), nil
}

// exchange carries out cmds in one round trip, past breakers: the bus is what
// finds out that a server is back.
func (f *follower) exchange(ctx context.Context, cmds ...redis.Cmder) error {
	pipe := f.w.client.Pipeline()
	if err := pipe.BatchProcess(ctx, cmds...); err != nil {
		return err
	}
	_, failed := pipe.Exec(ctx)
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && err != redis.Nil {
			return err
		}
	}
	if failed == redis.Nil {
		return nil
	}
	return failed
}

// joinLate tries to join those who could not so far.
func (h *hub) joinLate() {
	for _, f := range h.everybody() {
		if f.joined || h.ctx.Err() != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(h.ctx, h.timeout([]*follower{f}))
		err := f.join(ctx, true)
		cancel()
		if err != nil {
			_ = f.w.failed(h.ctx, "join", err) // counted, and logged once
			if _, answered := errors.AsType[redis.Error](err); !answered {
				return // nor will the others reach it now
			}
			continue
		}
		f.w.wentWell()
		f.w.log.Info("dewar: joined the fleet", "name", f.w.name, "epoch", f.keys.Load().epoch)
	}
}

// keep extends the lives of streams and epochs now and then: a fleet that only
// reads announces nothing.
func (h *hub) keep(fs []*follower) {
	for _, f := range fs {
		if !f.keepDue() {
			continue
		}
		ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
		cmds := f.keepCmds(ctx)
		err := f.exchange(ctx, cmds...)
		if err == nil && cmds[1].(*redis.IntCmd).Val() == 0 { // the epoch is gone
			err = f.followStored(ctx, 0)
		}
		cancel()
		if err != nil {
			f.kept.Store(0)
		}
	}
}
