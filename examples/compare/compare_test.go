package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/internal/tape"
)

// quick is a run that is short, and patient with a loaded machine.
func quick() settings {
	return settings{processes: 3, duration: minDuration, rate: 500, seed: 1, patience: 10 * time.Second}
}

func TestActsHoldTheirClaims(t *testing.T) {
	set := quick()
	set.json = true
	set.trace = writeTrace(t, tape.Zipf(3, tape.Ranks).Keys)
	var stdout, stderr bytes.Buffer
	if code := set.run(t.Context(), &stdout, &stderr); code != 0 {
		t.Errorf("exit code %d:\n%s", code, &stderr)
	}
	dec := json.NewDecoder(&stdout)
	dec.DisallowUnknownFields()
	var rep report
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if dec.More() {
		t.Error("more than one document")
	}
	if !rep.OK || len(rep.Claims) != 8 {
		t.Errorf("ok is %v with claims %+v", rep.OK, rep.Claims)
	}
	if len(rep.Systems) != 3 {
		t.Fatalf("%d systems", len(rep.Systems))
	}
	for i, s := range rep.Systems {
		if len(s.Acts) != len(acts) {
			t.Errorf("%s played %d acts", s.Name, len(s.Acts))
		}
		if first := rep.Systems[0].Total; s.Total.Requests != first.Requests || s.Total.IDs != first.IDs {
			t.Errorf("%s was asked %d requests for %d ids, the first system %d for %d",
				s.Name, s.Total.Requests, s.Total.IDs, first.Requests, first.IDs)
		}
		if got := s.Total.Memory + s.Total.Redis + s.Total.Origin + s.Total.Stale; got > s.Total.IDs || got == 0 {
			t.Errorf("%s answered %d ids of %d", s.Name, got, s.Total.IDs)
		}
		if i > 0 && s.HerdLoads < 2 { // on a busy machine even a herd comes one by one
			t.Errorf("%s loaded the id of the herd once, as dewar does", s.Name)
		}
		if s.AdLoads == 0 || s.Loads == 0 {
			t.Errorf("%s loaded %v per TTL of an ad, %v in all", s.Name, s.AdLoads, s.Loads)
		}
		if want := editionCount + 1; s.Press.Titles != titleCount || s.Name != nameNoCache && s.Press.Editions != want {
			t.Errorf("%s brought out %d editions of %d titles", s.Name, s.Press.Editions, s.Press.Titles)
		}
	}
	if got := stderr.String(); !strings.Contains(got, adBreak) {
		t.Errorf("no progress on stderr: %q", got)
	}
}

