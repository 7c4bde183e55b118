package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
)

// progress shows what is playing: a line for each act that has begun, and on a
// terminal one below it that moves.
type progress struct {
	live  *show.Live
	began time.Time

	mu  sync.Mutex // mu guards now
	now *night     // nil: no act has begun
}

func newProgress(out io.Writer, set settings, srv redisd.Server) *progress {
	p := &progress{began: time.Now()}
	t := newTimes(set)
	fmt.Fprintf(out, `A night of %v, %s viewers a second, %d titles; HTTP is real, viewers and services are simulated.
TTLs: metadata %v, stream URLs %v, ads %v. Redis: %s.

`,
		set.duration, show.Count(set.rate), titleCount,
		rounded(t.Metadata), rounded(t.Stream), rounded(t.Ads), srv)
	p.live = show.NewLive(out, 200*time.Millisecond, p.line)
	return p
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		return ""
	}
	c := p.now.counts
	return fmt.Sprintf("%3.0fs  %-17s DEFCON %d  %6s viewers  p99 %6s  %s playback errors", p.elapsed(), p.now.now.name,
		p.now.stage.platform.Dial().Level(), show.Count(c.viewers.Load()), show.Span(ms(c.latency.Percentile(0.99))), show.Count(c.errors.Load()))
}

func (p *progress) elapsed() float64 { return time.Since(p.began).Seconds() }

// begins tells that an act has begun.
func (p *progress) begins(n *night) {
	p.mu.Lock()
	p.now = n
	p.mu.Unlock()
	p.live.Printf("%3.0fs  %-17s %s", p.elapsed(), n.now.name, n.now.story)
}

// watchAt tells where the night can be watched.
func (p *progress) watchAt(url string) {
	p.live.Printf("Watch it at %s/debug/dewar/, scrape %s/metrics\n", url, url)
}

// stop ends the display and leaves room for the report.
func (p *progress) stop() {
	p.live.Stop()
	p.live.Printf("")
}
