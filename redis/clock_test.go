package redistier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// tripCounter counts round trips and the commands in them.
type tripCounter struct {
	about string // no trip counts whose first command does not name it; "" counts all

	n     atomic.Int64
	times atomic.Int64 // TIME commands

	mu   sync.Mutex    // mu guards last
	last []redis.Cmder // of the last pipeline
}

func (c *tripCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *tripCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if c.counts(cmd) {
			c.n.Add(1)
		}
		if cmd.Name() == "time" {
			c.times.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *tripCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if c.counts(cmds[0]) {
			c.n.Add(1)
			c.mu.Lock()
			c.last = cmds
			c.mu.Unlock()
		}
		return next(ctx, cmds)
	}
}

func (c *tripCounter) counts(cmd redis.Cmder) bool {
	return strings.Contains(fmt.Sprint(cmd.Args()...), c.about)
}

// skewed is a wall clock that is off by d.
func skewed(d time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(d) }
}

// almost reports whether a and b, on dewar.Clock, are the same but for what
// measuring and a slow machine may add.
func almost(a, b int64) bool { return apart(a, b) < int64(2*time.Second) }

func TestProcessesWhoseClocksAreHoursApartAgreeOnAges(t *testing.T) {
	for name, redisOff := range map[string]time.Duration{"Redis right": 0, "Redis ahead": 7 * time.Hour, "Redis behind": -7 * time.Hour} {
		mini := startMini(t)
		mini.SetTime(time.Now().Add(redisOff))
		open := func(off time.Duration) *tier[string] {
			return openTier(t, Config[string]{Client: newClient(t, mini.Addr()), wall: skewed(off)}, testOptions)
		}
		tiers := []*tier[string]{open(0), open(5 * time.Hour), open(-5 * time.Hour)}
		for i, writer := range tiers {
			for j, reader := range tiers {
				key := fmt.Sprint(i, j)
				fill := aFill(key, writer.seizeOne(t.Context(), key).Fence, "v")
				fill.Entry.Loaded -= int64(30 * time.Second)
				fills := []dewar.Fill[string]{fill}
				if writer.Fill(t.Context(), fills); fills[0].Err != nil {
					t.Fatal(fills[0].Err)
				}
				f := reader.readOne(t.Context(), key)
				if f.State != dewar.RemoteValue {
					t.Fatalf("%s: written by %d, read by %d: state %d", name, i, j, f.State)
				}
				if !almost(f.Entry.Loaded, fill.Entry.Loaded) || !almost(f.Entry.Fresh, fill.Entry.Fresh) {
					t.Errorf("%s: written by %d, read by %d: loaded %v off, fresh %v off", name, i, j,
						time.Duration(f.Entry.Loaded-fill.Entry.Loaded), time.Duration(f.Entry.Fresh-fill.Entry.Fresh))
				}
				// Alive for two minutes: not for hours more, nor for less.
				raw, err := mini.Get(reader.keys.Load().redisKey(key))
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					in   time.Duration
					want bool
				}{{110 * time.Second, true}, {130 * time.Second, false}} {
					var env envelope
					reader.keys.Load().parse([]byte(raw), key, &env)
					now := reader.clock.read(t.Context())
					now.unix += int64(c.in)
					if alive := now.clamp(&env); alive != c.want {
						t.Errorf("%s: written by %d, read by %d: alive in %v: %v", name, i, j, c.in, alive)
					}
				}
			}
		}
	}
}

