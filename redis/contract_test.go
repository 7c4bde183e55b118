package redistier

import (
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/redis/go-redis/v9"
)

func keepsTheContract(t *testing.T, client redis.UniversalClient) {
	dewartest.RemoteTier(t, func(t *testing.T, o dewar.RemoteOptions) dewar.RemoteTier[string] {
		// Thousands of keys at once may take a server in Go 10 seconds.
		return openTier(t, Config[string]{Client: client, Timeout: time.Minute}, o)
	})
}

func TestContractOnMiniredis(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, newClient(t, startMini(t).Addr()))
}

func TestContractOnRedis(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, newClient(t, realRedis(t)))
}

func TestContractWithOneConnection(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, newClient(t, realRedis(t), func(o *redis.Options) { o.PoolSize = 1 }))
}

func TestContractOnRESP2(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, newClient(t, realRedis(t), func(o *redis.Options) { o.Protocol = 2 }))
}

// oneNode makes commands go the way they go to a Cluster: one key each.
type oneNode struct{ redis.UniversalClient }

func (oneNode) Options() *redis.ClusterOptions {
	return &redis.ClusterOptions{ContextTimeoutEnabled: true}
}

func TestContractWithSingleKeyCommands(t *testing.T) {
	t.Parallel()
	keepsTheContract(t, oneNode{newClient(t, realRedis(t))})
}
