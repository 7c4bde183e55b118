package kit

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Network stands between clients and one server, and can be made to fail.
type Network struct {
	Addr  string // for the clients
	proxy *toxiproxy.Proxy
}

var silence sync.Once

// StartNetwork starts a network before the server at addr and stops it with
// the test.
func StartNetwork(tb testing.TB, addr string) *Network {
	tb.Helper()
	silence.Do(func() { zerolog.SetGlobalLevel(zerolog.Disabled) }) // some toxics have loggers of their own
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &Network{proxy: toxiproxy.NewProxy(server, tb.Name(), "127.0.0.1:0", addr)}
	if err := n.proxy.Start(); err != nil {
		tb.Fatal(err)
	}
	n.Addr = n.proxy.Listen
	tb.Cleanup(n.proxy.Stop)
	return n
}

// Directions of a network.
const (
	ToServer   = "upstream"
	FromServer = "downstream"
)

// Fail makes what goes in a direction fail in the way that toxiproxy knows
// under kind: on connections that are open now as well as on new ones.
func (n *Network) Fail(tb testing.TB, direction, kind string, attributes map[string]any) {
	tb.Helper()
	toxic, err := json.Marshal(map[string]any{"type": kind, "stream": direction, "attributes": attributes})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
		tb.Fatal(err)
	}
}

// Swallow makes the network swallow all that is sent either way, and say
// nothing.
func (n *Network) Swallow(tb testing.TB) {
	tb.Helper()
	n.Fail(tb, ToServer, "timeout", map[string]any{"timeout": 0})
	n.Fail(tb, FromServer, "timeout", map[string]any{"timeout": 0})
}

// Heal ends all failures. Connections that have lost bytes are closed.
func (n *Network) Heal() { n.proxy.Toxics.ResetToxics(context.Background()) }

// Cut closes all connections and refuses new ones, until Mend.
func (n *Network) Cut() { n.proxy.Stop() }

// Mend ends a Cut. It may be called from any goroutine.
func (n *Network) Mend(tb testing.TB) {
	tb.Helper()
	if err := n.proxy.Start(); err != nil {
		tb.Error(err)
	}
}
