package dewarstatsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/DataDog/datadog-go/v5/statsd"
	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
)

// Config says where to push and how. Addr is required.
type Config struct {
	// Addr is the agent's: "host:port", or "unix:///path/to/socket".
	Addr string

	// Interval is the time between two pushes. Defaults to 10s.
	Interval time.Duration

	// Prefix stands before every name. Defaults to "dewar.".
	Prefix string

	// Tags, "name:value", go with every metric; not with Plain.
	Tags []string

	// Plain is for agents that know no tags: labels become parts of the name,
	// as in dewar.videos.gets_total.local.hit. Defaults to false.
	Plain bool

	// Logger hears when pushing begins to fail and when it works again. UDP
	// tells little of that. Defaults to discarding.
	Logger *slog.Logger
}

// Cache is a *dewar.Cache of any key and value.
type Cache interface {
	Name() string
	Stats() dewar.Stats
}

// Pusher pushes until it is closed.
type Pusher struct {
	cfg    Config
	client *statsd.Client
	end    context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	lately atomic.Pointer[error] // that the client came upon since the last push

	mu     sync.Mutex // mu guards what follows, and that pushes do not overlap
	caches []*told
	fails  bool
	closed error // what Close returned; errOpen before
}

// told is a cache, and what was told of it before.
type told struct {
	Cache
	counts map[string]float64         // counters, by series
	seen   map[string]dewar.Histogram // by name
}

var errOpen = errors.New("open")

// Start begins to push the metrics of caches. The error tells what is wrong
// with the configuration; an agent that cannot be reached is none.
func Start(cfg Config, caches ...Cache) (*Pusher, error) {
	if cfg.Addr == "" || cfg.Interval < 0 {
		return nil, errors.New("dewarstatsd: Addr is required, and Interval must not be negative")
	}
	if cfg.Plain && len(cfg.Tags) > 0 {
		return nil, errors.New("dewarstatsd: Plain has no tags: set the one or the other")
	}
	cfg.Interval = cmp.Or(cfg.Interval, 10*time.Second)
	cfg.Prefix = cmp.Or(cfg.Prefix, "dewar.")
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	ctx, end := context.WithCancel(context.Background())
	p := &Pusher{cfg: cfg, end: end, done: make(chan struct{}), closed: errOpen}
	client, err := p.connect()
	if err != nil {
		end()
		return nil, fmt.Errorf("dewarstatsd: %w", err)
	}
	for _, cache := range caches {
		if err := p.addLocked(cache); err != nil { // nobody else has it yet
			end()
			_ = client.Close()
			return nil, err
		}
	}
	p.client = client
	go p.run(ctx) // Close waits for it
	return p, nil
}

// Add adds a cache. It is an error if there is another whose series would be the
// same.
func (p *Pusher) Add(cache Cache) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addLocked(cache)
}

func (p *Pusher) addLocked(cache Cache) error {
	for _, there := range p.caches {
		if there.Name() == cache.Name() || p.cfg.Plain && part(there.Name()) == part(cache.Name()) {
			return fmt.Errorf("dewarstatsd: there is a cache %q already: remove it before, or give %q another Config.Name", there.Name(), cache.Name())
		}
	}
	p.caches = append(p.caches, &told{cache, make(map[string]float64), make(map[string]dewar.Histogram)})
	return nil
}

// Remove removes a cache after it was pushed for the last time.
func (p *Pusher) Remove(cache Cache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(p.caches, func(there *told) bool { return there.Cache == cache })
	if at >= 0 && p.closed == errOpen {
		p.pushLocked()
		p.caches = slices.Delete(p.caches, at, at+1)
	}
}

// Close pushes once more and ends. Closing again returns the same.
func (p *Pusher) Close() error {
	p.end()
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == errOpen {
		p.pushLocked()
		p.closed = p.client.Close()
	}
	return p.closed
}

func (p *Pusher) run(ctx context.Context) {
	defer close(p.done)
	ticker := time.NewTicker(p.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			p.pushLocked()
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (p *Pusher) pushLocked() {
	var errs []error
	next := 0
	for s := range metrics.Snapshots(slices.Values(p.caches)) {
		cache := p.caches[next]
		next++
		for i := range metrics.Families {
			f := &metrics.Families[i]
			if !s.Has(f) {
				continue
			}
			for _, series := range f.Series {
				labels := []label{{f.Of.String(), s.Subject(f)}}
				for k, word := range series.Words {
					labels = append(labels, label{f.Labels[k], word})
				}
				errs = append(errs, p.tell(cache, f, series.Value(&s.Stats), labels))
			}
		}
		for i := range metrics.Histograms {
			h := &metrics.Histograms[i]
			errs = append(errs, p.tellHistogram(cache, h, h.Of(&s.Stats)))
		}
	}
	errs = append(errs, p.client.Flush())
	if err := p.lately.Swap(nil); err != nil {
		errs = append(errs, *err)
	}
	p.note(errors.Join(errs...))
}

// note logs when pushing begins to fail, and when it works again.
func (p *Pusher) note(err error) {
	switch fails := err != nil; {
	case fails && !p.fails:
		p.cfg.Logger.Warn("dewarstatsd: metrics cannot be pushed", "addr", p.cfg.Addr, "error", err)
	case !fails && p.fails:
		p.cfg.Logger.Info("dewarstatsd: metrics are pushed again", "addr", p.cfg.Addr)
	}
	p.fails = err != nil
}

type label struct{ name, value string }

// tell pushes one series; of a counter what came since the last push.
func (p *Pusher) tell(cache *told, f *metrics.Family, v float64, labels []label) error {
	if !f.Counts {
		name, tags := p.named(f.Name, labels)
		return p.client.Gauge(name, v, tags, 1)
	}
	id := fmt.Sprint(f.Name, labels)
	came := v - cache.counts[id]
	cache.counts[id] = v
	if came <= 0 {
		return nil
	}
	name, tags := p.named(f.Name, labels)
	return p.client.Count(name, int64(came), tags, 1)
}

var percentiles = []struct {
	name string
	q    float64
}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}}

func (p *Pusher) tellHistogram(cache *told, f *metrics.HistogramFamily, h *dewar.Histogram) error {
	last := cache.seen[f.Name]
	came := h.Since(&last)
	cache.seen[f.Name] = *h
	if came.Count == 0 {
		return nil
	}
	labels := []label{{metrics.OfCache.String(), cache.Name()}}
	name, tags := p.named(f.Name+".count", labels)
	errs := []error{p.client.Count(name, int64(came.Count), tags, 1)}
	for _, percentile := range percentiles {
		name, tags := p.named(f.Name+"."+percentile.name, labels)
		errs = append(errs, p.client.Gauge(name, came.Quantile(percentile.q), tags, 1))
	}
	return errors.Join(errs...)
}

// named is a series as the agent knows it.
func (p *Pusher) named(name string, labels []label) (full string, tags []string) {
	if !p.cfg.Plain {
		for _, l := range labels {
			tags = append(tags, l.name+":"+l.value)
		}
		return p.cfg.Prefix + name, tags
	}
	parts := []string{part(labels[0].value), name}
	for _, l := range labels[1:] {
		parts = append(parts, part(l.value))
	}
	return p.cfg.Prefix + strings.Join(parts, "."), nil
}

// part is a label's value as a part of a name: dots would make two of it.
func part(value string) string { return strings.ReplaceAll(value, ".", "_") }
