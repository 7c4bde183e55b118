package redistier

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/freeport"
	"github.com/redis/go-redis/v9"
)

// ear hears a tier's events and keeps them.
type ear struct {
	mu     sync.Mutex // mu guards events
	events []string
	anns   []dewar.Announcement
}

func (e *ear) add(event string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, event)
}

func (e *ear) Announced(a dewar.Announcement) {
	who := "foreign"
	if a.Own {
		who = "own"
	}
	if a.Elsewhere {
		who += " elsewhere"
	}
	kind := [...]string{"?", "invalidate", "set", "expire"}[a.Kind]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, fmt.Sprintf("%s %s %s", who, kind, strings.Join(a.Keys, ",")))
	e.anns = append(e.anns, a)
}

func (e *ear) AnnouncedAll(adopt func()) {
	adopt()
	e.add("all")
}

func (e *ear) Missed(adopt func()) {
	if adopt != nil {
		adopt()
	}
	e.add("missed")
}

func (e *ear) Deaf(d time.Duration) { e.add("deaf " + d.String()) }
func (e *ear) Hearing()             { e.add("hearing") }

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

func (e *ear) count(event string) (n int) {
	for _, heard := range e.heard() {
		if heard == event {
			n++
		}
	}
	return n
}

// await waits until event was heard.
func (e *ear) await(tb testing.TB, event string) {
	tb.Helper()
	eventually(tb, event, func() bool { return e.count(event) > 0 })
}

func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within 20s: %s", what)
		}
	}
}

// openEar opens a tier of the given name that hears.
func openEar(tb testing.TB, cfg Config[string], name string) (*tier[string], *ear) {
	tb.Helper()
	e := new(ear)
	o := testOptions
	o.Name, o.Events = name, e
	return openTier(tb, cfg, o), e
}

// newName returns a name that no other test uses on the shared server.
func newName(tb testing.TB) string {
	return fmt.Sprintf("%.40s.%d", strings.NewReplacer("/", "-", "#", "-").Replace(tb.Name()), names.Add(1))
}

var names atomic.Int64

func (t *tier[V]) announceAll(tb testing.TB, kind dewar.AnnouncementKind, keys ...string) []dewar.Place {
	tb.Helper()
	places, errs := make([]dewar.Place, len(keys)), make([]error, len(keys))
	t.Announce(context.Background(), kind, keys, places, errs)
	for _, err := range errs {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return places
}

// proxy stands between client and server, and can stop passing things on
// without closing a connection.
type proxy struct {
	net.Listener
	target string
	mute   atomic.Bool
	conns  sync.WaitGroup
	mu     sync.Mutex // mu guards open
	open   []net.Conn
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	p.conns.Go(p.accept) // waited for by the Cleanup
	tb.Cleanup(func() {
		p.Close()
		p.cut()
		p.conns.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, in, out)
		p.mu.Unlock()
		p.conns.Go(func() { p.pass(in, out) })
		p.conns.Go(func() { p.pass(out, in) })
	}
}

func (p *proxy) pass(to io.WriteCloser, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	swallowed := false
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		// What has once swallowed bytes would only pass on nonsense.
		if swallowed = swallowed || p.mute.Load(); !swallowed {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// cut closes the connections that are open now.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

// phoenix is a server that can die and come back at the same address.
type phoenix struct {
	*redisServer
	port, dir string
	args      []string
}

func newPhoenix(tb testing.TB, args ...string) *phoenix {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Skip("needs a redis-server: ", err)
	}
	port, err := freeport.Pick()
	if err != nil {
		tb.Fatal(err)
	}
	p := &phoenix{
		redisServer: &redisServer{addr: net.JoinHostPort("127.0.0.1", port)}, dir: tb.TempDir(), port: port,
		args: append([]string{path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"}, args...),
	}
	p.rise(tb)
	tb.Cleanup(p.stop)
	return p
}

func (p *phoenix) rise(tb testing.TB) {
	tb.Helper()
	p.cmd = exec.Command(p.args[0], append(p.args[1:], "--dir", p.dir)...)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: p.addr})
	defer rdb.Close()
	ours := fmt.Sprintf("process_id:%d\r\n", p.cmd.Process.Pid)
	eventually(tb, "the server is up", func() bool {
		info, err := rdb.Info(context.Background(), "server").Result()
		return err == nil && strings.Contains(info, ours)
	})
}

// waits reports whether the reader waits for announcements.
func (h *hub) waits() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blocking != ""
}

// moves returns how often the stream of name says that its epoch was moved.
func moves(tb testing.TB, rdb *redis.Client, name, why string) (n int) {
	tb.Helper()
	entries, err := rdb.XRange(context.Background(), streamKey("dewar", name), "-", "+").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if e.Values["op"] == "e" && e.Values["why"] == why {
			n++
		}
	}
	return n
}

// riseQuiet is rise for a server that does not answer INFO.
func (p *phoenix) riseQuiet(tb testing.TB) {
	tb.Helper()
	p.cmd = exec.Command(p.args[0], append(p.args[1:], "--dir", p.dir)...)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: p.addr})
	defer rdb.Close()
	eventually(tb, "the server is up", func() bool { return rdb.Ping(context.Background()).Err() == nil })
}
