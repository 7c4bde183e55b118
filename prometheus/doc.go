// Package dewarprom tells Prometheus what caches do: a Collector reads their
// Stats when it is scraped.
//
//	registry.MustRegister(dewarprom.NewCollector(videos, ads))
//
// All names begin with dewar_, times are in seconds. Labels are bounded: the
// cache's name, the origin's, and a few fixed words; never a key. Histograms
// have classic buckets by powers of two, and native ones of schema 2 for
// servers that scrape those. What each metric means, what is normal, and what
// to do about it is in docs/METRICS.md; alerts, recording rules and a dashboard
// are in dashboards/.
//
// A scrape reads counters and blocks no reader. Metrics of an origin that
// several caches share are told once. So a program has one Collector for all its
// caches, which come and go with Add and Remove: two would both tell of an
// origin. Origins are told apart by name: give each one of its own, other than
// that of a cache which has its origin for itself.
//
// The dashboard and the alerts use the classic buckets. A server that scrapes
// native histograms must be told to keep those too
// (always_scrape_classic_histograms).
package dewarprom
