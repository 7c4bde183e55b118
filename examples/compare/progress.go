package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// progress shows what is playing: on a terminal one line that moves once a
// second, elsewhere a line for each act that has ended.
type progress struct {
	out   io.Writer
	live  bool
	began time.Time
	quit  chan struct{}
	wg    sync.WaitGroup // the goroutine that moves the line

	mu      sync.Mutex // guards out and what follows
	playing []scene
}

// scene is the act that a system is in.
type scene struct {
	system, act string
	m           *measure
}

func newProgress(out io.Writer, set settings, srv server, t *tape) *progress {
	p := &progress{out: out, live: isTerminal(out), began: time.Now(), quit: make(chan struct{})}
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
		count(set.rate), set.processes, pageShare, pageMin, pageMax,
		t.name, count(t.ids), times.ttl, times.adTTL, on, nameDewar, nameNaive, nameNoCache)
	if p.live {
		p.wg.Go(p.move)
	}
	return p
}

// isTerminal is right for what people redirect to; /dev/null counts as a
// terminal, which harms nobody.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const eraseLine = "\r\x1b[K"

// move ends with stop.
func (p *progress) move() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.draw()
		case <-p.quit:
			return
		}
	}
}

func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s%3.0fs", eraseLine, time.Since(p.began).Seconds())
	for _, s := range p.playing {
		fmt.Fprintf(&b, "  %s: %s %s", s.system, s.act, count(s.m.requests.Load()))
	}
	_, _ = io.WriteString(p.out, b.String())
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
	defer p.mu.Unlock()
	p.playing = slices.DeleteFunc(p.playing, func(s scene) bool { return s.system == system })
	if !p.live {
		fmt.Fprintf(p.out, "%3.0fs  %-13s  %-11s  %7s requests  %6s errors\n",
			time.Since(p.began).Seconds(), system, r.Act, count(r.Requests), count(r.Errors))
	}
}

// stop ends the display and leaves room for the report.
func (p *progress) stop() {
	close(p.quit)
	p.wg.Wait()
	if p.live {
		fmt.Fprint(p.out, eraseLine)
	} else {
		fmt.Fprintln(p.out)
	}
}
