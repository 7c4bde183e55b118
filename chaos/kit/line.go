package kit

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// Line makes connections that can be muted one by one, which a Network cannot.
// Its Dial goes into the options of a client.
type Line struct {
	mu    sync.Mutex // mu guards conns
	conns []*lineConn
}

// Dial is a redis.Options.Dialer.
func (l *Line) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &lineConn{Conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

// Mute makes all connections that are open now swallow what goes either way,
// and say nothing. New ones work. It returns how many there were.
func (l *Line) Mute() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		if !c.muted.Swap(true) && !c.closed.Load() {
			n++
		}
	}
	return n
}

type lineConn struct {
	net.Conn
	muted, closed atomic.Bool
}

func (c *lineConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.muted.Load() {
			return n, err
		}
	}
}

func (c *lineConn) Write(p []byte) (int, error) {
	if c.muted.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *lineConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}
