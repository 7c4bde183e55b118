package show

import (
	"fmt"
	"strconv"
)

// Cell writes n for a table, in six characters: zero as a dash, much in short.
func Cell(n int64) string {
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
	return Count(n)
}

// Rate writes how many per something.
func Rate(f float64) string {
	if f > 0 && f < 9.95 {
		return fmt.Sprintf("%.1f", f)
	}
	return Cell(int64(f + 0.5))
}

// Count writes n with commas.
func Count[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Share writes n of all in percent.
func Share(n, all int64) string {
	percent := 100 * float64(n) / float64(all)
	switch {
	case n == 0:
		return "-"
	case percent < 1:
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", percent)
}

// Span writes a duration, in ms, with two or three digits.
func Span(ms float64) string {
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
