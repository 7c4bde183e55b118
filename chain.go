package dewar

import (
	"context"
	"errors"
	"slices"
	"time"
)

// chain is the loads that a context runs inside of, innermost first. It tells
// a loader that asks for a key it is itself loading, directly or through other
// keys, and a nested load whose slot it may go on under.
type chain struct {
	table  any      // whose keys: the flight table's identity
	keys   []string // what the load asks for
	origin *Origin  // whose slot it holds
	outer  *chain
}

type chainKey struct{}

// chainOf returns the loads that ctx runs inside of; nil when there is none.
func chainOf(ctx context.Context) *chain {
	c, _ := ctx.Value(chainKey{}).(*chain)
	return c
}

// loads reports whether key is being loaded further out in the chain.
func (c *chain) loads(table any, key string) bool {
	for ; c != nil; c = c.outer {
		if c.table == table && slices.Contains(c.keys, key) {
			return true
		}
	}
	return false
}

// holds reports whether a load further out holds a slot of o.
func (c *chain) holds(o *Origin) bool {
	for ; c != nil; c = c.outer {
		if c.origin == o {
			return true
		}
	}
	return false
}

// flightContext lives as long as the cache and has the values of a caller.
type flightContext struct {
	context.Context                 // the cache's lifetime
	values          context.Context // nil: none
	chain           *chain
}

func (ctx *flightContext) Value(key any) any {
	if key == (chainKey{}) {
		return ctx.chain
	}
	if v := ctx.Context.Value(key); v != nil || ctx.values == nil {
		return v
	}
	return ctx.values.Value(key)
}

// flightContext is the context of a call of the origin for fs: the first
// caller's values, the cache's lifetime, what is left of Flight.Timeout.
func (c *Cache[K, V]) flightContext(fs []*flight[K, V]) (context.Context, context.CancelFunc) {
	strs := make([]string, len(fs))
	for i, f := range fs {
		strs[i] = f.str
	}
	ch := &chain{table: c.table, keys: strs, origin: c.origin}
	in := &flightContext{Context: c.life, chain: ch}
	if !fs[0].need.background {
		in.values = fs[0].need.caller
		ch.outer = fs[0].need.chain
	}
	begun := fs[0].begun
	for _, f := range fs {
		begun = min(begun, f.begun)
	}
	left := later(begun, int64(c.cfg.Flight.Timeout)) - Clock()
	return context.WithTimeoutCause(in, time.Duration(left), ErrTimeout)
}

// causeOf tells a loader's error that is only the end of its context by what
// ended that: ErrTimeout or ErrClosed.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}
