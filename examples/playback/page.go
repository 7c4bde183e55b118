package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/show"
)

// The report of -report is one file without a script or anything from elsewhere.
//
//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms": func(v float64) string { return show.Span(v) }, "count": func(v int64) string { return show.Count(v) },
	"number": func(i int) int { return i + 1 },
}).Parse(pageHTML))

// writePage writes the report of a night to a file.
func writePage(file string, rep *report, t *recording) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("-report: %w", err)
	}
	if err = renderPage(f, rep, t); err == nil {
		err = f.Close()
	} else {
		_ = f.Close() // the first error says more
	}
	if err != nil {
		return fmt.Errorf("-report %s: %w", file, err)
	}
	return nil
}

func renderPage(w io.Writer, rep *report, t *recording) error {
	return pageTemplate.Execute(w, struct {
		*report
		Night  time.Duration
		Charts []chart
	}{rep, time.Duration(rep.DurationMS) * time.Millisecond, t.charts()})
}

// chart is a graph over the whole night.
type chart struct {
	Title, Unit, Top string // Top is what the upper edge stands for
	Lines            []line
	Acts             []actMark
	Width, Height    int
}

type line struct {
	Name, Path string
	Color      int // a class of the page: colours of light and dark
	Last       string
}

type actMark struct {
	X      float64
	Number int
	Name   string
}

const (
	chartWidth  = 560
	chartHeight = 120
)

// curve is one line of a chart before it is drawn.
type curve struct {
	name  string
	value func(before, now *frame) float64
}

// charts draws the recording.
func (t *recording) charts() []chart {
	count := func(title string, curves ...curve) chart { return t.chart(title, "a second", false, curves) }
	return []chart{
		count(
			"Reads",
			perSecond("fresh, from a tier", func(f *frame) float64 { return f.hits }),
			perSecond("loaded", func(f *frame) float64 { return f.loaded }),
			perSecond("stale", func(f *frame) float64 { return f.stale }),
			perSecond("errors", func(f *frame) float64 { return f.errors }),
		),
		count(
			"Calls of the legacy services",
			perSecond("calls", func(f *frame) float64 { return f.loads }),
			perSecond("failed", func(f *frame) float64 { return f.failed }),
			perSecond("refused before", func(f *frame) float64 { return f.refused }),
		),
		t.chart("How long calls took and readers waited, p99", "", true, []curve{
			quantile("calls", func(f *frame) *dewar.Histogram { return &f.load }),
			quantile("readers that waited", func(f *frame) *dewar.Histogram { return &f.wait }),
		}),
		t.chart("Age of stale answers, p99", "", true, []curve{
			quantile("age", func(f *frame) *dewar.Histogram { return &f.staleAge }),
		}),
		t.chart("Waiting", "", false, []curve{
			{"keys in the bucket", func(_, f *frame) float64 { return f.bucket }},
			{"loads for a slot", func(_, f *frame) float64 { return f.queued }},
		}),
		t.chart("DEFCON and breakers", "", false, []curve{
			{"DEFCON level", func(_, f *frame) float64 { return f.level }},
			{"breakers not closed", func(_, f *frame) float64 { return f.open }},
		}),
	}
}

func perSecond(name string, of func(*frame) float64) curve {
	return curve{name, func(before, now *frame) float64 {
		return (of(now) - of(before)) / (now.at - before.at).Seconds()
	}}
}

func quantile(name string, of func(*frame) *dewar.Histogram) curve {
	return curve{name, func(before, now *frame) float64 {
		came := of(now).Since(of(before))
		if came.Count == 0 {
			return math.NaN() // a gap in the line
		}
		return came.Quantile(0.99)
	}}
}

func (t *recording) chart(title, unit string, times bool, curves []curve) chart {
	c := chart{Title: title, Unit: unit, Width: chartWidth, Height: chartHeight}
	if len(t.frames) < 2 {
		return c
	}
	end := t.frames[len(t.frames)-1].at
	x := func(at time.Duration) float64 { return float64(at) / float64(end) * chartWidth }
	values, top := make([][]float64, len(curves)), 0.0
	for i, curve := range curves {
		for k := 1; k < len(t.frames); k++ {
			v := curve.value(&t.frames[k-1], &t.frames[k])
			if values[i] = append(values[i], v); v > top { // not when v is no number
				top = v
			}
		}
	}
	label := func(v float64) string {
		if times {
			return show.Span(v * 1000)
		}
		return show.Count(int64(math.Round(v)))
	}
	c.Top = label(top)
	for i, curve := range curves {
		var path strings.Builder
		pen := "M"
		last := math.NaN()
		for k, v := range values[i] {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, x(t.frames[k+1].at), chartHeight*(1-v/max(top, 1e-9)))
			pen, last = "L", v
		}
		l := line{Name: curve.name, Path: path.String(), Color: i + 1, Last: "none"}
		if !math.IsNaN(last) {
			l.Last = label(last)
		}
		c.Lines = append(c.Lines, l)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, m := range t.marks {
		c.Acts = append(c.Acts, actMark{x(m.at), i + 1, m.act})
	}
	return c
}
