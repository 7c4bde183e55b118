package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/platform"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// fits fails the test unless text fits a page. (A tab is four columns, but for
// those of package flag.)
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")
		if n := utf8.RuneCountInString(line); n > show.PageWidth {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// good is the report of a night that went well.
func good() *report {
	r := &report{
		Services: map[string]serviceResult{
			legacy.Metadata: {legacy.Counts{Calls: 1, Peak: 9_999}, 24}, legacy.Streams: {legacy.Counts{Calls: 1}, 48}, legacy.Ads: {legacy.Counts{Calls: 1}, 16},
		},
		Extension: extensionResult{Titles: 200, New: 200, Allowed: 1_234, InHand: 315, Excess: 300, TookMS: 29_999},
		Restored:  restoredResult{Level: 5},
		Shadow: platform.ShadowStats{Compared: 999_999, Known: map[string]int64{platform.Order: 999_999}, Samples: []platform.Difference{
			{Kind: platform.Order, What: "metadata of archive-0001", Old: strings.Repeat("x", 200), New: strings.Repeat("y", 200)},
		}},
		Total: actResult{Act: "the night", Plays: 9_999_999, Requests: 9_999_999, Viewers: 9_999_999, Reads: 9, Stale: 8, Uncached: 9_999_999},
	}
	for _, a := range acts {
		r.Acts = append(r.Acts, actResult{
			Act: a.name, Viewers: 9_999_999, Requests: 9_999_999, Plays: 100, Pages: 100, P50MS: 999.9, P99MS: 19_999,
			Reads: 100, Stale: 1, StreamReads: 1_234_567, StreamStale: 1_000_000, OriginCalls: 9_999_999, OldCalls: 9_999_999, Uncached: 99_999_999,
		})
	}
	r.edit(actRetries).Retries = 300
	for level := dewar.Normal; level >= dewar.Lockdown; level-- {
		l := levelResult{Level: int(level), Name: level.String(), Features: make(map[wire.Part]platform.FeatureCount)}
		for _, part := range wire.Parts {
			l.Features[part] = platform.FeatureCount{Served: 99}
		}
		r.Levels = append(r.Levels, l)
	}
	return r
}

func (r *report) edit(act string) *actResult {
	for i := range r.Acts {
		if r.Acts[i].Act == act {
			return &r.Acts[i]
		}
	}
	return nil
}

func TestBrokenClaimsAreFound(t *testing.T) {
	const none = -1
	for name, tc := range map[string]struct {
		spoil  func(*report)
		broken int // the index of the claim
	}{
		"all held":              {func(*report) {}, none},
		"a playback error":      {func(r *report) { r.Total.Errors = 1 }, 0},
		"nobody played":         {func(r *report) { r.Total.Plays = 0 }, 0},
		"a call refused":        {func(r *report) { r.Services[legacy.Ads] = serviceResult{legacy.Counts{Calls: 9, Refused: 1}, 16} }, 1},
		"a service not asked":   {func(r *report) { r.Services[legacy.Ads] = serviceResult{} }, 1},
		"a peak":                {func(r *report) { r.Extension.Excess = 316 }, 2},
		"a title still old":     {func(r *report) { r.Extension.New = 199 }, 2},
		"no extension":          {func(r *report) { r.Extension = extensionResult{} }, 2},
		"a call at lockdown":    {func(r *report) { r.Lockdown.Calls = 1 }, 3},
		"nobody at lockdown":    {func(r *report) { r.edit(actLockdown).Plays = 0 }, 3},
		"nothing stale":         {func(r *report) { r.edit(actStreams).StreamStale = 0 }, 4},
		"no artwork":            {func(r *report) { r.Restored.Missing = []wire.Part{wire.PartArtwork} }, 5},
		"still at 4":            {func(r *report) { r.Restored.Level = 4 }, 5},
		"a real difference":     {func(r *report) { r.Shadow.Real = 1 }, 6},
		"nothing compared":      {func(r *report) { r.Shadow.Compared = 0 }, 6},
		"a retry though told":   {func(r *report) { r.edit(actNoRetries).Retries = 1 }, 7},
		"no retry at all":       {func(r *report) { r.edit(actRetries).Retries = 0 }, 7},
		"a goroutine left over": {func(r *report) { r.Leaked = 1 }, 8},
	} {
		r := good()
		tc.spoil(r)
		r.judge()
		for i, c := range r.Claims {
			if c.Held != (i != tc.broken) {
				t.Errorf("%s: %q held: %v", name, c.Claim, c.Held)
			}
		}
		if r.OK != (tc.broken == none) {
			t.Errorf("%s: ok is %v", name, r.OK)
		}
	}
}

func TestReportFitsThePage(t *testing.T) {
	r := good()
	r.judge()
	var out bytes.Buffer
	if err := r.writeText(&out); err != nil {
		t.Fatal(err)
	}
	fits(t, out.String())
	aligned := 0
	for line := range strings.Lines(out.String()) {
		switch utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) {
		case actTable.Width(), levelTable.Width():
			aligned++
		}
	}
	// Two heads, three rules, the total; by chance another line.
	if want := len(acts) + len(r.Levels) + 6; aligned < want {
		t.Errorf("%d lines of tables, not %d, in\n%s", aligned, want, &out)
	}
	for _, want := range []string{"p99", "stale", "saved", "old path", "shed", "99,999", "held    at DEFCON 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestProgressFitsThePage(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, quick(), redisd.Server{})
	for i := range acts {
		p.begins(&night{now: &acts[i], counts: new(counts)})
	}
	p.stop()
	fits(t, out.String())
	if got := strings.Count(out.String(), "\n"); got < len(acts) {
		t.Errorf("%d lines", got)
	}
}

func TestAReportThatCannotBeWrittenIsNoSuccess(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		r := good()
		var err error
		if r.judge(); asJSON {
			err = r.writeJSON(broken{})
		} else {
			err = r.writeText(broken{})
		}
		if err == nil {
			t.Errorf("JSON %v: no error", asJSON)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
