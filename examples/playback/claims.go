package main

import (
	"fmt"
	"strings"

	"github.com/dewarcache/dewar/examples/internal/show"
)

// claim is something that the platform promises, and whether it was so. None
// depends on how fast the machine is: a promise that was kept must not be broken
// by a machine that crawls.
type claim struct {
	Claim  string `json:"claim"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

// judge checks the claims.
func (r *report) judge() {
	r.Claims = []claim{
		r.playback(), r.limits(), r.flat(), r.lockedDown(), r.bridged(), r.everythingBack(), r.sameAnswers(), r.clientRetries(),
		{
			Claim:  "nothing is left running",
			Held:   r.Leaked == 0,
			Detail: fmt.Sprintf("%d goroutines", r.Leaked),
		},
	}
	r.OK = true
	for _, c := range r.Claims {
		r.OK = r.OK && c.Held
	}
}

func (r *report) playback() claim {
	c := claim{
		Claim:  "every viewer who wanted to play a title got a stream URL",
		Held:   r.Total.Errors == 0 && r.Total.Plays > 0,
		Detail: fmt.Sprintf("%s errors in %s plays", show.Count(r.Total.Errors), show.Count(r.Total.Plays)),
	}
	if r.Total.FirstError != "" {
		c.Detail += ", the first: " + r.Total.FirstError
	}
	if r.Cold != "" {
		c.Detail += "; not loaded ahead: " + r.Cold
	}
	return c
}

func (r *report) limits() claim {
	c := claim{Claim: "no service was asked for more than it bears", Held: true}
	var peaks []string
	for _, name := range r.services() {
		s := r.Services[name]
		c.Held = c.Held && s.Refused == 0 && s.Calls > 0
		peaks = append(peaks, fmt.Sprintf("%s %d of %d", name, s.Peak, s.Bears))
		if s.Refused > 0 {
			peaks[len(peaks)-1] += fmt.Sprintf(" and %s refused", show.Count(s.Refused))
		}
	}
	c.Detail = "at most at once: " + strings.Join(peaks, ", ")
	return c
}

func (r *report) flat() claim {
	e := r.Extension
	return claim{
		Claim: "in the extension the metadata service is asked at its own pace for what has changed",
		Held:  e.New == e.Titles && e.Titles > 0 && e.Excess <= e.InHand,
		Detail: fmt.Sprintf("allowed %s a second and %s at once, came to %s at once; %d of %d new after %s",
			show.Rate(e.Allowed), show.Rate(e.InHand), show.Rate(e.Excess), e.New, e.Titles, show.Span(e.TookMS)),
	}
}

func (r *report) lockedDown() claim {
	a := r.act(actLockdown)
	return claim{
		Claim:  "at DEFCON 1 no service was called",
		Held:   r.Lockdown.Calls == 0 && a.Plays > 0 && a.Errors == 0,
		Detail: fmt.Sprintf("%s calls while %s viewers played", show.Count(r.Lockdown.Calls), show.Count(a.Plays)),
	}
}

func (r *report) bridged() claim {
	a := r.act(actStreams)
	return claim{
		Claim:  "while no stream URL could be signed, stale ones that still play were handed out",
		Held:   a.StreamStale > 0 && a.Errors == 0,
		Detail: fmt.Sprintf("%s of %s", show.Share(a.StreamStale, a.StreamReads), show.Count(a.StreamReads)),
	}
}

func (r *report) everythingBack() claim {
	c := claim{
		Claim:  "back at DEFCON 5 viewers see everything again",
		Held:   r.Restored.Level == 5 && len(r.Restored.Missing) == 0,
		Detail: fmt.Sprintf("after %s", show.Span(r.Restored.TookMS)),
	}
	if len(r.Restored.Missing) > 0 {
		c.Detail = fmt.Sprintf("not %v", r.Restored.Missing)
	}
	return c
}

func (r *report) sameAnswers() claim {
	s := r.Shadow
	return claim{
		Claim:  "the new path answers as the old one did",
		Held:   s.Compared > 0 && s.Real == 0,
		Detail: fmt.Sprintf("%d real differences in %s answers", s.Real, show.Count(s.Compared)),
	}
}

func (r *report) clientRetries() claim {
	on, off := r.act(actRetries), r.act(actNoRetries)
	return claim{
		Claim: "players that are told not to retry do not",
		Held:  on.Retries > 0 && off.Retries == 0,
		Detail: fmt.Sprintf("%.1f requests a page, then %.1f; the services were called %s and %s times",
			tries(on), tries(off), show.Count(on.OriginCalls), show.Count(off.OriginCalls)),
	}
}

// tries is how often an app asked for a page.
func tries(a actResult) float64 {
	return float64(a.Pages+a.Retries) / float64(max(1, a.Pages))
}
