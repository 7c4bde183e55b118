package redistier

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"time"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script on one key. SHA-1 is what Redis names scripts by.
type script struct{ body, sha string }

func newScript(body string) script {
	sum := sha1.Sum([]byte(body))
	return script{body: body, sha: hex.EncodeToString(sum[:])}
}

// The scripts write over one certain write and no other: they compare the
// first 20 bytes, which every write has anew. GETRANGE answers "" for an
// absent key, which is nobody's fence, so that deletion, eviction and expiry
// refuse as well; and it answers the whole of a shorter value, so that bytes
// cut short compare exactly. Redis runs one script at a time: they are short.
var (
	putScript = newScript(`if redis.call('GETRANGE',KEYS[1],0,19)==ARGV[1] then ` +
		`redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1 end return 0`)
	dropScript = newScript(`if redis.call('GETRANGE',KEYS[1],0,19)==ARGV[1] then ` +
		`redis.call('UNLINK',KEYS[1]) return 1 end return 0`)
	renewScript = newScript(`if redis.call('GETRANGE',KEYS[1],0,19)==ARGV[1] then ` +
		`redis.call('PEXPIRE',KEYS[1],ARGV[2]) return 1 end return 0`)
)

// loadScripts makes every node know the scripts before the first fill needs
// them, if it can: what is not known is sent in full then.
func (w *wire) loadScripts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	load := func(ctx context.Context, client redis.Cmdable) error {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, sc := range []script{putScript, dropScript, renewScript} {
				pipe.ScriptLoad(ctx, sc.body)
			}
			return nil
		})
		return err
	}
	if c, ok := w.client.(cluster); ok {
		_ = c.ForEachMaster(ctx, func(ctx context.Context, primary *redis.Client) error { return load(ctx, primary) })
		return
	}
	_ = load(ctx, w.client)
}

// swap is one write over what was seen.
type swap struct {
	dk    string
	seen  string // the first 20 bytes of what is to be replaced, or all of it if shorter; never ""
	put   string // what to put there; "": delete
	renew bool   // leave what is there, with a new time to live
	px    int64  // time to live, ms, with put and renew

	// Set by wire.swap. done: carried out. Neither done nor err: refused,
	// something else was there.
	done bool
	err  error
}

// swap carries out at most maxBatch swaps in one round trip.
//
// Scripts are named by hash. Items to which Redis answers NOSCRIPT were surely
// not executed and are sent once more, with the body, which makes Redis know
// it from then on; all others are settled.
func (w *wire) swap(ctx context.Context, swaps []swap) {
	unknown := w.trySwap(ctx, swaps, nil)
	if len(unknown) > 0 {
		w.trySwap(ctx, swaps, unknown)
	}
}

// trySwap sends all swaps by hash or, if which is not nil, those of which with
// their bodies. It returns the indexes that Redis does not know the script of.
func (w *wire) trySwap(ctx context.Context, swaps []swap, which []int) (unknown []int) {
	n, byHash := len(swaps), which == nil
	if !byHash {
		n = len(which)
	}
	at := func(k int) int {
		if byHash {
			return k
		}
		return which[k]
	}
	size := 0
	for k := range n {
		size += len(swaps[at(k)].put)
	}
	bounded, cancel, err := w.bound(ctx, int64(size))
	if err != nil {
		for k := range n {
			swaps[at(k)].err = err
		}
		return nil
	}
	defer cancel()

	const most = 7 // arguments of one command
	args := make([]any, 0, most*n)
	ints := make([]onceInt, n)
	cmds := make([]redis.Cmder, n)
	dks := make([]string, n)
	for k := range n {
		s := &swaps[at(k)]
		dks[k] = s.dk
		sc := &putScript
		switch {
		case s.renew:
			sc = &renewScript
		case s.put == "":
			sc = &dropScript
		}
		start := len(args)
		if byHash {
			args = append(args, "evalsha", sc.sha)
		} else {
			args = append(args, "eval", sc.body)
		}
		args = append(args, "1", s.dk, s.seen)
		switch {
		case s.renew:
			args = append(args, s.px)
		case s.put != "":
			args = append(args, s.put, s.px)
		}
		ints[k].IntCmd = redis.NewIntCmd(bounded, args[start:len(args):len(args)]...)
		cmds[k] = &ints[k]
	}
	w.carry(ctx, bounded, writing, dks, cmds)
	for k := range n {
		s := &swaps[at(k)]
		answer, err := ints[k].Result()
		switch {
		case err == nil:
			s.done, s.err = answer == 1, nil
			w.wentWell()
		case byHash && redis.HasErrorPrefix(err, "NOSCRIPT"):
			unknown = append(unknown, k)
		case isWrongType(err):
			s.done, s.err = false, nil // something that has no fence is there
		default:
			s.done, s.err = false, w.failed(ctx, "EVALSHA", err)
		}
	}
	return unknown
}
