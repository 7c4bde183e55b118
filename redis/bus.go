package redistier

import (
	"context"
	"math/rand/v2"
	"reflect"
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
	// announcements Redis is asked 200 times a second and not once for each.
	busGather = 5 * time.Millisecond
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

	deaf                   atomic.Bool
	answered               atomic.Int64 // when the server last answered the bus, on dewar.Clock
	announced, heard, gaps atomic.Uint64
}

// hub is the one reader of a client and prefix in this process.
//
//	resume -> XREAD from just before the last entry of each stream: that entry
//	          comes first, or something was missed
//	block  -> XREAD BLOCK from the last entries: something has come in, or a
//	          second has passed; then resume
//
// What block returns is not looked at. Everything is read by resume, so that
// every entry is delivered after a proof that nothing before it is missing. An
// idle process sends two commands a second, for all its caches.
type hub struct {
	client redis.UniversalClient
	key    any  // in hubs.open; nil: not there
	polls  bool // the client has no connection to spare

	back  *background     // runs the reader
	ctx   context.Context // of back; done: the reader ends
	nudge chan struct{}   // ends a pause

	mu        sync.Mutex // mu guards these
	followers []*follower
	version   int    // of followers
	blocking  string // a stream that is being waited for; "": none

	synced    int64 // when clocks were last set by the server's, on dewar.Clock; 0: not since it was reached
	suspected atomic.Bool
	looked    atomic.Int64        // how often they were looked at
	servers   map[string]identity // of a Cluster, by address
	serversAt int64               // when they were looked at, on dewar.Clock
}

type hubKey struct {
	client redis.UniversalClient
	prefix string
}

var hubs = struct {
	mu   sync.Mutex // mu guards open, and who is first and last in a hub
	open map[any]*hub
}{open: make(map[any]*hub)}

// enrol makes f one of the hub's of its client and prefix, which it starts if
// f is the first.
func (f *follower) enrol() {
	if h, first := f.enter(); first {
		h.back.start(h.run) // waited for by the last follower's leave
	} else {
		h.wake(f)
	}
}

// enter returns the hub that f has become one of; first: it has yet to be started.
func (f *follower) enter() (h *hub, first bool) {
	hubs.mu.Lock()
	defer hubs.mu.Unlock()
	var key any
	if reflect.ValueOf(f.w.client).Comparable() {
		key = hubKey{f.w.client, f.prefix}
	}
	h = hubs.open[key]
	first = h == nil
	if first {
		h = &hub{
			client: f.w.client, key: key, polls: oneConnection(f.w.client),
			back: newBackground(), nudge: make(chan struct{}, 1),
			serversAt: dewar.Clock() - int64(serversEvery),
		}
		h.ctx = h.back.ctx
		if key != nil {
			hubs.open[key] = h
		}
	}
	f.hub.Store(h)
	h.mu.Lock()
	h.followers = append(h.followers, f)
	h.version++
	h.mu.Unlock()
	return h, first
}

// leave ends what f hears, and the hub with its last follower.
func (f *follower) leave() {
	f.telling.Lock()
	f.left = true
	f.telling.Unlock()

	h := f.hub.Load()
	hubs.mu.Lock()
	h.mu.Lock()
	h.followers = slices.DeleteFunc(h.followers, func(other *follower) bool { return other == f })
	h.version++
	last := len(h.followers) == 0
	h.mu.Unlock()
	if last && h.key != nil {
		delete(hubs.open, h.key)
	}
	hubs.mu.Unlock()
	if last {
		h.back.cancel() // before it is woken
		h.wake(f)
		h.back.stop()
	}
}

// wake makes the hub come round now. go-redis does not end a read when its
// context is cancelled, so the wait is ended from the other side: by an entry,
// which every reader ignores, in a stream that is waited for. It cannot come too
// early: the read begins after the last entry heard, and finds it.
func (h *hub) wake(f *follower) {
	select {
	case h.nudge <- struct{}{}:
	default:
	}
	h.mu.Lock()
	stream := h.blocking
	h.mu.Unlock()
	if stream == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout())
	defer cancel()
	args := append(addArgs(stream, 4), fieldOp, opHello, fieldFrom, f.from)
	_ = h.client.Process(ctx, redis.NewStringCmd(ctx, args...)) // else the hub comes round by itself
}

// oneConnection reports whether a wait would keep everybody else waiting.
func oneConnection(client redis.UniversalClient) bool {
	size, active := 0, 0
	switch c := client.(type) {
	case interface{ Options() *redis.Options }:
		size, active = c.Options().PoolSize, c.Options().MaxActiveConns
	case interface{ Options() *redis.ClusterOptions }:
		size, active = c.Options().PoolSize, c.Options().MaxActiveConns
	}
	return size == 1 || active == 1
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
	s.SilentFor = time.Duration(max(0, dewar.Clock()-f.answered.Load()))
}
