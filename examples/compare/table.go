package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pageWidth is how many columns the report may have.
const pageWidth = 100

// The columns of the tables: the first one is to the left.
var columns = []struct {
	group, name string
	width       int
}{
	{"", "", 13},
	{"", "requests", 9},
	{"", "ids", 7},
	{"latency", "p50", 8},
	{"", "p99", 7},
	{"", "p99.9", 7},
	{"ids answered by", "memory", 8},
	{"", "Redis", 6},
	{"", "origin", 7},
	{"", "stale", 6},
	{"origin asked", "calls", 8},
	{"", "ids", 7},
	{"", "errors", 7},
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
		word := "held  "
		if !c.Held {
			word = "BROKEN"
		}
		gap := " "
		if len(word)+len(c.Claim)+len(c.Detail)+6 > pageWidth {
			gap = "\n" + strings.Repeat(" ", len(word)+6)
		}
		fmt.Fprintf(&b, "  %s  %s:%s%s\n", word, c.Claim, gap, c.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fleetRows are what the fleets are compared by.
var fleetRows = []struct {
	name string
	cell func(systemResult) string
}{
	{fmt.Sprintf("loads of one cold id, %s readers", count(herdSize)), func(s systemResult) string { return cell(s.HerdLoads) }},
	{"loads of an ad per TTL, " + adBreak, func(s systemResult) string { return rate(s.AdLoads) }},
	{"loads of all ids per TTL, all acts", func(s systemResult) string { return rate(s.Loads) }},
	{"titles changed, times", func(s systemResult) string { return cell(int64(s.Press.Titles * s.Press.Editions)) }},
	{"  old ones served after that, by the same process", func(s systemResult) string { return cell(s.Press.OwnOld) }},
	{"    until", func(s systemResult) string { return span(s.Press.OwnLast) }},
	{"  by the others", func(s systemResult) string { return cell(s.Press.OthersOld) }},
	{"    until", func(s systemResult) string { return span(s.Press.OthersLast) }},
	{"  by one that was deaf", func(s systemResult) string { return cell(s.Press.DeafOld) }},
	{"  by it when its link was back", func(s systemResult) string { return cell(s.Press.BackOld) }},
	{"    until", func(s systemResult) string { return span(s.Press.BackLast) }},
}

const fleetCell = 15

func (r *report) writeFleets(b *strings.Builder) {
	row := func(name string, cell func(systemResult) string) {
		fmt.Fprintf(b, "%-*s", tableWidth()-fleetCell*len(r.Systems), name)
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
	fmt.Fprintln(b, strings.Repeat("-", tableWidth()))
	for _, f := range fleetRows {
		row(f.name, f.cell)
	}
}

func writeTable(b *strings.Builder, s systemResult) {
	row := func(cells ...string) {
		var line strings.Builder
		for i, text := range cells {
			gap := strings.Repeat(" ", max(0, columns[i].width-utf8.RuneCountInString(text)))
			if i == 0 {
				line.WriteString(text + gap)
			} else {
				line.WriteString(gap + text)
			}
		}
		fmt.Fprintln(b, strings.TrimRight(line.String(), " "))
	}
	writeGroups(b)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.name
	}
	head[0] = s.Name
	row(head...)
	rule := strings.Repeat("-", tableWidth())
	fmt.Fprintln(b, rule)
	line := func(a actResult) {
		row(a.Act, cell(a.Requests), cell(a.IDs), span(a.P50MS), span(a.P99MS), span(a.P999MS),
			share(a.Memory, a.IDs), share(a.Redis, a.IDs), share(a.Origin, a.IDs), share(a.Stale, a.IDs),
			cell(a.OriginCalls), cell(a.OriginIDs), cell(a.Errors))
	}
	for _, a := range s.Acts {
		line(a)
	}
	fmt.Fprintln(b, rule)
	line(s.Total)
	b.WriteByte('\n')
}

// writeGroups prints the line above the names of the columns.
func writeGroups(b *strings.Builder) {
	line, at := "", 0
	for _, c := range columns {
		if c.group != "" {
			start := at + c.width - len(c.name) // where the first name of the group starts
			line += strings.Repeat(" ", max(0, start-len(line))) + c.group
		}
		at += c.width
	}
	fmt.Fprintln(b, line)
}

func tableWidth() (n int) {
	for _, c := range columns {
		n += c.width
	}
	return n
}

// cell writes n for a table, in six characters: zero as a dash, much in short.
func cell(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 9_995_000:
		return fmt.Sprintf("%.1fM", float64(n)/1_000_000)
	case n >= 999_500:
		return fmt.Sprintf("%.2fM", float64(n)/1_000_000)
	case n >= 100_000:
		return fmt.Sprintf("%.0fk", float64(n)/1_000)
	}
	return count(n)
}

// rate writes how many per something.
func rate(f float64) string {
	if f > 0 && f < 9.95 {
		return fmt.Sprintf("%.1f", f)
	}
	return cell(int64(f + 0.5))
}

// count writes n with commas.
func count[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// share writes n of all in percent.
func share(n, all int64) string {
	percent := 100 * float64(n) / float64(all)
	switch {
	case n == 0:
		return "-"
	case percent < 1:
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", percent)
}

// span writes a duration with two or three digits.
func span(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 0.9995:
		return fmt.Sprintf("%.0fµs", 1000*ms)
	case ms < 9.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.2fs", ms/1000)
}
