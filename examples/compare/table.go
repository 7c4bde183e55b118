package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dewarcache/dewar/examples/internal/show"
)

var columns = show.Table{
	{Width: 13},
	{Name: "requests", Width: 9},
	{Name: "ids", Width: 7},
	{Group: "latency", Name: "p50", Width: 8},
	{Name: "p99", Width: 7},
	{Name: "p99.9", Width: 7},
	{Group: "ids answered by", Name: "memory", Width: 8},
	{Name: "Redis", Width: 6},
	{Name: "origin", Width: 7},
	{Name: "stale", Width: 6},
	{Group: "origin asked", Name: "calls", Width: 8},
	{Name: "ids", Width: 7},
	{Name: "errors", Width: 7},
}

// writeText prints a table for each system, one that compares what the fleets
// did, and the claims.
func (r *report) writeText(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Systems {
		writeTable(&b, s)
	}
	r.writeFleets(&b)
	b.WriteString("\nClaims of dewar:\n")
	for _, c := range r.Claims {
		show.Claim(&b, c.Held, c.Claim, c.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fleetRows are what the fleets are compared by.
var fleetRows = []struct {
	name string
	cell func(systemResult) string
}{
	{fmt.Sprintf("loads of one cold id, %s readers", show.Count(herdSize)), func(s systemResult) string { return show.Cell(s.HerdLoads) }},
	{"loads of an ad per TTL, " + adBreak, func(s systemResult) string { return show.Rate(s.AdLoads) }},
	{"loads of all ids per TTL, all acts", func(s systemResult) string { return show.Rate(s.Loads) }},
	{"titles changed, times", func(s systemResult) string { return show.Cell(int64(s.Press.Titles * s.Press.Editions)) }},
	{"  old ones served after that, by the same process", func(s systemResult) string { return show.Cell(s.Press.OwnOld) }},
	{"    until", func(s systemResult) string { return show.Span(s.Press.OwnLast) }},
	{"  by the others", func(s systemResult) string { return show.Cell(s.Press.OthersOld) }},
	{"    until", func(s systemResult) string { return show.Span(s.Press.OthersLast) }},
	{"  by one that was deaf", func(s systemResult) string { return show.Cell(s.Press.DeafOld) }},
	{"  by it when its link was back", func(s systemResult) string { return show.Cell(s.Press.BackOld) }},
	{"    until", func(s systemResult) string { return show.Span(s.Press.BackLast) }},
}

const fleetCell = 15

func (r *report) writeFleets(b *strings.Builder) {
	row := func(name string, cell func(systemResult) string) {
		fmt.Fprintf(b, "%-*s", columns.Width()-fleetCell*len(r.Systems), name)
		for _, s := range r.Systems {
			fmt.Fprintf(b, "%*s", fleetCell, cell(s))
		}
		b.WriteByte('\n')
	}
	who := fmt.Sprintf("%d processes together", r.Processes)
	if r.Processes == 1 {
		who = "1 process"
	}
	row(who, func(s systemResult) string { return s.Name })
	columns.Rule(b)
	for _, f := range fleetRows {
		row(f.name, f.cell)
	}
}

func writeTable(b *strings.Builder, s systemResult) {
	table := slices.Clone(columns)
	table[0].Name = s.Name
	table.Head(b)
	line := func(a actResult) {
		table.Row(b, a.Act, show.Cell(a.Requests), show.Cell(a.IDs), show.Span(a.P50MS), show.Span(a.P99MS), show.Span(a.P999MS),
			show.Share(a.Memory, a.IDs), show.Share(a.Redis, a.IDs), show.Share(a.Origin, a.IDs), show.Share(a.Stale, a.IDs),
			show.Cell(a.OriginCalls), show.Cell(a.OriginIDs), show.Cell(a.Errors))
	}
	for _, a := range s.Acts {
		line(a)
	}
	table.Rule(b)
	line(s.Total)
	b.WriteByte('\n')
}
