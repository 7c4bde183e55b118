package redistier

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

const (
	busBlock   = time.Second            // how long a read waits for announcements
	busSlack   = 500 * time.Millisecond // how much later than that its reply may come
	busTimeout = 500 * time.Millisecond // of other commands of the bus, at least
	deafAfter  = 2 * time.Second        // silence that is told
	clockEvery = time.Minute            // how often Redis's clock is asked for
	busCount   = 100                    // entries of one stream in one reply

	// busGather is the least time between two readings: under a flood of
	// announcements each process asks Redis 50 times a second and not once for
	// each, and hears of it 20 ms later at most.
	busGather = 20 * time.Millisecond
	// busPoll is the time between two readings where no connection may wait.
	busPoll = 50 * time.Millisecond

	minPause, maxPause = 20 * time.Millisecond, 500 * time.Millisecond // after errors
)

// follower is a tier's part in the bus.
type follower struct {
	w                *wire
	prefix, schema   string
	stream, epochKey string
	from             string // names this tier in what it announces
	maxDeaf          time.Duration
	events           dewar.RemoteEvents // nil: nobody
	opened           int64              // on dewar.Clock
	hub              atomic.Pointer[hub]
	leaving          sync.Once

	keys atomic.Pointer[keyspace]
	kept atomic.Int64 // when stream and epoch were kept on, on dewar.Clock; 0: never

	mu      sync.Mutex  // mu guards these, and changes of keys
	awaited dewar.Place // of our last announcement that Redis has answered
	moving  int         // NextEpochs under way
	echoed  uint64      // highest epoch that we have heard from ourselves
	lost    uint64      // the epoch that we have moved to for a loss

	telling sync.Mutex // telling guards left, and is held while events are told
	left    bool

	// Of the hub's goroutine, once the follower is the hub's.
	joined bool
	server identity    // that had the stream when it was last proven whole
	last   dewar.Place // everything up to here was heard
	told   uint64      // moves of the epoch up to this one were told
	// foretold is the epoch that was found stored and told of before its
	// announcement came in, which is then no news; 0: none.
	foretold uint64

	deaf                   atomic.Bool
	answered               atomic.Int64 // when the server last answered the bus, on dewar.Clock
	announced, heard, gaps atomic.Uint64
	lag                    atomic.Int64 // of the last foreign announcement, ns
	lastGap                atomic.Int64 // Unix ns; 0: none yet
}

func (h *hub) run(context.Context) {
	trouble := true // something went wrong since the streams were last read to their ends
	woken := false
	pause := minPause
	for h.ctx.Err() == nil {
		h.joinLate()
		fs, version := h.following()
		if len(fs) == 0 {
			h.tellDeaf()
			pause = h.rest(pause)
			continue
		}
		more, mended, err := h.resume(fs, trouble)
		trouble = trouble || mended
		if err == nil && !more && trouble {
			err = h.followStored(fs)
		}
		if err != nil {
			trouble = true
			h.shed(fs, err)
			h.tellDeaf()
			pause = h.rest(pause)
			continue
		}
		if more {
			continue
		}
		if trouble {
			h.synced = 0 // another server may have another clock
		}
		trouble = false
		h.tellHearing(fs)
		h.tellDeaf() // those who cannot join
		h.checkServers(fs)
		h.syncClocks(fs)
		h.keep(fs)
		if woken {
			h.wait(busGather)
		}
		if woken, err = h.block(fs, version); err != nil {
			trouble = true
			h.shed(fs, err)
			h.tellDeaf()
			pause = h.rest(pause)
			continue
		}
		pause = minPause
	}
}

// following returns the followers that have joined.
func (h *hub) following() (fs []*follower, version int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.followers {
		if f.joined {
			fs = append(fs, f)
		}
	}
	return fs, h.version
}

// everybody returns all followers.
func (h *hub) everybody() []*follower {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.followers)
}

// rest pauses after an error, and returns how long to pause after the next.
func (h *hub) rest(pause time.Duration) time.Duration {
	timer := time.NewTimer(pause/2 + rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-h.ctx.Done():
	case <-h.nudge:
	case <-timer.C:
	}
	return min(2*pause, maxPause)
}

func (h *hub) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-h.ctx.Done():
	case <-timer.C:
	}
}

