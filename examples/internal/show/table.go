// Package show is what the example programs print: tables, numbers, and a line
// that moves.
package show

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// PageWidth is how many columns of text a report may have.
const PageWidth = 100

// Table is the columns of a table. The first one is to the left, the others are
// to the right.
type Table []Column

// Column is one of them. Group, where it is set, stands above its name.
type Column struct {
	Group, Name string
	Width       int
}

// Width is how many characters a line has.
func (t Table) Width() (n int) {
	for _, c := range t {
		n += c.Width
	}
	return n
}

// Head writes the groups, if there are any, the names, and a rule.
func (t Table) Head(b *strings.Builder) {
	t.groups(b)
	names := make([]string, len(t))
	for i, c := range t {
		names[i] = c.Name
	}
	t.Row(b, names...)
	t.Rule(b)
}

// groups writes the line above the names of the columns.
func (t Table) groups(b *strings.Builder) {
	line, at := "", 0
	for _, c := range t {
		if c.Group != "" {
			start := at + c.Width - utf8.RuneCountInString(c.Name) // where the first name of the group starts
			line += strings.Repeat(" ", max(0, start-len(line))) + c.Group
		}
		at += c.Width
	}
	if line != "" {
		fmt.Fprintln(b, line)
	}
}

// Row writes one line.
func (t Table) Row(b *strings.Builder, cells ...string) {
	var line strings.Builder
	for i, text := range cells {
		gap := strings.Repeat(" ", max(0, t[i].Width-utf8.RuneCountInString(text)))
		if i == 0 {
			line.WriteString(text + gap)
		} else {
			line.WriteString(gap + text)
		}
	}
	fmt.Fprintln(b, strings.TrimRight(line.String(), " "))
}

// Rule writes a line of dashes.
func (t Table) Rule(b *strings.Builder) { fmt.Fprintln(b, strings.Repeat("-", t.Width())) }

// Error writes what is wrong in one line, whatever a path or an address holds.
func Error(w io.Writer, program string, err error) {
	fmt.Fprintf(w, "%s: %s\n", program, strings.Join(strings.Fields(err.Error()), " "))
}

// Claim writes whether a claim held, and why one thinks so, on one line or two.
func Claim(b *strings.Builder, held bool, claim, detail string) {
	word := "held  "
	if !held {
		word = "BROKEN"
	}
	gap := " "
	if len(word)+len(claim)+len(detail)+6 > PageWidth {
		gap = "\n" + strings.Repeat(" ", len(word)+6)
	}
	fmt.Fprintf(b, "  %s  %s:%s%s\n", word, claim, gap, detail)
}
