package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/internal/tape"
)

// progress shows what is playing: on a terminal one line that moves once a
// second, elsewhere a line for each act that has ended.
type progress struct {
	live  *show.Live
	began time.Time

	mu      sync.Mutex // mu guards playing
	playing []scene
}

// scene is the act that a system is in.
type scene struct {
	system, act string
	m           *measure
}

func newProgress(out io.Writer, set settings, srv redisd.Server, t *tape.Tape) *progress {
	p := &progress{began: time.Now()}
	on := "an embedded Redis each"
	if set.redis != "" {
		on = "Redis: " + srv.String()
	}
	times := newTimes(set)
	fmt.Fprintf(out, `%s requests a second over %d processes, one in %d a page of %d to %d ids, the others of one.
Ids: %s, %s of them; TTL %v, ads %v.
Origin and readers are simulated; %s.
Each system plays the same requests: %s alone, then %s and %s at the same time.

`,
		show.Count(set.rate), set.processes, pageShare, pageMin, pageMax,
		t.Name, show.Count(len(t.Popular)), times.ttl, times.adTTL, on, nameDewar, nameNaive, nameNoCache)
	p.live = show.NewLive(out, time.Second, p.line)
	return p
}

func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%3.0fs", time.Since(p.began).Seconds())
	for _, s := range p.playing {
		fmt.Fprintf(&b, "  %s: %s %s", s.system, s.act, show.Count(s.m.requests.Load()))
	}
	return b.String()
}

// begins tells that a system has entered an act.
func (p *progress) begins(system, act string, m *measure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.playing = append(p.playing, scene{system, act, m})
	slices.SortFunc(p.playing, func(a, b scene) int { return strings.Compare(a.system, b.system) })
}

// ends tells that a system has left its act.
func (p *progress) ends(system string, r actResult) {
	p.mu.Lock()
	p.playing = slices.DeleteFunc(p.playing, func(s scene) bool { return s.system == system })
	p.mu.Unlock()
	if !p.live.Terminal() {
		p.live.Printf("%3.0fs  %-13s  %-11s  %7s requests  %6s errors",
			time.Since(p.began).Seconds(), system, r.Act, show.Count(r.Requests), show.Count(r.Errors))
	}
}

// stop ends the display and leaves room for the report.
func (p *progress) stop() {
	p.live.Stop()
	if !p.live.Terminal() {
		p.live.Printf("")
	}
}
