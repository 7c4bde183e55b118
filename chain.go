package dewar

import (
	"context"
	"slices"
)

// chain is the loads that a context runs inside of, innermost first. It tells
// a loader that asks for a key it is itself loading, directly or through other
// keys, and a nested load whose slot it may go on under.
type chain struct {
	table any      // whose keys: the flight table's identity
	keys  []string // what the load asks for
	guard *guard   // whose slot it holds
	outer *chain
}

type chainKey struct{}

// chainOf returns the loads that ctx runs inside of; nil when there is none.
func chainOf(ctx context.Context) *chain {
	c, _ := ctx.Value(chainKey{}).(*chain)
	return c
}

// within returns ctx marked as running inside a load.
func (c *chain) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, chainKey{}, c)
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

// holds reports whether a load further out holds a slot of g.
func (c *chain) holds(g *guard) bool {
	for ; c != nil; c = c.outer {
		if c.guard == g {
			return true
		}
	}
	return false
}
