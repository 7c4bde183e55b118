package redistier

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

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
