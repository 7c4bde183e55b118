package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/playback/platform"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

var actTable = show.Table{
	{Width: 18},
	{Name: "viewers", Width: 9},
	{Name: "requests", Width: 10},
	{Group: "latency", Name: "p50", Width: 9},
	{Name: "p99", Width: 8},
	{Name: "stale", Width: 8},
	{Group: "calls of the services", Name: "made", Width: 9},
	{Name: "old path", Width: 10},
	{Name: "saved", Width: 8},
	{Group: "playback", Name: "errors", Width: 8},
}

// writeText prints the acts, what viewers lost at which level, the differences
// of the old and the new path, and the claims.
func (r *report) writeText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s viewers served, %s playback errors; %s of reads stale; %s of the services' calls saved.\n\n",
		show.Count(r.Total.Viewers), show.Count(r.Total.Errors), show.Share(r.Total.Stale, r.Total.Reads), r.Total.saved())
	actTable.Head(&b)
	for _, a := range r.Acts {
		a.write(&b)
	}
	actTable.Rule(&b)
	r.Total.write(&b)
	b.WriteByte('\n')
	r.writeLevels(&b)
	r.writeShadow(&b)
	b.WriteString("\nClaims:\n")
	for _, c := range r.Claims {
		show.Claim(&b, c.Held, c.Claim, c.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a actResult) write(b *strings.Builder) {
	actTable.Row(b, a.Act, show.Cell(a.Viewers), show.Cell(a.Requests), show.Span(a.P50MS), show.Span(a.P99MS),
		show.Share(a.Stale, a.Reads), show.Cell(a.OriginCalls), show.Cell(a.OldCalls), a.saved(), show.Cell(a.Errors))
}

// saved is how many of the calls that there would have been without caches there
// were not.
func (a actResult) saved() string { return show.Share(max(0, a.Uncached-a.OriginCalls), a.Uncached) }

var levelTable = show.Table{
	{Width: 18},
	{Group: "in the drill viewers got", Name: "stream", Width: 9},
	{Name: "metadata", Width: 10},
	{Name: "ads", Width: 9},
	{Name: "artwork", Width: 10},
	{Name: "recommendations", Width: 17},
	{Name: "client retries", Width: 16},
}

// levelColumns are what stands in them.
var levelColumns = []wire.Part{
	wire.PartStream, wire.PartMetadata, wire.PartAds, wire.PartArtwork, wire.PartRecommendations, platform.ClientRetries,
}

func (r *report) writeLevels(b *strings.Builder) {
	levelTable.Head(b)
	for _, l := range r.Levels {
		cells := []string{fmt.Sprintf("DEFCON %d %s", l.Level, l.Name)}
		for _, feature := range levelColumns {
			cells = append(cells, featureCell(feature, dewar.Level(l.Level), l.Features[feature]))
		}
		levelTable.Row(b, cells...)
	}
}

// featureCell is the share of the titles for which a feature was to be had.
func featureCell(feature wire.Part, level dewar.Level, n platform.FeatureCount) string {
	switch {
	case !platform.On(feature, level):
		return "shed"
	case feature == platform.ClientRetries:
		return "yes"
	}
	return show.Share(n.Served, n.Served+n.Missing)
}

func (r *report) writeShadow(b *strings.Builder) {
	s := r.Shadow
	fmt.Fprintf(b, "\nOld and new path: %s answers compared, %s could not be; the first difference of each kind:\n",
		show.Count(s.Compared), show.Count(s.Dropped+s.Failed))
	for _, d := range s.Samples {
		count := s.Known[d.Kind]
		if d.Kind == platform.Real {
			count = s.Real
		}
		fmt.Fprintf(b, "  %6s  %-9s  %s\n%s%s\n%s%s\n", show.Count(count), d.Kind, d.What, indent, clip("old "+d.Old), indent, clip("new "+d.New))
	}
}

const indent = "                     "

func clip(s string) string {
	if width := show.PageWidth - len(indent); len(s) > width {
		return s[:width-3] + "..."
	}
	return s
}
