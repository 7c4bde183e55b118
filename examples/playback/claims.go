package main

import (
	"fmt"
	"strings"
)

// claim is something that dewar promises, and whether it was so.
type claim struct {
	Claim  string `json:"claim"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

// callsBound is how many times fewer calls than without a cache the origin
// must see. The table shows more; a claim must hold on a machine that crawls.
const callsBound = 2

// judge checks what dewar promises by counts, never by how long things took:
// a loaded machine must not break a promise that was kept.
func judge(systems []systemResult) []claim {
	var dewar, none systemResult
	for _, s := range systems {
		switch s.Name {
		case nameDewar:
			dewar = s
		case nameNoCache:
			none = s
		}
	}
	return []claim{
		noErrors(dewar, adBreak, originDown, redisDown),
		{
			Claim:  fmt.Sprintf("%s readers of one cold id cause one load", count(herdSize)),
			Held:   dewar.HerdLoads == 1,
			Detail: fmt.Sprintf("%d", dewar.HerdLoads),
		},
		staleServed(dewar),
		{
			Claim:  fmt.Sprintf("the origin gets less than 1/%d of the calls that it gets without a cache", callsBound),
			Held:   callsBound*dewar.Total.OriginCalls < none.Total.OriginCalls,
			Detail: fmt.Sprintf("%s of %s", count(dewar.Total.OriginCalls), count(none.Total.OriginCalls)),
		},
	}
}

func noErrors(s systemResult, names ...string) claim {
	c := claim{Claim: "no reader sees an error in " + strings.Join(names, ", "), Held: true}
	var requests int64
	for _, name := range names {
		a := s.act(name)
		requests += a.Requests
		if a.Errors > 0 && c.Held {
			c.Held = false
			c.Detail = fmt.Sprintf("%s: %s of %s, the first: %s", name, count(a.Errors), count(a.Requests), a.FirstError)
		}
	}
	if c.Held {
		c.Detail = fmt.Sprintf("0 of %s requests", count(requests))
	}
	return c
}

func staleServed(s systemResult) claim {
	a := s.act(originDown)
	return claim{
		Claim:  "while the origin is down readers get the last good answer",
		Held:   a.Stale > 0,
		Detail: fmt.Sprintf("%s of %s ids were stale", count(a.Stale), count(a.IDs)),
	}
}

func (s systemResult) act(name string) (a actResult) {
	for _, a := range s.Acts {
		if a.Act == name {
			return a
		}
	}
	return a
}
