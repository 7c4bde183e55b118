package dewarprom

import (
	"slices"
	"strings"

	"github.com/dewarcache/dewar/internal/metrics"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A scrape of many caches is thousands of series. Those of one cache share what
// they can: labels, and the memory they are made in.

// family is one of the list, with what a scrape says of it that never changes.
type family struct {
	*metrics.Family
	desc  *prometheus.Desc
	words [][]*dto.LabelPair // by series
}

type histogram struct {
	*metrics.HistogramFamily
	desc   *prometheus.Desc
	bounds []float64 // of the classic buckets
}

var families, histograms = described()

// seriesOfACache is how many series a cache has at most, histograms apart.
var seriesOfACache = func() (n int) {
	for _, f := range families {
		n += len(f.Series)
	}
	return n
}()

func described() (fs []family, hs []histogram) {
	for i := range metrics.Families {
		f := family{Family: &metrics.Families[i]}
		f.desc = prometheus.NewDesc("dewar_"+f.Name, f.Help, append([]string{f.Of.String()}, f.Labels...), nil)
		for _, series := range f.Series {
			var words []*dto.LabelPair
			for i, word := range series.Words {
				words = append(words, pair(f.Labels[i], word))
			}
			slices.SortFunc(words, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) }) // as the registry will have them
			f.words = append(f.words, words)
		}
		fs = append(fs, f)
	}
	for i := range metrics.Histograms {
		h := histogram{HistogramFamily: &metrics.Histograms[i]}
		h.desc = prometheus.NewDesc("dewar_"+h.Name, h.Help, []string{metrics.OfCache.String()}, nil)
		h.bounds = boundsOf(h.From, h.To)
		hs = append(hs, h)
	}
	return fs, hs
}

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// tell sends the series of one cache.
func tell(s *metrics.Snapshot, out chan<- prometheus.Metric) {
	cache := []*dto.LabelPair{pair(metrics.OfCache.String(), s.Cache)}
	origin := []*dto.LabelPair{pair(metrics.OfOrigin.String(), s.Origin.Name)}
	samples := make([]sample, 0, seriesOfACache)
	for i := range families {
		f := &families[i]
		if !s.Has(f.Family) {
			continue
		}
		subject := cache
		if f.Of == metrics.OfOrigin {
			subject = origin
		}
		for k := range f.Series {
			labels := append(subject[:1:1], f.words[k]...) // subject itself where there are no words
			samples = append(samples, sample{f, labels, f.Series[k].Value(&s.Stats)})
			out <- &samples[len(samples)-1]
		}
	}
	ofHistograms := make([]histogramMetric, len(histograms))
	for i := range histograms {
		h := &histograms[i]
		ofHistograms[i] = histogramMetric{h, cache, h.Of(&s.Stats)}
		out <- &ofHistograms[i]
	}
}

// sample is one series of a family at one time.
type sample struct {
	family *family
	labels []*dto.LabelPair
	value  float64
}

// Desc implements prometheus.Metric.
func (m *sample) Desc() *prometheus.Desc { return m.family.desc }

// Write implements prometheus.Metric.
func (m *sample) Write(out *dto.Metric) error {
	out.Label = m.labels
	if m.family.Counts {
		out.Counter = &dto.Counter{Value: &m.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &m.value}
	}
	return nil
}