// syncClocks sets the clocks of fs by the server's now and then. All are of
// one Redis: it is asked once.
func (h *hub) syncClocks(fs []*follower) {
	if h.synced != 0 && dewar.Clock()-h.synced < int64(clockEvery) {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	var others []*redisClock
	for _, f := range fs[1:] {
		others = append(others, f.w.clock)
	}
	// If a breaker is in the way, say, it is tried again when the hub comes round.
	if err := fs[0].w.clock.sync(ctx, others...); err == nil || isRefused(err) {
		h.synced = max(1, dewar.Clock())
	}
}

// block waits until something comes in, or a second has passed. woken is true
// if something has.
func (h *hub) block(fs []*follower, version int) (woken bool, err error) {
	if h.polls {
		h.wait(busPoll)
		return false, nil
	}
	streams, from := positions(fs)
	h.mu.Lock()
	changed := h.version != version
	if !changed {
		h.blocking = streams[0]
	}
	h.mu.Unlock()
	if changed {
		return false, nil
	}
	defer func() {
		h.mu.Lock()
		h.blocking = ""
		h.mu.Unlock()
	}()
	args := make([]string, 0, 2*len(streams))
	args = append(args, streams...)
	for _, p := range from {
		args = append(args, placeID(p))
	}
	// The deadline finds out connections that have gone silent.
	ctx, cancel := context.WithTimeout(h.ctx, busBlock+busSlack)
	defer cancel()
	err = h.client.XRead(ctx, &redis.XReadArgs{Streams: args, Count: 1, Block: busBlock}).Err()
	if err == redis.Nil {
		return false, nil
	}
	return err == nil, err
}

// positions returns the streams of fs, and the place up to which all followers
// of each have heard it.
func positions(fs []*follower) (streams []string, from []dewar.Place) {
	at := make(map[string]int, len(fs))
	for _, f := range fs {
		i, ok := at[f.stream]
		if !ok {
			at[f.stream] = len(streams)
			streams, from = append(streams, f.stream), append(from, f.last)
		} else if f.last.Before(from[i]) {
			from[i] = f.last
		}
	}
	return streams, from
}

// tell calls what, unless the follower has left or nobody wants to hear.
func (f *follower) tell(what func(dewar.RemoteEvents)) {
	if f.events == nil {
		return
	}
	f.telling.Lock()
	defer f.telling.Unlock()
	if !f.left {
		what(f.events)
	}
}

// missed tells that announcements may have been missed, and goes to epoch if
// that is not 0.
func (f *follower) missed(why string, epoch uint64) {
	f.gaps.Add(1)
	f.lastGap.Store(time.Now().UnixNano())
	f.w.log.Info("dewar: announcements may have been missed", "name", f.w.name, "reason", why)
	var adopt func()
	if epoch != 0 {
		adopt = func() { f.adopt(epoch) }
	}
	f.tell(func(ev dewar.RemoteEvents) { ev.Missed(adopt) })
	if epoch != 0 {
		f.adopt(epoch) // where nobody is told
	}
}

func (h *hub) tellDeaf() {
	for _, f := range h.everybody() {
		silent := dewar.Clock() - f.answered.Load()
		if silent < int64(deafAfter) || f.deaf.Swap(true) {
			continue
		}
		f.w.log.Warn("dewar: announcements have stopped coming in", "name", f.w.name, "silent", time.Duration(silent))
		f.tell(func(ev dewar.RemoteEvents) { ev.Deaf(f.maxDeaf) })
	}
}

func (h *hub) tellHearing(fs []*follower) {
	for _, f := range fs {
		if f.deaf.Swap(false) {
			f.w.log.Info("dewar: announcements come in again", "name", f.w.name)
			f.tell(func(ev dewar.RemoteEvents) { ev.Hearing() })
		}
	}
}

func (f *follower) busStats(s *dewar.RemoteStats) {
	s.Announced, s.Heard, s.Gaps = f.announced.Load(), f.heard.Load(), f.gaps.Load()
	s.Epoch = f.keys.Load().epoch
	s.Deaf = f.deaf.Load()
	s.Lag = time.Duration(f.lag.Load())
	if at := f.lastGap.Load(); at != 0 {
		s.LastGap = time.Unix(0, at)
	}
	s.SilentFor = time.Duration(max(0, dewar.Clock()-f.answered.Load()))
}
