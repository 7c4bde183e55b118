package redistier

import (
	"context"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// resume reads on from the last entry of each stream, inclusively, and tells
// what came in. more: there is more to read. mended: something was missing. On
// an error nothing is lost: what was not told comes again.
//
// Deletions precede their announcements in the one log of a node. If the last
// announcement that we know of is still there, so is everything before it.
func (h *hub) resume(fs []*follower, trouble bool) (more, mended bool, err error) {
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	// Asked before reading: what is then found whole is whole on this server, or
	// on one that has come after it.
	var server identity
	if trouble {
		if server, err = fs[0].identityOf(ctx); err != nil {
			return false, false, err
		}
	}
	awaited := make([]dewar.Place, len(fs))
	for i, f := range fs {
		f.mu.Lock()
		awaited[i] = f.awaited
		f.mu.Unlock()
	}
	streams, err := h.read(ctx, fs)
	if err != nil {
		return false, false, err
	}
	for i, f := range fs {
		f.answered.Store(dewar.Clock())
		entries := streams[f.stream]
		full := len(entries) >= busCount
		if f.whole(entries, full, awaited[i]) {
			if trouble && !full {
				f.server = server
			}
		} else if failed := f.mend(ctx, len(entries) > 0, awaited[i]); failed != nil {
			err = failed // the others go on
			continue
		} else {
			mended = true
		}
		for _, e := range entries {
			if f.last.Before(e.place) {
				f.hear(e)
				f.last = e.place
			}
		}
		more = more || full
	}
	return more, mended, err
}

// read returns up to busCount entries of each stream, from the last heard one on.
func (h *hub) read(ctx context.Context, fs []*follower) (map[string][]entry, error) {
	streams, from := positions(fs)
	args := make([]any, 0, 4+2*len(streams))
	args = append(args, "xread", "count", busCount, "streams")
	for _, stream := range streams {
		args = append(args, stream)
	}
	for _, p := range from {
		args = append(args, justBefore(p))
	}
	// Not XRead, which makes a map of an entry's fields: they may repeat.
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(4)
	err := h.client.Process(ctx, cmd)
	if err == redis.Nil {
		return nil, nil
	}
	return parseStreams(cmd.Val()), err
}

// whole reports whether what f has heard last, and what it has announced last,
// are in entries, which begin where its stream's slowest follower is. full:
// there are more after them.
func (f *follower) whole(entries []entry, full bool, awaited dewar.Place) bool {
	has := func(p dewar.Place) bool {
		for i := range entries {
			if !entries[i].place.Before(p) {
				return entries[i].place == p
			}
		}
		return full // not reached
	}
	return has(f.last) && (!f.last.Before(awaited) || has(awaited))
}

// mend goes on from a stream in which something is missing. When another
// server answers than before, it may have lost deletions with the
// announcements: then the name moves to another epoch. Else announcements were
// dropped, for want of room or by hand, and no more. later: there are entries
// behind those that are missing.
func (f *follower) mend(ctx context.Context, later bool, awaited dewar.Place) error {
	now, err := f.identityOf(ctx)
	if err != nil {
		return err
	}
	newest, epoch, err := f.look(ctx)
	if err != nil {
		return err
	}
	known := f.last
	if known.Before(awaited) {
		known = awaited
	}
	var lost bool
	if now.known() && f.server.known() {
		lost = now.run != f.server.run || now.repl != f.server.repl
	} else if lost, err = f.wentBack(ctx, newest, known); err != nil {
		return err
	}
	if newest == (dewar.Place{}) {
		if newest, err = f.hello(ctx); err != nil {
			return err
		}
	}
	if lost {
		err = f.moveForLoss(ctx, now)
	} else {
		if !later { // else what is behind may say why the epoch has moved
			err = f.followStored(ctx, epoch)
		}
		if err == nil {
			f.missed("the stream has lost entries", 0)
		}
	}
	if err != nil {
		return err
	}
	f.server = now
	if !later {
		f.last = newest
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.awaited == awaited {
		f.awaited = dewar.Place{}
	}
	return nil
}

// wentBack reports whether the stream looks like one that a server has brought
// back from an earlier day, rather than one that was trimmed: it ends before
// what was known, or has something from before that.
func (f *follower) wentBack(ctx context.Context, newest, known dewar.Place) (bool, error) {
	if newest.Before(known) { // a gone stream's is zero
		return true, nil
	}
	older := redis.NewXMessageSliceCmd(ctx, "xrevrange", f.stream, justBefore(known), "-", "count", 1)
	if err := f.exchange(ctx, older); err != nil {
		return false, err
	}
	return len(older.Val()) > 0, nil
}

// followStored compares every epoch with what is stored.
func (h *hub) followStored(fs []*follower) error {
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	args := make([]any, 1, 1+len(fs))
	args[0] = "mget"
	for _, f := range fs {
		args = append(args, f.epochKey)
	}
	cmd := redis.NewSliceCmd(ctx, args...)
	if err := h.client.Process(ctx, cmd); err != nil {
		return err
	}
	for i, stored := range cmd.Val() {
		s, _ := stored.(string)
		if err := fs[i].followStored(ctx, parseEpoch(s)); err != nil {
			return err
		}
	}
	return nil
}

// hear tells an entry.
func (f *follower) hear(e entry) {
	own := e.from == f.from
	switch {
	case e.op == opEpoch:
		f.hearEpoch(e, own)
		return
	case e.op == opHello, len(e.keys) == 0:
		return
	}
	// What we have written or deleted under an epoch that has moved since, the
	// cache deletes once more when it hears of the move.
	kind, known := e.kind()
	a := dewar.Announcement{Kind: kind, Place: e.place, Keys: e.keys, Own: own}
	if !own {
		f.heard.Add(uint64(len(e.keys)))
		f.noteLag(e.place)
		a.Elsewhere = !known || e.as != f.keys.Load().as
	}
	f.tell(func(ev dewar.RemoteEvents) { ev.Announced(a) })
}
