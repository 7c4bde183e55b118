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
// several caches share are told once.
package dewarprom
