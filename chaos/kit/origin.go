package kit

import (
	"context"
	"sync"
	"time"
)

// Value is what the origin has under a key.
type Value struct {
	Key     string
	Version int64
}

// Origin has every key, at version 1 until something is committed.
type Origin struct {
	Takes time.Duration // each load; set before the first

	mu       sync.Mutex // mu guards these
	versions map[string]int64
	loads    map[string]int
	total    int
}

// Load is a dewar.Config.Load. The version is that of when it began.
func (o *Origin) Load(ctx context.Context, key string) (Value, error) {
	o.mu.Lock()
	if o.loads == nil {
		o.loads = make(map[string]int)
	}
	o.loads[key]++
	o.total++
	v := Value{Key: key, Version: 1 + o.versions[key]}
	o.mu.Unlock()
	if o.Takes > 0 {
		timer := time.NewTimer(o.Takes)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return Value{}, context.Cause(ctx)
		case <-timer.C:
		}
	}
	return v, nil
}

// Commit moves key to its next version, which it returns.
func (o *Origin) Commit(key string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.versions == nil {
		o.versions = make(map[string]int64)
	}
	o.versions[key]++
	return 1 + o.versions[key]
}

// Version returns the version of key.
func (o *Origin) Version(key string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return 1 + o.versions[key]
}

// Loads returns how often keys were asked for, in all; without keys, how often
// any was.
func (o *Origin) Loads(keys ...string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(keys) == 0 {
		return o.total
	}
	for _, key := range keys {
		n += o.loads[key]
	}
	return n
}