func TestAnEntryIsLoadedAtTheSameInstantEachTimeItIsRead(t *testing.T) {
	server := startOwn(t)
	tier := openTier(t, Config[string]{Client: newClient(t, server.addr), wall: skewed(time.Hour)}, testOptions)
	fill := aFill("k", tier.seizeOne(t.Context(), "k").Fence, "v")
	fills := []dewar.Fill[string]{fill}
	if tier.Fill(t.Context(), fills); fills[0].Err != nil {
		t.Fatal(fills[0].Err)
	}
	for range 200 {
		if f := tier.readOne(t.Context(), "k"); f.Entry.Loaded != fill.Entry.Loaded || f.Entry.Fresh != fill.Entry.Fresh {
			t.Fatalf("loaded %d, fresh %d, want %d, %d", f.Entry.Loaded, f.Entry.Fresh, fill.Entry.Loaded, fill.Entry.Fresh)
		}
		if err := tier.clock.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisIsAskedForTheTimeOnce(t *testing.T) {
	client := newClient(t, realRedis(t))
	trips := &tripCounter{}
	client.AddHook(trips)
	tier := openTier(t, Config[string]{Client: client}, testOptions)
	var wg sync.WaitGroup
	wg.Go(func() { // waited for below
		for range 20 {
			tier.clock.read(t.Context())
		}
	})
	for range 20 {
		tier.clock.read(t.Context())
	}
	wg.Wait()
	// Once more if making the connection took time.
	if n := trips.times.Load(); n < 1 || n > 2 {
		t.Errorf("asked %d times", n)
	}
}

// fakeServer is a clock that is asked over a network which takes its time.
type fakeServer struct {
	off   time.Duration // from this machine's clock
	there time.Duration // on the way to it
	back  time.Duration // on the way back
	err   error
	asked int
}

func (s *fakeServer) ask(ctx context.Context) (time.Time, error) {
	s.asked++
	time.Sleep(s.there)
	defer time.Sleep(s.back)
	return time.Now().Add(s.off), s.err
}

func (s *fakeServer) clock(wall func() time.Time) *redisClock {
	return newRedisClock(s.ask, wall, testOptions.Logger)
}

// off returns how far c is off the server's clock.
func (s *fakeServer) wrong(c *redisClock) time.Duration {
	now := c.read(context.Background())
	return time.Duration(now.unix - time.Now().Add(s.off).UnixNano())
}

func TestOffsetMovesOnlyWhenItIsProvedWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{off: time.Hour, there: 4 * time.Millisecond}
		c := s.clock(time.Now)
		if wrong := s.wrong(c).Abs(); wrong > 4*time.Millisecond {
			t.Fatalf("off by %v", wrong)
		}
		before := c.state.Load().offset
		// The way back is the slow one now: the estimate is another, and within
		// its error the old one may be right.
		s.there, s.back = 0, 4*time.Millisecond
		for range 3 {
			if err := c.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if c.state.Load().offset != before {
			t.Error("moved without proof")
		}
		// A slow answer proves little.
		s.off += 100 * time.Millisecond
		s.back = time.Second
		if err := c.sync(t.Context()); err != nil || c.state.Load().offset != before {
			t.Errorf("moved by an answer that took a second, %v", err)
		}
		s.back = 0
		if err := c.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if wrong := s.wrong(c).Abs(); wrong > time.Millisecond {
			t.Errorf("off by %v after a proof", wrong)
		}
	})
}

func TestWallClockStandsInUntilRedisTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{off: time.Hour, err: errors.New("down")}
		c := s.clock(skewed(-time.Hour))
		for range 100 {
			if wrong := s.wrong(c); wrong != -2*time.Hour {
				t.Fatalf("not the wall clock: off by %v", wrong)
			}
		}
		if s.asked != 1 {
			t.Errorf("asked %d times at once", s.asked)
		}
		s.err = nil
		time.Sleep(askAgain)
		if wrong := s.wrong(c).Abs(); wrong > time.Millisecond {
			t.Errorf("off by %v", wrong)
		}
		s.err = errors.New("down again")
		if err := c.sync(t.Context()); err == nil {
			t.Error("no error")
		}
		if wrong := s.wrong(c).Abs(); wrong > time.Millisecond {
			t.Errorf("off by %v when Redis is down again", wrong)
		}
	})
}

func TestWallClockThatIsPutRightIsFollowedWhileItStandsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off atomic.Int64
		s := &fakeServer{err: errors.New("down")}
		c := s.clock(func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
		first := c.read(t.Context())
		off.Store(int64(2 * time.Millisecond)) // no reason to take values for others
		if now := c.read(t.Context()); now.unix-now.mono != first.unix-first.mono {
			t.Error("moved by 2ms")
		}
		off.Store(int64(time.Hour))
		if wrong := s.wrong(c); wrong != time.Hour {
			t.Errorf("off by %v", wrong)
		}
	})
}

// A machine that sleeps stops dewar.Clock and not Redis's.
func TestClockIsMeasuredAgainAfterTheMachineSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		s := &fakeServer{off: time.Hour}
		c := s.clock(func() time.Time { return time.Now().Add(time.Duration(slept.Load())) })
		c.read(t.Context())
		asked := s.asked
		time.Sleep(time.Minute)
		if c.read(t.Context()); s.asked != asked {
			t.Error("asked without a reason")
		}
		slept.Store(int64(30 * time.Minute))
		s.off += 30 * time.Minute
		if wrong := s.wrong(c).Abs(); wrong > time.Millisecond {
			t.Errorf("off by %v", wrong)
		}
		asked = s.asked
		if c.read(t.Context()); s.asked != asked {
			t.Error("asks again and again")
		}
	})
}

func TestFirstCallersWaitForTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{off: time.Hour, there: 20 * time.Millisecond, back: 20 * time.Millisecond}
		c := s.clock(time.Now)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { // waited for below
				if wrong := s.wrong(c).Abs(); wrong > time.Millisecond {
					t.Errorf("off by %v", wrong)
				}
			})
		}
		wg.Wait()
		if s.asked > 2 {
			t.Errorf("asked %d times", s.asked)
		}
		// But no longer than they may.
		s = &fakeServer{off: time.Hour, there: time.Hour}
		c = s.clock(time.Now)
		wg.Go(func() { c.read(t.Context()) }) // waited for below
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if c.read(ctx); time.Since(began) != time.Second {
			t.Errorf("waited for %v", time.Since(began))
		}
		wg.Wait()
	})
}

func TestOneAnswerSetsAllClocksOfARedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{off: time.Hour}
		a, b, c := s.clock(time.Now), s.clock(time.Now), s.clock(time.Now)
		if err := a.sync(t.Context(), b, c); err != nil {
			t.Fatal(err)
		}
		for _, clock := range []*redisClock{a, b, c} {
			if s.wrong(clock) != 0 {
				t.Errorf("off by %v", s.wrong(clock))
			}
		}
		if s.asked != 1 {
			t.Errorf("asked %d times", s.asked)
		}
	})
}

func TestBusSetsTheClocksAlsoAfterAnOutage(t *testing.T) {
	t.Parallel()
	between := newProxy(t, realRedis(t))
	cfg := Config[string]{Client: newClient(t, between.addr()), wall: skewed(time.Hour)}
	tiers := []*tier[string]{openTier(t, cfg, testOptions), openTier(t, cfg, testOptions)}
	asked := func() bool {
		for _, tier := range tiers {
			if s := tier.clock.state.Load(); !s.asked || !almost(s.offset+dewar.Clock(), time.Now().UnixNano()) {
				return false
			}
		}
		return true
	}
	waitFor(t, "the bus", func() bool { return tiers[0].clock.state.Load().asked })
	for _, tier := range tiers {
		tier.clock.state.Store(&clockState{})
	}
	between.mute.Store(true)
	waitFor(t, "the outage", func() bool { return tiers[0].Stats().Deaf })
	between.mute.Store(false)
	waitFor(t, "Redis's clock", asked)
}

func TestServerThatMayNotTellTheTimeIsLeftAlone(t *testing.T) {
	server := startOwn(t)
	admin := newClient(t, server.addr)
	if err := admin.Do(t.Context(), "acl", "setuser", "app", "on", ">secret", "~*", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, server.addr, func(o *redis.Options) { o.Username = "app"; o.Password = "secret" })
	trips := &tripCounter{}
	client.AddHook(trips)
	var log logLines
	o := testOptions
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tier := openTier(t, Config[string]{Client: client, wall: skewed(time.Hour)}, o)
	tier.put(t, "k", "v")
	for range 5 {
		tier.clock.tried.Store(1) // long ago
		if f := tier.readOne(t.Context(), "k"); f.State != dewar.RemoteValue || !almost(f.Entry.Loaded, dewar.Clock()) {
			t.Fatalf("%+v", f)
		}
	}
	now := tier.clock.read(t.Context())
	if !almost(now.unix, time.Now().Add(time.Hour).UnixNano()) {
		t.Error("not the wall clock")
	}
	if n := trips.times.Load(); n < 1 || n > 2 { // for readers, and by the bus
		t.Errorf("asked %d times", n)
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "this machine's clock stands in") {
		t.Errorf("logged %q", lines)
	}
	if got := tier.Stats(); got.Denied != 0 || got.OpenBreakers != 0 {
		t.Errorf("%+v", got)
	}
	if err := admin.Do(t.Context(), "acl", "setuser", "app", "+time").Err(); err != nil {
		t.Fatal(err)
	}
	if err := tier.clock.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = tier.clock.read(t.Context())
	if !almost(now.unix, time.Now().UnixNano()) {
		t.Error("not Redis's clock")
	}
	if tier.clock.deaf.Load() {
		t.Error("will not ask again")
	}
}

func TestTimesGoToRedissClockAndBackUnchanged(t *testing.T) {
	now := clocks{unix: 1_800_000_000_123_456_789, mono: dewar.Clock()}
	for _, mono := range []int64{now.mono, now.mono - 1, now.mono + int64(time.Hour), now.mono - int64(1000*time.Hour)} {
		if got := now.toClock(now.toUnix(mono)); got != mono {
			t.Errorf("%d came back as %d", mono, got)
		}
	}
}
