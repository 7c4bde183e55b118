package main

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A recording with two acts, a rise in the reads and a moment without loads.
func recorded() *recording {
	r := &recording{marks: []mark{{0, "warm-up"}, {2 * time.Second, `<script>alert("ad break")</script>`}}}
	for i := range 5 {
		f := frame{at: time.Duration(i) * time.Second, hits: float64(i * i * 100), level: 5, bucket: float64(i)}
		if i > 1 {
			f.load.Count, f.load.Buckets[80] = 1, 1 // a second; the others in between have none
		}
		r.frames = append(r.frames, f)
	}
	return r
}

func TestThePageOfANightIsWholeAndSelfContained(t *testing.T) {
	var b bytes.Buffer
	rep := &report{DurationMS: 4000, Acts: []actResult{{Act: "warm-up", Viewers: 7}}, Claims: []claim{{Claim: "c", Detail: "d", Held: true}}, OK: true}
	if err := renderPage(&b, rep, recorded()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<figure>"); n != 6 {
		t.Error(n, "graphs")
	}
	for _, bad := range []string{"<script", "http:", "https:", "NaN", "Inf"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q in the page", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;") || strings.Count(page, "<title>warm-up</title>1</text>") != 6 || !strings.Contains(page, "<td>1 warm-up</td>") {
		t.Error("the acts are not marked")
	}
	// The rise of the reads: 100, 300, 500, 700 a second, so the line ends at the top.
	if !strings.Contains(page, "M140.0 102.9L280.0 68.6L420.0 34.3L560.0 0.0") || !strings.Contains(page, "up to 700 a second") {
		t.Error("the reads are not drawn as they were")
	}
	body := page[strings.Index(page, "<div class=\"charts\">"):strings.Index(page, "<h2>Acts")]
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		if _, err := d.Token(); err != nil {
			if err.Error() != "EOF" {
				t.Error("not well-formed:", err)
			}
			break
		}
	}
}

func TestAReportThatCannotBeWrittenIsSaid(t *testing.T) {
	err := writePage(filepath.Join(t.TempDir(), "no", "such", "folder"), &report{}, recorded())
	if err == nil || !strings.Contains(err.Error(), "-report") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "night.html")
	if err := writePage(file, &report{}, recorded()); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || !bytes.HasSuffix(raw, []byte("</html>\n")) {
		t.Error(err, len(raw))
	}
}
