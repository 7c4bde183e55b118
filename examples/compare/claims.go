package main

import (
	"fmt"
	"strings"

	"github.com/dewarcache/dewar/examples/internal/show"
)

// claim is something that dewar promises, and whether it was so.
type claim struct {
	Claim  string `json:"claim"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

const (
	// callsBound is how many times fewer calls than without a cache the origin
	// must see. The table shows more; a claim must hold on a machine that crawls.
	callsBound = 2

	// adLoadsBound is how often per TTL a fleet may load one ad: a reload comes
	// early, after 0.8 of it, and the first load counts in an act of 3 TTLs.
	adLoadsBound = 2
)

// judge checks what dewar promises by counts and generous bounds: a loaded
// machine must not break a promise that was kept. On one so loaded that Redis
// is not heard in time, some promises are those of processes on their own.
func judge(systems []systemResult, processes int) []claim {
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
		noErrors(dewar, adBreak, originDown, redisDeaf, redisDown),
		oneHerdLoad(dewar, processes),
		fewAdLoads(dewar, processes),
		staleServed(dewar),
		{
			Claim:  fmt.Sprintf("the origin gets less than 1/%d of the calls that it gets without a cache", callsBound),
			Held:   callsBound*dewar.calls() < none.calls(),
			Detail: fmt.Sprintf("%s of %s", show.Count(dewar.calls()), show.Count(none.calls())),
		},
		noOwnOld(dewar.Press),
		{
			Claim:  fmt.Sprintf("no other process serves an old title later than %v after that", newsBound),
			Held:   dewar.Press.OthersLast <= ms(newsBound),
			Detail: oldOnes(dewar.Press.OthersOld, dewar.Press.OthersLast),
		},
		deafNotices(dewar.Press),
	}
}

// noErrors excuses errors while the origin is down and Redis fails too: then
// nobody has what another process has loaded.
func noErrors(s systemResult, names ...string) claim {
	c := claim{Claim: "no reader sees an error in " + strings.Join(names, ", "), Held: true}
	var requests int64
	excused := ""
	for _, name := range names {
		a := s.act(name)
		requests += a.Requests
		switch {
		case a.Errors == 0:
		case name == originDown && s.redisFailed(name):
			excused = fmt.Sprintf("; but %s in %s, when Redis failed too", show.Count(a.Errors), name)
		case c.Held:
			c.Held = false
			c.Detail = fmt.Sprintf("%s: %s of %s, the first: %s", name, show.Count(a.Errors), show.Count(a.Requests), a.FirstError)
		}
	}
	if c.Held {
		c.Detail = fmt.Sprintf("0 of %s requests", show.Count(requests)) + excused
	}
	return c
}

func oneHerdLoad(s systemResult, processes int) claim {
	bound, excuse := 1, ""
	if s.HerdLoads > 1 && s.redisFailed(adBreak) {
		bound, excuse = processes, ", Redis failed"
	}
	return claim{
		Claim:  fmt.Sprintf("%s readers of one cold id, in all processes, cause one load", show.Count(herdSize)),
		Held:   s.HerdLoads > 0 && s.HerdLoads <= int64(bound),
		Detail: show.Count(s.HerdLoads) + excuse,
	}
}

func fewAdLoads(s systemResult, processes int) claim {
	bound, excuse := adLoadsBound, ""
	if s.AdLoads > adLoadsBound && s.redisFailed(adBreak) {
		bound, excuse = adLoadsBound*processes, ", Redis failed"
	}
	return claim{
		Claim:  fmt.Sprintf("all processes together load an ad at most %d times per TTL in the %s", adLoadsBound, adBreak),
		Held:   s.AdLoads > 0 && s.AdLoads <= float64(bound),
		Detail: show.Rate(s.AdLoads) + excuse,
	}
}

func staleServed(s systemResult) claim {
	a := s.act(originDown)
	return claim{
		Claim:  "while the origin is down readers get the last good answer",
		Held:   a.Stale > 0,
		Detail: fmt.Sprintf("%s of %s ids were stale", show.Count(a.Stale), show.Count(a.IDs)),
	}
}

func noOwnOld(p pressResult) claim {
	c := claim{
		Claim:  "once a process has invalidated titles it serves no old one",
		Held:   p.OwnOld == 0 && p.Editions > 0 && p.Failed == "",
		Detail: fmt.Sprintf("%d after %d invalidations of %d titles", p.OwnOld, p.Editions, p.Titles),
	}
	if p.Failed != "" {
		c.Detail += "; an error: " + p.Failed
	}
	return c
}

func deafNotices(p pressResult) claim {
	c := claim{
		Claim: fmt.Sprintf("a deaf process notices what it missed at most %v after its link is back", backBound),
		Held:  p.Noticed && p.BackLast <= ms(backBound),
	}
	switch {
	case !p.Noticed:
		c.Detail = "it did not"
	case p.NoticedMS == 0: // it was alone
		c.Detail = oldOnes(p.BackOld, p.BackLast)
	default:
		c.Detail = show.Span(p.NoticedMS) + "; old titles: " + oldOnes(p.BackOld, p.BackLast)
	}
	return c
}

func oldOnes(n int64, last float64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%s, until %s", show.Count(n), show.Span(last))
}

// calls returns the origin's calls for the requests that all systems got: not
// in the acts in which proofreaders read beside them, where there is a cache.
func (s systemResult) calls() (n int64) {
	for _, a := range s.Acts {
		switch a.Act {
		case newTitles, redisDeaf, redisHeard:
		default:
			n += a.OriginCalls
		}
	}
	return n
}

func (s systemResult) act(name string) (a actResult) {
	for _, a := range s.Acts {
		if a.Act == name {
			return a
		}
	}
	return a
}

// redisFailed reports whether Redis failed a process in the named act or in one
// before it: a breaker may stay open for longer than an act.
func (s systemResult) redisFailed(name string) bool {
	for _, a := range s.Acts {
		if a.RedisErrors > 0 {
			return true
		}
		if a.Act == name {
			break
		}
	}
	return false
}
