package dewarstatsd

import (
	"bytes"
	"io"
	"net"
	"strings"

	"github.com/DataDog/datadog-go/v5/statsd"
)

// connect makes the client. It sends on goroutines of its own, and tells nobody
// else that this fails but who asks to be told.
func (p *Pusher) connect() (*statsd.Client, error) {
	options := []statsd.Option{
		statsd.WithTags(p.cfg.Tags),
		statsd.WithoutTelemetry(), statsd.WithoutOriginDetection(), statsd.WithoutClientSideAggregation(),
		statsd.WithErrorHandler(func(err error) { p.lately.Store(&err) }),
	}
	if !p.cfg.Plain {
		return statsd.New(p.cfg.Addr, options...)
	}
	network, address := "udp", p.cfg.Addr
	if path, unix := strings.CutPrefix(address, "unix://"); unix {
		network, address = "unixgram", path
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return statsd.NewWithWriter(untagged{conn}, options...)
}

// untagged leaves out the tags that the client adds by the environment, such as
// DD_ENV: an agent that knows none would take them for part of a value.
type untagged struct{ io.WriteCloser }

func (w untagged) Write(packet []byte) (int, error) {
	var lines [][]byte
	for line := range bytes.SplitSeq(packet, []byte("\n")) {
		line, _, _ = bytes.Cut(line, []byte("|#"))
		lines = append(lines, line)
	}
	if _, err := w.WriteCloser.Write(bytes.Join(lines, []byte("\n"))); err != nil {
		return 0, err
	}
	return len(packet), nil
}
