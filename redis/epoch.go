package redistier

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// maxEpoch bounds epochs: Lua's numbers are exact up to 2^53. As milliseconds
// it is the year 142,000.
const maxEpoch = 1 << 52

// epochScript moves the epoch of a name, KEYS[1], and announces every move in
// its stream, KEYS[2], in one step. The order matters:
//
//  1. a process writes the new epoch, and has not announced it yet
//  2. another joins, and stores under the new epoch what it loaded
//  3. a third, which has not heard, commits, deletes its copy under the old
//     epoch, and announces that
//
// 3 would stand before the move, and nobody would know that the copy of 2 is
// old. In one step, what is stored under an epoch was loaded after the place of
// its announcement; a deletion under an older one that stands behind it names
// that in its "as".
//
// Both keys are in one slot. The epoch's key holds the number and, after it,
// the servers for whose losses the epoch was moved, so that a fleet moves once
// for each; where servers do not tell who they are, whoever finds the epoch
// beyond its own takes it that the fleet has moved. What is not a number counts
// as absent, and an absent epoch begins at the server's time in milliseconds,
// which is beyond all before; at this machine's if the server may not tell.
//
//	ARGV: raise|next|loss, mine, from, why, ms to live, the server if loss,
//	      this machine's time
var epochScript = newScript(`local v=redis.call('GET',KEYS[1]) or '' ` +
	`local d,ids=string.match(v,'^(%d+)(.*)$') ` +
	`local n=tonumber(d or '0') if n>=4503599627370496 then n=0 end ids=ids or '' ` +
	`local to=math.max(n,tonumber(ARGV[2])) ` +
	`if ARGV[1]=='next' then to=to+1 ` +
	`elseif ARGV[1]=='loss' and ARGV[6]=='' then if to>n or n==tonumber(ARGV[2]) then to=to+1 end ` +
	`elseif ARGV[1]=='loss' and not string.find(ids,ARGV[6],1,true) then to=to+1 ids=string.sub(' '..ARGV[6]..ids,1,170) ` +
	`elseif to==0 then local t=redis.pcall('TIME') ` +
	`if t.err then to=tonumber(ARGV[7]) else to=t[1]*1000+math.floor(t[2]/1000) end end ` +
	`local s=string.format('%.0f',to) if to==n then return {s,''} end ` +
	`local id=redis.call('XADD',KEYS[2],'MAXLEN','~','10000','*','op','e','n',s,'why',ARGV[4],'from',ARGV[3]) ` +
	`redis.call('PEXPIRE',KEYS[2],ARGV[5]) ` +
	`redis.call('SET',KEYS[1],s..ids,'PX',ARGV[5]) return {s,id}`)

// The ways to move an epoch.
const (
	epochRaise = "raise" // to ours, if the stored one is lower
	epochNext  = "next"  // beyond the stored one and ours
	epochLoss  = "loss"  // likewise, but once for each server
)

// epochCmd is sent with the body: it is rare, and needs one round trip then.
// Repeated, it moves once more, which costs loads and no more.
func (f *follower) epochCmd(ctx context.Context, how, why, server string) *redis.SliceCmd {
	return redis.NewSliceCmd(ctx, "eval", epochScript.body, "2", f.epochKey, f.stream,
		how, f.keys.Load().epoch, f.from, why, busKeepMS, server, time.Now().UnixMilli())
}

// epochReply returns the epoch that cmd was answered.
func (f *follower) epochReply(cmd *redis.SliceCmd) (uint64, error) {
	reply, err := cmd.Result()
	if err != nil {
		return 0, err
	}
	if len(reply) == 2 {
		n, _ := reply[0].(string)
		if epoch := parseEpoch(n); epoch > 0 {
			if id, _ := reply[1].(string); id != "" {
				f.noteAnnounced(id)
			}
			return epoch, nil
		}
	}
	return 0, fmt.Errorf("redistier: the epoch script answered %d values that are no epoch", len(reply))
}

// moveEpoch is for the bus's goroutine, and for joining.
func (f *follower) moveEpoch(ctx context.Context, how, server string) (uint64, error) {
	cmd := f.epochCmd(ctx, how, whyLoss, server)
	if err := f.w.client.Process(ctx, cmd); err != nil {
		return 0, err
	}
	return f.epochReply(cmd)
}

