package redisd

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestDeafLinkSwallowsWithoutAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() { // echoes; ends with l, and is waited for
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			go io.Copy(c, c) // ends with c
		}
	}()
	defer func() { l.Close(); <-done }()

	var k Link
	dial := func() net.Conn {
		c, err := k.dial(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	answers := func(c net.Conn) bool {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		wait := 10 * time.Second
		if k.deaf.Load() || c.(*linked).lost.Load() {
			wait = 50 * time.Millisecond
		}
		c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(make([]byte, 8))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return n == 1
	}
	idle, used := dial(), dial()
	if !answers(idle) || !answers(used) {
		t.Fatal("no answer")
	}
	k.Deafen()
	if fresh := dial(); answers(used) || answers(fresh) {
		t.Error("an answer while deaf")
	}
	k.Mend()
	if answers(used) {
		t.Error("an answer on a connection that has lost something")
	}
	if !answers(idle) || !answers(dial()) {
		t.Error("no answer when mended")
	}
}
