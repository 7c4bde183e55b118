package redistier

import (
	"context"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// keepEvery is the least time between two extensions of the life of a name's
// stream and epoch.
const keepEvery = time.Hour

// Announce implements dewar.RemoteTier. The client may repeat it: being heard
// twice does no harm.
func (t *tier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	rest, err := inBatches(len(keys), func(i, j int) error {
		t.announce(ctx, kind, keys[i:j], places[i:j], errs[i:j])
		return allFailed(errs[i:j])
	})
	if err != nil {
		fill(errs[rest:len(keys)], err)
	}
}

func (t *tier[V]) announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	bounded, cancel, err := t.bound(ctx, 0)
	if err != nil {
		fill(errs, err)
		return
	}
	defer cancel()
	op, as := opOf(kind), t.keys.Load().as
	var cmds []redis.Cmder
	var ends []int // of each entry's keys
	for i := 0; i < len(keys); {
		end := i + entryEnd(keys[i:])
		args := append(addArgs(t.stream, 6+2*(end-i)), fieldOp, op, fieldFrom, t.from, fieldAs, as)
		for _, key := range keys[i:end] {
			args = append(args, fieldKey, key)
		}
		cmds, ends = append(cmds, redis.NewStringCmd(bounded, args...)), append(ends, end)
		i = end
	}
	entries := len(cmds)
	if t.keepDue() {
		cmds = append(cmds, t.keepCmds(bounded)...)
	}
	t.carry(ctx, bounded, writing, []string{t.stream}, cmds)
	for _, kept := range cmds[entries:] {
		if n, err := kept.(*redis.IntCmd).Result(); err != nil || n == 0 {
			t.kept.Store(0) // the bus looks after what is gone
		}
	}
	i := 0
	for k, cmd := range cmds[:entries] {
		id, err := cmd.(*redis.StringCmd).Result()
		place, ok := parsePlace(id)
		switch {
		case err != nil:
			err = t.failed(ctx, "XADD", err)
		case !ok:
			err = fmt.Errorf("redistier: XADD: %q is no id", id)
		default:
			t.wentWell()
			t.noteAnnounced(id)
			t.announced.Add(uint64(ends[k] - i))
		}
		for ; i < ends[k]; i++ {
			places[i], errs[i] = place, err
		}
	}
}

// keepDue reports, once in keepEvery, that stream and epoch are to be kept on.
func (f *follower) keepDue() bool {
	last, now := f.kept.Load(), dewar.Clock()
	return (last == 0 || now-last >= int64(keepEvery)) && f.kept.CompareAndSwap(last, now)
}

// keepCmds extend the life of stream and epoch.
func (f *follower) keepCmds(ctx context.Context) []redis.Cmder {
	return []redis.Cmder{
		redis.NewIntCmd(ctx, "pexpire", f.stream, busKeepMS),
		redis.NewIntCmd(ctx, "pexpire", f.epochKey, busKeepMS),
	}
}

// noteAnnounced remembers the last of our own announcements that Redis has
// answered: it must come in.
func (f *follower) noteAnnounced(id string) {
	p, ok := parsePlace(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if ok && f.awaited.Before(p) {
		f.awaited = p
	}
}
