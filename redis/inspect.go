package redistier

import (
	"context"
	"time"

	"github.com/dewarcache/dewar"
)

// SizeOf returns how many bytes are under a key in Redis, for operators' tools.
func (t *tier[V]) SizeOf(ctx context.Context, key string) (n int64, err error) {
	t.fetch(ctx, t.keys.Load().redisKeys([]string{key}), func(_ int, raw string, _ clocks, failed error) {
		n, err = int64(len(raw)), failed
	})
	return n, err
}

// noteLag notes how long an announcement took from Redis to here.
func (f *follower) noteLag(p dewar.Place) {
	added := time.UnixMilli(int64(p.Time)).UnixNano()
	f.lag.Store(max(0, dewar.Clock()+f.w.clock.state.Load().offset-added))
}