func TestReportFitsItsColumns(t *testing.T) {
	big := actResult{
		Act: originDown, Requests: 9_999_999, IDs: 99_999_999, P50MS: 0.001, P99MS: 999.9, P999MS: 10_000,
		Memory: 99_999_999, Redis: 1, Origin: 5_000_000, OriginCalls: 9_999_999, OriginIDs: 99_999_999, Errors: 1_234_567,
	}
	systems := []systemResult{
		{Name: nameDewar, Acts: []actResult{big, {Act: adBreak}}, Total: big, HerdLoads: 1},
		{Name: nameNaive, Total: big, HerdLoads: 1000},
	}
	var out bytes.Buffer
	if err := newReport(quick(), redisd.Server{}, tape.New("x", []uint32{1}), systems).writeText(&out); err != nil {
		t.Fatal(err)
	}
	tables := 0
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		n := utf8.RuneCountInString(line)
		if n > show.PageWidth {
			t.Errorf("%d columns: %q", n, line)
		}
		for _, start := range []string{originDown, adBreak, nameNaive + " ", "---"} {
			if strings.HasPrefix(line, start) {
				if tables++; n != columns.Width() {
					t.Errorf("not aligned, %d of %d columns: %q", n, columns.Width(), line)
				}
			}
		}
	}
	if tables != 10 {
		t.Errorf("found %d lines of tables in\n%s", tables, &out)
	}
	for _, want := range []string{"p99.9", "memory", "origin asked", "3 processes together", "BROKEN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestWhatIsNoGoodIsOneLineAndExitCode2(t *testing.T) {
	whole := gzipped(t, []byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3})
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag":       {[]string{"-x"}, "-x"},
		"argument":           {[]string{"trace.gz"}, `unexpected argument "trace.gz"`},
		"no duration":        {[]string{"-duration", "soon"}, "-duration"},
		"short duration":     {[]string{"-duration", "1s"}, "2s to 1h"},
		"no rate":            {[]string{"-rate", "0"}, "-rate must be"},
		"no processes":       {[]string{"-processes", "0"}, "1 to 16"},
		"no seed":            {[]string{"-seed", "-1"}, "-seed"},
		"no such trace":      {[]string{"-trace", filepath.Join(t.TempDir(), "none.gz")}, "no such file"},
		"trace is a folder":  {[]string{"-trace", t.TempDir()}, "directory"},
		"two lines in path":  {[]string{"-trace", "a\nb"}, "a b"},
		"not gzip":           {[]string{"-trace", writeFile(t, []byte("keys, keys, keys"))}, "not a gzip file"},
		"empty file":         {[]string{"-trace", writeFile(t, nil)}, "not a gzip file"},
		"empty trace":        {[]string{"-trace", writeFile(t, gzipped(t, nil))}, "empty"},
		"gzip cut off":       {[]string{"-trace", writeFile(t, whole[:len(whole)-9])}, "cut off"},
		"key cut off":        {[]string{"-trace", writeFile(t, gzipped(t, []byte{0, 0, 0, 1, 0}))}, "cut off"},
		"gzip damaged":       {[]string{"-trace", writeFile(t, flipped)}, "damaged"},
		"no Redis there":     {[]string{"-redis", unusedAddr}, "refused"},
		"no address":         {[]string{"-redis", "here"}, "-redis here"},
		"one is no address":  {[]string{"-redis", unusedAddr + ",here"}, "refused"},
		"not a cluster":      {[]string{"-redis", miniredis.RunT(t).Addr() + "," + unusedAddr}, "not a node of a cluster"},
		"not Redis":          {[]string{"-redis", notRedis(t)}, "-redis"},
		"trace before Redis": {[]string{"-trace", writeFile(t, nil), "-redis", "here"}, "-trace"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tc.args, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d", code)
			}
			got := stderr.String()
			if !strings.HasPrefix(got, "compare: ") || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
				t.Errorf("not one line: %q", got)
			}
			if !strings.Contains(got, tc.want) {
				t.Errorf("no %q in %q", tc.want, got)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: %q", &stdout)
			}
		})
	}
}

