package redistier

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// redisClock is Redis's clock, read without asking: dewar.Clock plus an
// offset. The times in envelopes are on it, because it is the one clock that
// all processes share; their own may be hours apart.
//
// The offset is sticky. A time that was read from an envelope must come out
// the same the next time, or the cache would take the value for another one:
// the offset moves only when a measurement proves it wrong.
type redisClock struct {
	ask  func(ctx context.Context) (time.Time, error) // asks Redis
	wall func() time.Time                             // this machine's clock, which stands in until Redis was asked
	log  *slog.Logger

	state atomic.Pointer[clockState]
	turn  chan struct{} // holds one element while somebody asks
	tried atomic.Int64  // when Redis was last asked, on dewar.Clock; 0: never
	deaf  atomic.Bool   // Redis refuses to tell
}

// clockState is what is known of the clocks, all relative to dewar.Clock.
type clockState struct {
	offset int64 // of Redis's clock, Unix ns; of the wall clock unless asked
	wall   int64 // of the wall clock, when the offset was last confirmed
	asked  bool  // Redis has told
}

const (
	clockSlack = 5 * time.Millisecond // that a measurement may be off besides the time that it took
	wallJump   = time.Second          // of the wall clock, after which the offset is measured again
	askAgain   = time.Second          // after Redis did not answer
)

func newRedisClock(ask func(context.Context) (time.Time, error), wall func() time.Time, log *slog.Logger) *redisClock {
	c := &redisClock{ask: ask, wall: wall, log: log, turn: make(chan struct{}, 1)}
	w := wall().UnixNano() - dewar.Clock()
	c.state.Store(&clockState{offset: w, wall: w})
	return c
}

// read returns now. The first call asks Redis, and those beside it wait for
// the answer.
func (c *redisClock) read(ctx context.Context) clocks {
	mono := dewar.Clock()
	wall := c.wall().UnixNano() - mono
	s := c.state.Load()
	// dewar.Clock stands still while a machine sleeps, and the wall clock is
	// put right by hand: both move the two apart.
	if !s.asked || apart(wall, s.wall) > int64(wallJump) {
		c.settle(ctx)
		mono = dewar.Clock()
		s = c.state.Load()
		if !s.asked && apart(wall, s.offset) > int64(clockSlack) {
			c.state.CompareAndSwap(s, &clockState{offset: wall, wall: wall})
			s = c.state.Load()
		}
	}
	return clocks{unix: mono + s.offset, mono: mono}
}

// settle asks Redis unless it would be in vain.
func (c *redisClock) settle(ctx context.Context) {
	if c.deaf.Load() {
		return
	}
	last := c.tried.Load()
	if last != 0 {
		if dewar.Clock()-last < int64(askAgain) {
			return
		}
		select {
		case c.turn <- struct{}{}:
		default:
			return // the others go on by what is known
		}
	} else {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	defer func() { <-c.turn }()
	if c.tried.Load() != last {
		return // somebody asked while we waited
	}
	_, _ = c.measure(ctx) // the offset stays as it is
}

// sync asks Redis for the time and moves the offset if it is proved wrong.
// What it learns the others learn as well, which are clocks of the same Redis.
func (c *redisClock) sync(ctx context.Context, others ...*redisClock) error {
	var m measurement
	err := c.inTurn(ctx, func() (err error) {
		m, err = c.measure(ctx)
		return err
	})
	for _, other := range others {
		if err == nil {
			err = other.inTurn(ctx, func() error { other.learn(m); return nil })
		}
	}
	return err
}

// inTurn calls do when nobody else asks.
func (c *redisClock) inTurn(ctx context.Context, do func() error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	return do()
}

// measurement is an offset, and how far off it may be.
type measurement struct{ offset, within int64 }

// measure is for the holder of turn.
func (c *redisClock) measure(ctx context.Context) (measurement, error) {
	m, err := c.sample(ctx)
	if err != nil {
		c.tried.Store(max(1, dewar.Clock()))
		if isRefused(err) && !c.deaf.Swap(true) {
			c.log.Warn("dewar: Redis does not tell its time; this machine's clock stands in", "error", err)
		}
		return m, err
	}
	if m.within > int64(time.Millisecond) {
		// A connection had to be made first, perhaps. Now it is there.
		if again, err := c.sample(ctx); err == nil && again.within < m.within {
			m = again
		}
	}
	c.learn(m)
	return m, nil
}

// learn is for the holder of turn.
func (c *redisClock) learn(m measurement) {
	c.deaf.Store(false)
	s := clockState{offset: c.state.Load().offset, wall: c.wall().UnixNano() - dewar.Clock(), asked: true}
	if apart(m.offset, s.offset) > m.within+int64(clockSlack) {
		s.offset = m.offset
	}
	c.state.Store(&s)
	c.tried.Store(max(1, dewar.Clock()))
}

// sample asks once. The answer was given between sending and receiving.
func (c *redisClock) sample(ctx context.Context) (m measurement, err error) {
	sent := dewar.Clock()
	at, err := c.ask(ctx)
	if err != nil {
		return m, err
	}
	if year := at.Year(); year < 1971 || year > 2200 {
		return m, errors.New("redistier: Redis's clock is out of range")
	}
	half := (dewar.Clock() - sent) / 2
	return measurement{at.UnixNano() - (sent + half), half + int64(time.Microsecond)}, nil
}

// isRefused reports whether Redis will go on refusing: by its ACL, or because
// it does not know the command.
func isRefused(err error) bool { return isDenied(err) || redis.HasErrorPrefix(err, "unknown command") }

func apart(a, b int64) int64 { return max(a, b) - min(a, b) }

// clocks is one instant on both clocks: Redis's, which processes share, and
// dewar.Clock.
type clocks struct{ unix, mono int64 }

// toUnix converts an instant of dewar.Clock to Unix ns. The far ends of the
// scale stay what they are: "never".
func (c clocks) toUnix(mono int64) int64 { return shift(mono, c.unix, c.mono) }

// toClock converts Unix ns to an instant of dewar.Clock.
func (c clocks) toClock(unix int64) int64 { return shift(unix, c.mono, c.unix) }

// shift returns t + plus - minus, kept at the ends of the scale. plus and
// minus are readings of clocks, so neither is negative and their difference
// does not overflow.
func shift(t, plus, minus int64) int64 {
	if t == math.MaxInt64 || t == math.MinInt64 {
		return t
	}
	d := plus - minus
	switch sum := t + d; {
	case d > 0 && sum < t:
		return math.MaxInt64
	case d < 0 && sum > t:
		return math.MinInt64 + 1
	default:
		return sum
	}
}
