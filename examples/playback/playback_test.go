package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// quick is a night that is short, and patient with a loaded machine.
func quick() settings {
	return settings{duration: minDuration, rate: 60, seed: 1, addr: "127.0.0.1:0", patience: time.Minute}
}

func TestAShortNightHoldsItsClaims(t *testing.T) {
	set := quick()
	set.json = true
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
	if !rep.OK || len(rep.Claims) != 9 || len(rep.Acts) != len(acts) || len(rep.Levels) != 5 || len(rep.Services) != 3 {
		t.Errorf("%+v", rep)
	}
	var viewers, requests int64
	for i, a := range rep.Acts {
		viewers += a.Viewers
		requests += a.Requests
		if a.Act != acts[i].name || a.Viewers == 0 || a.Requests < a.Viewers || a.P50MS > a.P99MS {
			t.Errorf("%+v", a)
		}
	}
	if rep.Total.Viewers != viewers || rep.Total.Requests != requests || rep.Total.Uncached <= rep.Total.OriginCalls {
		t.Errorf("in all: %+v", rep.Total)
	}
	for _, l := range rep.Levels[1:] { // of 5 there may be no time to see much
		if l.Features[wire.PartStream].Served == 0 || l.Features[wire.PartStream].Missing != 0 || l.Features[wire.PartRecommendations].Shed == 0 {
			t.Errorf("%+v", l)
		}
	}
	if up, move := rep.act(actWarmUp), rep.act(actMove); up.OldCalls == 0 || up.Uncached != 0 || move.OldCalls == 0 || move.Uncached == 0 {
		t.Errorf("viewers were not moved over:\n%+v\n%+v", up, move)
	}
	if got := stderr.String(); !strings.Contains(got, actExtension) {
		t.Errorf("no progress on stderr: %q", got)
	}
}

func TestANightWithoutStaleValuesBreaksItsClaims(t *testing.T) {
	set := quick()
	set.noStale = true
	var stdout, stderr bytes.Buffer
	if code := set.run(t.Context(), &stdout, &stderr); code != exitClaims {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"BROKEN  every viewer", "BROKEN  while no stream URL", "held    no service was asked"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
	if got := stderr.String(); !strings.Contains(got, "playback: claim broken: every viewer") {
		t.Errorf("stderr: %s", got)
	}
}

func TestWhatIsNoGoodIsOneLineAndExitCode2(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag":   {[]string{"-x"}, "-x"},
		"argument":       {[]string{"serve"}, `unexpected argument "serve"`},
		"no duration":    {[]string{"-duration", "soon"}, "-duration"},
		"short duration": {[]string{"-duration", "2s"}, "3s to 1h"},
		"long duration":  {[]string{"-duration", "2h"}, "3s to 1h"},
		"no rate":        {[]string{"-rate", "0"}, "-rate must be"},
		"no seed":        {[]string{"-seed", "-1"}, "-seed"},
		"no Redis":       {[]string{"-redis", "127.0.0.1:1"}, "refused"},
		"no address":     {[]string{"-redis", "here"}, "-redis here"},
		"JSON of what":   {[]string{"-serve", "-json"}, "-json"},
		"address taken":  {[]string{"-addr", taken.Addr().String()}, "in use"},
		"taken, serving": {[]string{"-serve", "-addr", taken.Addr().String()}, "in use"},
		"no port":        {[]string{"-serve", "-addr", "127.0.0.1"}, "-addr 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tc.args, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d", code)
			}
			got := stderr.String()
			if !strings.HasPrefix(got, "playback: ") || strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.want) {
				t.Errorf("stderr: %q", got)
			}
			if strings.Contains(stdout.String(), actWarmUp) {
				t.Errorf("stdout: %q", &stdout)
			}
		})
	}
}

func TestHelpExplainsFlagsActsAndSwitches(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
	for _, want := range []string{
		"-duration", "-rate", "-seed", "-redis", "-json", "-serve", "-addr", actWarmUp, actLockdown,
		"/v1/playback", "/stats", "/healthz", "/defcon", "/rollout", "/chaos/streams", "Exit code",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
	fits(t, stdout.String())
}

func TestInterruptStopsTheNightCleanly(t *testing.T) {
	for name, after := range map[string]time.Duration{"at once": 0, "in an act": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(after, cancel)
			defer timer.Stop()
			set := quick()
			set.duration = time.Hour
			var stdout, stderr bytes.Buffer
			if code := set.run(ctx, &stdout, &stderr); code != exitInterrupted {
				t.Errorf("exit code %d", code)
			}
			if got := stderr.String(); got != "playback: interrupted\n" {
				t.Errorf("stderr %q", got)
			}
		})
	}
}

func TestServeAnswersWhatIsUnderWayWhenItIsToldToEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		cause error
		code  int
	}{
		"SIGTERM": {signalled{syscall.SIGTERM}, 0},
		"SIGINT":  {signalled{syscall.SIGINT}, exitInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			set := quick()
			set.serve = true
			var stdout, stderr buffer
			code := make(chan int, 1)
			go func() { code <- set.run(ctx, &stdout, &stderr) }() // received below
			api, legacyURL := stdout.await(t, "API="), stdout.await(t, "LEGACY=")

			put(t, legacyURL+"/chaos/streams?latency=500ms")
			answered := make(chan int, 1)
			go func() { // received below
				resp, err := http.Get(api + "/v1/playback?ids=archive-0001&parts=stream")
				if err != nil {
					t.Error(err)
					answered <- 0
					return
				}
				resp.Body.Close()
				answered <- resp.StatusCode
			}()
			time.Sleep(100 * time.Millisecond) // it is under way: its call takes five times as long
			cancel(tc.cause)
			if got := <-answered; got != http.StatusOK {
				t.Errorf("what was under way got %d", got)
			}
			if got := <-code; got != tc.code {
				t.Errorf("exit code %d; stderr: %s", got, stderr.String())
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

func put(t *testing.T, target string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", target, resp.StatusCode, body)
	}
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex // mu guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits for a line that starts with prefix, and returns its rest.
func (b *buffer) await(t *testing.T, prefix string) string {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		for line := range strings.Lines(b.String()) {
			if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest)
			}
		}
	}
	t.Fatalf("no %s in %q", prefix, b.String())
	return ""
}
