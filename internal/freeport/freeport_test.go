package freeport

import (
	"net"
	"strconv"
	"testing"
)

func TestAPickedPortCanBeListenedAtWithTheOneOfItsBus(t *testing.T) {
	for range 20 {
		port, err := Pick()
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil || n+busAbove >= 32768 {
			t.Fatal(port, " is no port below those of outgoing connections: ", err)
		}
		for _, p := range []int{n, n + busAbove} {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if err != nil {
				t.Error(err)
				continue
			}
			if try(p) == nil {
				t.Errorf("%d counts as free while somebody listens at it", p)
			}
			l.Close()
		}
	}
}
