package dewarprom

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// Cache is a *dewar.Cache of any key and value.
type Cache interface {
	Name() string
	Stats() dewar.Stats
}

// Collector collects the metrics of caches. It implements
// prometheus.Collector, and is safe for concurrent use.
type Collector struct {
	mu     sync.Mutex // mu guards caches
	caches map[string]Cache
}

// NewCollector collects the metrics of caches; of two with one name the later
// is told.
func NewCollector(caches ...Cache) *Collector {
	c := &Collector{caches: make(map[string]Cache, len(caches))}
	for _, cache := range caches {
		c.caches[cache.Name()] = cache
	}
	return c
}

// Add adds a cache. It is an error if there is another with its name, whose
// series would be the same.
func (c *Collector) Add(cache Cache) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := cache.Name()
	if there := c.caches[name]; there != nil && there != cache {
		return fmt.Errorf("dewarprom: there is a cache %q already: remove it first, or give this one another Config.Name", name)
	}
	c.caches[name] = cache
	return nil
}

// Remove removes a cache, such as one that is closed; its series end.
func (c *Collector) Remove(cache Cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caches[cache.Name()] == cache {
		delete(c.caches, cache.Name())
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range families {
		descs <- f.desc
	}
	for _, h := range histograms {
		descs <- h.desc
	}
}

// Collect implements prometheus.Collector. Nobody is kept waiting for it.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	caches := slices.SortedFunc(maps.Values(c.caches), func(a, b Cache) int { return strings.Compare(a.Name(), b.Name()) })
	c.mu.Unlock()
	for s := range metrics.Snapshots(slices.Values(caches)) {
		tell(s, out)
	}
}
