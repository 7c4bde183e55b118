package redisd

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// Link is the way of one process to Redis. Cutting it, or making it deaf, takes
// Redis away without touching the server, which may be somebody's.
type Link struct {
	deaf atomic.Bool

	mu    sync.Mutex // mu guards what follows
	down  bool
	conns []net.Conn // made since the last cut; some may be closed by now
}

var errLinkCut = errors.New("connection refused: the link is cut")

// dial is for redis.UniversalOptions.
func (k *Link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	k.mu.Lock()
	down := k.down
	k.mu.Unlock()
	if down {
		return nil, errLinkCut
	}
	dialer := net.Dialer{Timeout: pingFor}
	c, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down { // cut while dialling
		_ = c.Close()
		return nil, errLinkCut
	}
	k.conns = append(k.conns, c)
	return &linked{Conn: c, link: k}, nil
}

// Cut ends every connection and refuses new ones.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for _, c := range k.conns {
		_ = c.Close()
	}
	k.conns = nil
}

// Deafen makes the link swallow what either side sends, without an error. New
// connections can be made, and are no better.
func (k *Link) Deafen() { k.deaf.Store(true) }

// Mend undoes Cut and Deafen.
func (k *Link) Mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
	k.deaf.Store(false)
}

// linked is a connection over a link.
type linked struct {
	net.Conn
	link *Link

	// lost: something was swallowed. What comes after it would be taken for the
	// answer to something else, so nothing does, also when the link is mended.
	lost atomic.Bool
}

func (c *linked) swallows() bool {
	if c.link.deaf.Load() {
		c.lost.Store(true)
	}
	return c.lost.Load()
}

func (c *linked) Write(b []byte) (int, error) {
	if c.swallows() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Read waits, as long as the deadline allows, for something that is not swallowed.
func (c *linked) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.swallows() {
			return n, err
		}
	}
}
