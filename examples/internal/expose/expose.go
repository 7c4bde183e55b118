// Package expose writes the metrics of caches as Prometheus scrapes them.
//
// A program of its own would register a dewarprom.Collector
// (github.com/dewarcache/dewar/prometheus) and serve it with promhttp. The
// examples are part of dewar's own module, which does without client_golang.
package expose

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/internal/metrics"
)

// Cache is a *dewar.Cache of any key and value.
type Cache interface {
	Name() string
	Stats() dewar.Stats
}

// Handler serves the metrics of caches.
func Handler(caches ...Cache) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = write(w, caches) // who left does not mind
	})
}

// write writes what caches tell, one family after the other.
func write(w io.Writer, caches []Cache) error {
	lines := make(map[string][]string) // by family
	for s := range metrics.Snapshots(slices.Values(caches)) {
		for i := range metrics.Families {
			f := &metrics.Families[i]
			if !s.Has(f) {
				continue
			}
			for _, one := range f.Series {
				labels := []string{f.Of.String(), s.Subject(f)}
				for k, word := range one.Words {
					labels = append(labels, f.Labels[k], word)
				}
				lines[f.Name] = append(lines[f.Name], series(f.Name, labels, one.Value(&s.Stats)))
			}
		}
		for i := range metrics.Histograms {
			h := &metrics.Histograms[i]
			lines[h.Name] = append(lines[h.Name], histogram(h, h.Of(&s.Stats), s.Cache)...)
		}
	}
	out := bufio.NewWriter(w)
	for i := range metrics.Families {
		f := &metrics.Families[i]
		kind := "gauge"
		if f.Counts {
			kind = "counter"
		}
		family(out, f.Name, f.Help, kind, lines[f.Name])
	}
	for i := range metrics.Histograms {
		h := &metrics.Histograms[i]
		family(out, h.Name, h.Help, "histogram", lines[h.Name])
	}
	return out.Flush()
}

func family(w io.Writer, name, help, kind string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintf(w, "# HELP dewar_%s %s\n# TYPE dewar_%[1]s %[3]s\n%s", name, help, kind, strings.Join(lines, ""))
	}
}

// series is a line; labels are names and values by turns.
func series(name string, labels []string, v float64) string {
	var b strings.Builder
	b.WriteString("dewar_" + name + "{")
	for i := 0; i < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + "=" + strconv.Quote(labels[i+1]))
	}
	return b.String() + "} " + number(v) + "\n"
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// histogram has a bucket for each power of two in which something was seen.
func histogram(f *metrics.HistogramFamily, h *dewar.Histogram, cache string) (lines []string) {
	upTo := make(map[float64]uint64)
	var sum uint64
	for i, n := range h.Buckets {
		sum += n
		if (i+1)%4 == 1 || i == len(h.Buckets)-1 { // bounds are powers of the fourth root
			upTo[dewar.HistogramBound(i)] = sum
		}
	}
	for _, bound := range slices.Sorted(maps.Keys(upTo)) {
		lines = append(lines, series(f.Name+"_bucket", []string{"cache", cache, "le", number(bound)}, float64(upTo[bound])))
	}
	labels := []string{"cache", cache}
	return append(lines, series(f.Name+"_sum", labels, h.Sum), series(f.Name+"_count", labels, float64(h.Count)))
}