// parseEpoch reads a stored epoch: the number, up to the first blank. 0: none.
func parseEpoch(s string) uint64 {
	s, _, _ = strings.Cut(s, " ")
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n >= maxEpoch {
		return 0
	}
	return n
}

// adopt goes to epoch n, never back.
func (f *follower) adopt(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.adoptLocked(n)
}

func (f *follower) adoptLocked(n uint64) {
	if n <= f.keys.Load().epoch {
		return
	}
	ks := newKeyspace(f.prefix, f.w.name, f.schema, n)
	f.keys.Store(&ks)
}

// NextEpoch implements dewar.RemoteTier.
func (t *tier[V]) NextEpoch(ctx context.Context) error {
	bounded, cancel, err := t.bound(ctx, 0)
	if err != nil {
		return err
	}
	defer cancel()
	f := &t.follower
	f.mu.Lock()
	f.moving++
	before := f.keys.Load().epoch
	f.mu.Unlock()

	cmd := f.epochCmd(bounded, epochNext, whyAll, "")
	t.carry(ctx, bounded, writing, []string{f.stream}, []redis.Cmder{cmd})
	n, err := f.epochReply(cmd)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.moving--
	if err == nil {
		f.adoptLocked(n)
		t.wentWell()
		return nil
	}
	if f.echoed > before {
		return nil // the answer was lost, but we have heard ourselves
	}
	return t.failed(ctx, "EVAL", err)
}

// hearEpoch follows a move of the epoch. That somebody else has invalidated
// everything counts also when we are beyond the number already:
//
//  1. we forget everything, and are about to move to the next epoch
//  2. another commits, moves to epoch 7, and we to 8
//  3. its announcement of 7 comes in: what we loaded between 1 and 2 is old
func (f *follower) hearEpoch(e entry, own bool) {
	f.mu.Lock()
	ahead := e.epoch > f.keys.Load().epoch
	news := ahead
	switch {
	case own:
		f.echoed = max(f.echoed, e.epoch)
		news = news && f.moving == 0 // else NextEpoch returns nil, and that tells
	case e.why == whyAll:
		news = e.epoch == 0 || e.epoch != f.foretold
	default:
		news = news || e.epoch > f.told && e.epoch != f.lost
	}
	f.mu.Unlock()
	f.told = max(f.told, e.epoch)
	if e.epoch >= f.foretold {
		f.foretold = 0
	}
	switch {
	case !news:
		f.adopt(e.epoch) // the cache keeps away from us until NextEpoch returns
	case e.why == whyLoss:
		f.missed("the fleet has moved to another epoch, because a server lost what it had answered", e.epoch)
	default:
		f.tellAll(e.epoch)
	}
}

// tellAll tells that everything was invalidated, and goes to that epoch.
func (f *follower) tellAll(epoch uint64) {
	f.tell(func(ev dewar.RemoteEvents) { ev.AnnouncedAll(func() { f.adopt(epoch) }) })
	f.adopt(epoch) // where nobody is told
}

// followStored compares with the epoch that is stored: somebody may have moved
// it unheard, or the server may have lost it.
func (f *follower) followStored(ctx context.Context, stored uint64) error {
	if stored < f.keys.Load().epoch {
		n, err := f.moveEpoch(ctx, epochRaise, "")
		if err != nil {
			return err
		}
		stored = n
	}
	f.mu.Lock()
	ahead, moving := stored > f.keys.Load().epoch, f.moving > 0
	f.mu.Unlock()
	switch {
	case !ahead:
	case moving:
		// Where our own NextEpoch has just moved to, perhaps; if it was somebody
		// else's move, its announcement is still to come.
		f.adopt(stored)
	default:
		f.told, f.foretold = max(f.told, stored), stored
		f.tellAll(stored)
	}
	return nil
}

// moveForLoss makes all that is stored unreachable, because what the given
// server holds may have been deleted by us on the one before it.
func (f *follower) moveForLoss(ctx context.Context, n identity) error {
	epoch, err := f.moveEpoch(ctx, epochLoss, n.id())
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.lost = epoch
	f.mu.Unlock()
	f.missed("the server lost what it had answered; moved to another epoch", epoch)
	return nil
}
