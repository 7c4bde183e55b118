package redistier

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// cuttingProxy forwards to Redis and, when told to, breaks the connection
// after a command was executed and before its reply came through.
type cuttingProxy struct {
	addr string
	cut  atomic.Pointer[string] // text in a request whose reply is to be lost
	seen atomic.Int32           // requests with that text, since it was set
	most atomic.Int32           // how many of them lose their reply
}

func startProxy(t *testing.T, target string) *cuttingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cuttingProxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener, its connections with the client's
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", target)
			if err != nil {
				down.Close()
				continue
			}
			wg.Go(func() { p.serve(down, up) })
		}
	}()
	return p
}

// serve handles one request and reply at a time, which is how go-redis uses a
// connection.
func (p *cuttingProxy) serve(down, up net.Conn) {
	defer down.Close()
	defer up.Close()
	lose := make(chan struct{})
	var losing atomic.Bool
	go func() { // ends with up
		buf := make([]byte, 64<<10)
		for {
			n, err := up.Read(buf)
			if losing.Load() {
				close(lose) // the reply is here, so the command was executed
				return
			}
			if n > 0 {
				down.Write(buf[:n])
			}
			if err != nil {
				down.Close()
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := down.Read(buf)
		if err != nil {
			return
		}
		if text := p.cut.Load(); text != nil && bytes.Contains(bytes.ToLower(buf[:n]), []byte(*text)) {
			if p.seen.Add(1) <= p.most.Load() {
				losing.Store(true)
				up.Write(buf[:n])
				<-lose
				return
			}
		}
		if _, err := io.Copy(up, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// lose makes the replies to the next requests with text get lost.
func (p *cuttingProxy) lose(text string, most int32) {
	p.seen.Store(0)
	p.most.Store(most)
	p.cut.Store(&text)
}

func (p *cuttingProxy) pass() { p.cut.Store(nil) }

func TestWritesWhoseReplyIsLostAreSentOnceAndDeletionsAgain(t *testing.T) {
	proxy := startProxy(t, realRedis(t))
	client := newClient(t, proxy.addr, func(o *redis.Options) {
		o.MaxRetries = 3
		o.MaxRetryBackoff = time.Millisecond
	})
	o := testOptions
	o.Name = "lost-replies"
	tier := openTier(t, Config[string]{Client: client}, o)
	direct := openTier(t, Config[string]{Client: newClient(t, realRedis(t))}, o)
	ctx := t.Context()
	direct.put(t, "warm", "up") // the scripts are known
	direct.Release(ctx, []dewar.Fill[string]{{Key: "warm", Fence: newFence(kindLease)}})
	direct.Renew(ctx, []dewar.Fill[string]{{Key: "warm", Fence: newFence(kindLease)}})

	many := func(n int) []string { return benchKeys(n) }
	for _, n := range []int{1, 3} { // one command, and a pipeline
		keys := many(n)
		found := make([]dewar.Found[string], n)
		errs := make([]error, n)
		fills := make([]dewar.Fill[string], n)
		for _, c := range []struct {
			name, text string
			do         func() error
			want       int // requests
		}{
			{"Lease", "$2\r\nnx\r\n", func() error { tier.Lease(ctx, keys, found); return found[n-1].Err }, 1},
			{"Seize", "$3\r\nset\r\n", func() error { tier.Seize(ctx, keys, found); return found[n-1].Err }, 1},
			{"Fill", "evalsha", func() error { tier.Fill(ctx, fills); return fills[n-1].Err }, 1},
			{"Release", "evalsha", func() error { tier.Release(ctx, fills); return fills[n-1].Err }, 1},
			{"Renew", "evalsha", func() error { tier.Renew(ctx, fills); return fills[n-1].Err }, 1},
			{"LeaseRefresh", "$2\r\nnx\r\n", func() error { tier.LeaseRefresh(ctx, keys, found); return found[n-1].Err }, 1},
			{"Expire", "evalsha", func() error { tier.Expire(ctx, keys, time.Minute, errs); return errs[n-1] }, 1},
			{"Unlink", "unlink", func() error { tier.Unlink(ctx, keys, errs); return errs[n-1] }, 4},
			{"Read", "get\r\n", func() error { tier.Read(ctx, keys, found); return found[n-1].Err }, 4},
		} {
			proxy.pass()
			tier.forgive()
			direct.Unlink(ctx, keys, errs)
			switch c.name {
			case "Fill", "Release", "Renew":
				direct.Lease(ctx, keys, found)
				for i, key := range keys {
					fills[i] = aFill(key, found[i].Fence, "v")
				}
			case "Expire":
				for _, key := range keys {
					direct.put(t, key, "v")
				}
			}
			tier.readOne(ctx, "warm") // so that the connection is up
			proxy.lose(c.text, 1000)
			err := c.do()
			proxy.pass()
			want := c.want
			if c.name == "Read" && n > 1 {
				want++ // the raw try, then the usual ones
			}
			if got := int(proxy.seen.Load()); got != want || err == nil {
				t.Errorf("%s of %d: sent %d times, want %d (error %v)", c.name, n, got, want, err)
			}
			if c.name == "Fill" {
				if f := direct.readOne(ctx, keys[0]); f.State != dewar.RemoteValue {
					t.Errorf("Fill of %d: not executed: state %d", n, f.State)
				}
			}
		}
	}

	tier.forgive()
	// A single loss is not noticed where commands may be repeated.
	for _, n := range []int{1, 3} {
		keys := many(n)
		for _, key := range keys {
			direct.put(t, key, "v")
		}
		proxy.lose("get\r\n", 1)
		found := make([]dewar.Found[string], n)
		if tier.Read(ctx, keys, found); found[n-1].State != dewar.RemoteValue || proxy.seen.Load() != 2 {
			t.Errorf("Read of %d: state %d, sent %d times", n, found[n-1].State, proxy.seen.Load())
		}
		proxy.lose("unlink", 1)
		errs := make([]error, n)
		if tier.Unlink(ctx, keys, errs); errs[n-1] != nil || proxy.seen.Load() != 2 {
			t.Errorf("Unlink of %d: %v, sent %d times", n, errs[n-1], proxy.seen.Load())
		}
	}
}
