package redistier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

const (
	// A round begins this long after the one before it, at random in between,
	// so that a fleet does not ask as one. A turn that has just missed a round
	// is seen by the next, and if that is lost by the one after it: 800 ms.
	minRound, maxRound = 300 * time.Millisecond, 400 * time.Millisecond

	// leastRound is how soon one may follow, for a turn of this dial. While
	// Redis does not answer, nothing is sent sooner.
	leastRound = 20 * time.Millisecond

	// toldAfter is how many rounds must fail until the log hears of it: one
	// alone breaks no promise.
	toldAfter = 3

	// firstRevision is that of turns made before a dial was shared: it gives
	// way to every other.
	firstRevision = 1
)

// turned is told by the dial of every turn. It must not wait for anything: the
// dial's callers do for it.
func (f *FleetDefcon) turned(t dewar.Turn) {
	if t.Via == dewar.ViaRule {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = t.To
	if t.Via == dewar.ViaFleet {
		f.heard++
		return
	}
	f.own = &t
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// begin learns the fleet's level, if it has one and Redis answers.
func (f *FleetDefcon) begin() {
	f.tell(f.look(context.Background()))
	before := f.dial.LastTurn()
	if f.last.revision > 0 || before.To == 0 || before.Via == dewar.ViaRule {
		return
	}
	f.last = newRecord(firstRevision, before)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = cmp.Or(f.set, before.To)
}

// run is the goroutine that talks with Redis.
func (f *FleetDefcon) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var began time.Time // of the last round
	for {
		select {
		case <-ctx.Done():
			f.err = f.lastWord()
			return
		case <-f.wake:
			if f.fails == 0 {
				timer.Reset(leastRound - time.Since(began))
			}
			continue
		case <-timer.C:
		}
		began = time.Now()
		if err := f.round(ctx); ctx.Err() == nil {
			f.tell(err)
		}
		timer.Reset(minRound + rand.N(maxRound-minRound) - time.Since(began))
	}
}

// round tells the fleet of a turn of this dial, or asks for the others'.
func (f *FleetDefcon) round(ctx context.Context) error {
	f.holdTo()
	if err := f.number(ctx); err != nil {
		return err
	}
	if !f.owed {
		return f.look(ctx)
	}
	err := f.put(ctx, true)
	if _, answered := errors.AsType[redis.Error](err); answered {
		// Redis does not let this process write. The turns of others still count.
		if raw, err := f.get(ctx); err == nil {
			f.meet(raw)
		}
	}
	return err
}

// look asks for the fleet's last turn, and puts it back if Redis has lost it.
func (f *FleetDefcon) look(ctx context.Context) error {
	raw, err := f.get(ctx)
	if err != nil {
		return err
	}
	known := f.last
	if lost := f.meet(raw); !lost {
		return nil
	}
	if err := f.put(ctx, false); err != nil {
		return err
	}
	if f.last == known && known.revision > firstRevision {
		f.log.Info("dewar: Redis had lost the fleet's DEFCON level and has it back", "level", int(known.level))
	}
	return nil
}

// number gives a turn of this dial its revision, which stays the same however
// often it is sent: the time of the turn by Redis's clock. So it is sorted
// among the others' by when people turned, not by when Redis could be reached,
// and clocks of machines do not matter.
//
// Being beyond all revisions that this process knows, it is newer than what
// whoever turned the dial could see, whatever Redis's clock does.
func (f *FleetDefcon) number(ctx context.Context) error {
	f.mu.Lock()
	own := f.own
	f.mu.Unlock()
	if own == nil {
		return nil
	}
	// Where every process follows one flag, one of them tells the others.
	if own.Via != dewar.ViaFlag || own.To != f.last.level {
		at, err := f.timeOf(ctx, own.At)
		if err != nil {
			return err
		}
		f.last, f.owed = newRecord(max(at, f.last.revision+1), *own), true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own == own { // else the dial was turned again, and the next round has that
		f.own = nil
	}
	return nil
}

// timeOf returns what Redis's clock showed at an instant, in Unix ms; this
// machine's if Redis does not tell.
func (f *FleetDefcon) timeOf(ctx context.Context, at time.Time) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	sent := time.Now()
	now, err := timeOf(ctx, f.client, f.key)
	switch {
	case err != nil && isRefused(err):
		now = at
	case err != nil:
		return 0, err
	default:
		now = now.Add(-sent.Sub(at) - time.Since(sent)/2)
	}
	return uint64(max(firstRevision, now.UnixMilli())), nil
}

func (f *FleetDefcon) get(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	raw, err := f.client.GetRange(ctx, f.key, 0, maxRecord-1).Result()
	if isWrongType(err) {
		return "?", nil
	}
	return raw, err
}

// put sends the last turn that is known, over what is no record if anything is
// to give way to it. Repeated by the client, or carried out late, it changes
// nothing: see record.
func (f *FleetDefcon) put(ctx context.Context, anything bool) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	over := ""
	if anything {
		over = "anything"
	}
	cmd := redis.NewStringCmd(ctx, "eval", defconScript.body, "1", f.key, f.last.revision, f.last.text, over)
	if err := f.client.Process(ctx, cmd); err != nil {
		return err
	}
	if lost := f.meet(cmd.Val()); lost || f.owed {
		return errors.New("redistier: Redis did not keep the level, and does not say why")
	}
	return nil
}

