// Package freeport finds ports of loopback for servers that tests start, kill
// and start again.
//
// A port that the kernel hands out would not do: while the server is away, the
// kernel may give it to an outgoing connection, even to that of a client which
// dials this very port and is then connected to itself.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports from lowest to highest, and those of Cluster buses above them, are
// below the range of outgoing connections (from 32768 on Linux, 49152 elsewhere).
const (
	lowest   = 10_000
	highest  = 22_767
	busAbove = 10_000 // where a node of a Redis Cluster listens for the others
)

// Pick returns a port at which nobody listens, nor 10000 above it. Somebody
// may before the caller does.
func Pick() (string, error) {
	var err error
	for range 100 {
		port := lowest + rand.IntN(highest-lowest+1)
		if err = errors.Join(try(port), try(port+busAbove)); err == nil {
			return strconv.Itoa(port), nil
		}
	}
	return "", errors.Join(errors.New("no free port found on 127.0.0.1"), err)
}

// try tells whether port can be listened at.
func try(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}
