package redistier

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pooled is a client of one node.
type pooled interface {
	Conn() *redis.Conn
	PoolStats() *redis.PoolStats
}

// shed finds out, after err, which of the client's idle connections have died
// without a word, all at the same time, so that go-redis closes them. A network
// that forgets a connection has forgotten the others as well, and each costs
// whoever tries it next a deadline: one after the other, a pool of twenty keeps
// a cache deaf for more than ten seconds on a network that works again.
func (h *hub) shed(fs []*follower, err error) {
	network, ok := errors.AsType[net.Error](err) // a deadline of a context is one as well
	if !ok || !network.Timeout() || h.polls || h.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	switch client := h.client.(type) {
	case pooled:
		shedPool(ctx, client, fs[0].epochKey)
	case interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	}:
		_ = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			shedPool(ctx, node, fs[0].epochKey)
			return nil
		})
	}
}

// shedPool asks over each idle connection for a key that we may read. What is
// answered does not matter.
func shedPool(ctx context.Context, client pooled, key string) {
	var wg sync.WaitGroup
	for range client.PoolStats().IdleConns {
		conn := client.Conn()
		wg.Go(func() { // waited for below
			defer conn.Close()
			_ = conn.Process(ctx, redis.NewStringCmd(ctx, "get", key))
		})
	}
	wg.Wait()
}