// meet goes over to what is under the key, if that is newer. It reports whether
// Redis lacks what is known here.
func (f *FleetDefcon) meet(raw string) (lost bool) {
	stored, ok := parseRecord(raw)
	if !ok && raw != "" {
		if !f.foreign {
			f.log.Warn("dewar: what Redis has is no DEFCON level; it is left alone until a dial is turned", "key", f.key)
		}
		f.foreign = true
		return false
	}
	f.foreign = false
	switch {
	case stored.revision < f.last.revision:
		return true
	case stored.beats(f.last):
		f.adopt(stored)
	}
	f.owed = false
	return false
}

// adopt goes over to another process's turn.
func (f *FleetDefcon) adopt(stored record) {
	if f.owed {
		f.log.Warn("dewar: another dial of the fleet was turned after this one, before the fleet heard of this; its level is taken",
			"own", int(f.last.level), "level", int(stored.level), "who", stored.who, "why", stored.why)
	}
	f.last = stored
	f.mu.Lock()
	own := f.own
	f.mu.Unlock()
	if own == nil { // else that one is newer still
		f.turn(stored)
	}
}

// turn turns the dial for the fleet. What the dial's owner has watch it, and his
// log, run here, where nobody could recover.
func (f *FleetDefcon) turn(to record) {
	f.made++
	defer func() {
		if r := recover(); r != nil {
			f.log.Error("dewar: what watches the DEFCON dial panicked", "panic", r)
		}
	}()
	// The level is one: there is no error.
	_ = f.dial.Turn(dewar.Turn{To: to.level, Who: to.who, Why: to.why, Via: dewar.ViaFleet})
}

// holdTo turns the dial back to the newest turn that is known, where an older
// one has come after it:
//
//  1. a round finds that another process has turned the fleet
//  2. somebody turns this dial
//  3. the round turns it to what it found
//  4. the watcher is told of both
//
// The turn of 2 is the newer, and may have to wait long for Redis.
func (f *FleetDefcon) holdTo() {
	f.mu.Lock()
	own, set, settled := f.own, f.set, f.heard >= f.made
	f.mu.Unlock()
	newest := f.last
	if own != nil {
		newest = newRecord(0, *own)
	}
	if settled && newest.level != 0 && newest.level != set {
		f.turn(newest)
	}
}

// tell keeps the log informed of how rounds go.
func (f *FleetDefcon) tell(err error) {
	if err == nil {
		if f.fails >= toldAfter {
			f.log.Info("dewar: the fleet's DEFCON level is shared again", "level", int(f.dial.Level()))
		}
		f.fails = 0
		return
	}
	if f.fails++; f.fails == toldAfter {
		f.log.Warn("dewar: the fleet's DEFCON level cannot be shared; this dial stays as it is", "level", int(f.dial.Level()), "error", err)
	}
}

// lastWord tries once more to tell the fleet what it has not heard.
func (f *FleetDefcon) lastWord() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	for f.silent() {
		if err := f.round(ctx); err != nil {
			return fmt.Errorf("redistier: closed before the fleet has heard that the dial was turned to %v: %w", f.dial.Level(), err)
		}
	}
	return nil
}

// silent reports whether a turn of this dial is still to be told.
func (f *FleetDefcon) silent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owed || f.own != nil
}
