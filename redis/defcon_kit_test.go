package redistier

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// pipeRedis is a server in memory that is reached without a network, so that it
// works, and can be away or slow, in the time of a synctest bubble.
type pipeRedis struct {
	*miniredis.Miniredis
	hook  atomic.Pointer[server.Hook] // nil: none
	asked atomic.Int64                // commands of clients

	mu    sync.Mutex // mu guards these
	away  bool
	conns []net.Conn
}

func newPipeRedis(t *testing.T) *pipeRedis {
	t.Helper()
	r := &pipeRedis{Miniredis: miniredis.NewMiniRedis()}
	conn, err := r.Dial() // starts it
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	r.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		hook := r.hook.Load()
		if c.ClientName == "" { // a new connection, or a script, which has the whole server locked
			return false
		}
		r.asked.Add(1)
		return hook != nil && (*hook)(c, cmd, args...)
	})
	t.Cleanup(r.Close)
	return r
}

// before makes hook decide on each command; nil: none.
func (r *pipeRedis) before(hook server.Hook) {
	if hook == nil {
		r.hook.Store(nil)
		return
	}
	r.hook.Store(&hook)
}

// stalls is a hook that holds such commands for d and then carries them out.
func stalls(d time.Duration, cmds ...string) server.Hook {
	return func(_ *server.Peer, cmd string, _ ...string) bool {
		if slices.Contains(cmds, cmd) {
			time.Sleep(d)
		}
		return false
	}
}

// refuses is a hook that answers such commands with an error.
func refuses(text string, cmds ...string) server.Hook {
	return func(c *server.Peer, cmd string, _ ...string) bool {
		refused := slices.Contains(cmds, cmd)
		if refused {
			c.WriteError(text)
		}
		return refused
	}
}

// die closes all connections and lets nobody in until rise.
func (r *pipeRedis) die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *pipeRedis) rise() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
}

func (r *pipeRedis) dial(context.Context, string, string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, errors.New("connection refused")
	}
	c, err := r.Dial()
	r.conns = append(r.conns, c)
	return c, err
}

func (r *pipeRedis) client(t *testing.T) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(piped(r.dial))
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// piped are the options of a client with its own way of dialling.
func piped(dial func(context.Context, string, string) (net.Conn, error)) *redis.Options {
	o := Harden(&redis.UniversalOptions{ClientName: "process"}).Simple()
	o.Dialer = dial
	return o
}

// link is one process's way to a pipeRedis, which can be broken.
type link struct {
	to *pipeRedis

	mu     sync.Mutex // mu guards these
	broken bool
	conns  []net.Conn
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return nil, errors.New("no route to host")
	}
	c, err := l.to.dial(ctx, network, addr)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = false
}

func (l *link) client(t *testing.T) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(piped(l.dial))
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// turnable is a dial in a fleet, as a process of it has one.
type turnable struct {
	*dewar.Defcon
	fleet *FleetDefcon
	log   *logLines

	mu    sync.Mutex // mu guards turns
	turns []dewar.Turn
}

// aDial is not shared yet.
func aDial() *turnable {
	s := &turnable{Defcon: new(dewar.Defcon), log: new(logLines)}
	s.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	s.Watch(func(t dewar.Turn) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.turns = append(s.turns, t)
	})
	return s
}

func (s *turnable) join(t *testing.T, cfg DefconConfig) *turnable {
	t.Helper()
	fleet, err := SharedDefcon(s.Defcon, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.fleet = fleet
	t.Cleanup(func() { fleet.Close() })
	return s
}

// joined is a new process of the fleet.
func joined(t *testing.T, client redis.UniversalClient) *turnable {
	t.Helper()
	return aDial().join(t, DefconConfig{Client: client})
}

// by turns the dial.
func (s *turnable) by(t *testing.T, to dewar.Level, who, why string) {
	t.Helper()
	if err := s.Turn(dewar.Turn{To: to, Who: who, Why: why}); err != nil {
		t.Fatal(err)
	}
}

// heard returns the turns so far.
func (s *turnable) heard() []dewar.Turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.turns)
}

// allAt tells of dials that are not at a level, and not by that person.
func allAt(t *testing.T, level dewar.Level, who string, dials ...*turnable) {
	t.Helper()
	for i, d := range dials {
		if last := d.LastTurn(); d.Level() != level || last.Who != who {
			lines := d.log.lines()
			t.Errorf("dial %d is at %v, turned by %+v; want %v by %s\n%s", i, d.Level(), last, level, who, strings.Join(lines[max(0, len(lines)-5):], "\n"))
		}
	}
}

// inBubble runs a test on a server in memory.
func inBubble(t *testing.T, test func(t *testing.T, r *pipeRedis)) {
	synctest.Test(t, func(t *testing.T) { test(t, newPipeRedis(t)) })
}

// count returns how many lines hold text.
func (l *logLines) count(text string) (n int) {
	for _, line := range l.lines() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