func TestHelpExplainsFlagsAndActs(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
	for _, want := range []string{"-trace", "-redis", "-processes", "-duration", "-rate", "-seed", "-json", coldStart, redisBack, "Exit code"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
}

func TestInterruptStopsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(300*time.Millisecond, cancel)
	defer timer.Stop()
	set := quick()
	set.duration = time.Hour
	var stdout, stderr bytes.Buffer
	if code := set.run(ctx, &stdout, &stderr); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); got != "compare: interrupted\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestBrokenClaimsAreFound(t *testing.T) {
	good := func() []systemResult {
		return []systemResult{
			{
				Name: nameDewar, HerdLoads: 1, AdLoads: 1.5,
				Acts: []actResult{
					{Act: adBreak, OriginCalls: 40}, {Act: originDown, Stale: 5}, {Act: redisDeaf, OriginCalls: 99}, {Act: redisDown, OriginCalls: 9},
				},
				Press: pressResult{
					Titles: 200, Editions: 4, OthersOld: 9, OthersLast: 900,
					DeafOld: 9, BackOld: 9, BackLast: 4900, Noticed: true, NoticedMS: 4900,
				},
			},
			{Name: nameNoCache, Acts: []actResult{{Act: adBreak, OriginCalls: 100}}},
		}
	}
	const none = -1
	for name, tc := range map[string]struct {
		spoil  func(*systemResult)
		broken int // the index of the claim
	}{
		"all held":             {func(*systemResult) {}, none},
		"error in ad break":    {func(s *systemResult) { s.Acts[0].Errors = 1 }, 0},
		"error in origin down": {func(s *systemResult) { s.Acts[1].Errors = 1 }, 0},
		"error in Redis deaf":  {func(s *systemResult) { s.Acts[2].Errors = 1 }, 0},
		"error in Redis down":  {func(s *systemResult) { s.Acts[3].Errors = 1 }, 0},
		"two loads":            {func(s *systemResult) { s.HerdLoads = 2 }, 1},
		"no load":              {func(s *systemResult) { s.HerdLoads = 0 }, 1},
		"ads loaded often":     {func(s *systemResult) { s.AdLoads = 2.1 }, 2},
		"ads not loaded":       {func(s *systemResult) { s.AdLoads = 0 }, 2},
		"nothing stale":        {func(s *systemResult) { s.Acts[1].Stale = 0 }, 3},
		"half the calls":       {func(s *systemResult) { s.Acts[0].OriginCalls = 41 }, 4},
		"own old title":        {func(s *systemResult) { s.Press.OwnOld = 1 }, 5},
		"nothing published":    {func(s *systemResult) { s.Press.Editions = 0 }, 5},
		"change failed":        {func(s *systemResult) { s.Press.Failed = "closed" }, 5},
		"old title late":       {func(s *systemResult) { s.Press.OthersLast = 1001 }, 6},
		"old title when back":  {func(s *systemResult) { s.Press.BackLast = 5001 }, 7},
		"gap not noticed":      {func(s *systemResult) { s.Press.Noticed = false }, 7},

		"error when all is down": {func(s *systemResult) { s.Acts[0].RedisErrors, s.Acts[1].Errors = 1, 1 }, none},
		"error when deaf early":  {func(s *systemResult) { s.Acts[0].RedisErrors, s.Acts[2].Errors = 1, 1 }, 0},
		"Redis failed later":     {func(s *systemResult) { s.Acts[2].RedisErrors, s.HerdLoads = 1, 3 }, 1},
		"a load per process":     {func(s *systemResult) { s.Acts[0].RedisErrors, s.HerdLoads = 1, 3 }, none},
		"more than that":         {func(s *systemResult) { s.Acts[0].RedisErrors, s.HerdLoads = 1, 4 }, 1},
		"ads, each on its own":   {func(s *systemResult) { s.Acts[0].RedisErrors, s.AdLoads = 1, 6 }, none},
		"ads, more than that":    {func(s *systemResult) { s.Acts[0].RedisErrors, s.AdLoads = 1, 6.1 }, 2},
	} {
		systems := good()
		tc.spoil(&systems[0])
		for i, c := range judge(systems, 3) {
			if c.Held != (i != tc.broken) {
				t.Errorf("%s: %q held: %v", name, c.Claim, c.Held)
			}
		}
	}
}

func TestKnownIDsWereAskedForBefore(t *testing.T) {
	keys := make([]uint32, 1000)
	for i := range keys {
		keys[i] = uint32(i)
	}
	r := newReaders(tape.New("x", keys), 1)
	asked := map[string]bool{}
	for range 50 {
		for _, id := range r.next(&act{}) {
			asked[id] = true
		}
	}
	for range 500 {
		for _, id := range r.next(&act{known: true}) {
			if !asked[id] {
				t.Fatalf("%s was not asked for before", id)
			}
		}
	}
	if got := r.next(&act{})[0]; asked[got] {
		t.Errorf("%s again: the tape did not go on", got)
	}
}

func writeTrace(t *testing.T, keys []uint32) string {
	var raw []byte
	for _, k := range keys {
		raw = binary.BigEndian.AppendUint32(raw, k)
	}
	return writeFile(t, gzipped(t, raw))
}

func gzipped(t *testing.T, raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, content []byte) string {
	path := filepath.Join(t.TempDir(), "trace.gz")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// unusedAddr is an address at which nobody listens: a port that no listener is
// given by chance.
const unusedAddr = "127.0.0.1:1"

// notRedis is the address of a server that hangs up.
func notRedis(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the Cleanup, which waits for it
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}
