package platform

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// This file is what the tests share: a platform in front of a legacy service,
// and players.

const testTitles = 40

// titles are some of the schedule.
func titles(n int) (ids []string) {
	for i := range n {
		ids = append(ids, legacy.TitleID(i))
	}
	return ids
}

// open opens a platform with everybody on the new path, nothing in memory, and
// TTLs that outlast a test.
func open(t *testing.T, changes ...func(*Config)) (*Platform, *legacy.Legacy) {
	t.Helper()
	s, err := legacy.Start(legacy.Options{Titles: testTitles, Archive: 1000, StreamValid: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Legacy: s.URL(), Percent: 100, Times: Times{
		Metadata: 10 * time.Minute, Artwork: 10 * time.Minute, Ads: 10 * time.Minute,
		Stream: 10 * time.Minute, StreamValid: time.Hour, Stale: time.Hour, Pause: time.Minute,
	}}
	for _, change := range changes {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p, s
}

// warmed is open with the first n titles in memory.
func warmed(t *testing.T, n int, changes ...func(*Config)) (*Platform, *legacy.Legacy) {
	t.Helper()
	p, s := open(t, changes...)
	if err := p.Warm(t.Context(), titles(n), 0); err != nil {
		t.Fatal(err)
	}
	return p, s
}

// ask is what a player does.
func ask(t *testing.T, p *Platform, query string) (*httptest.ResponseRecorder, wire.Answer) {
	t.Helper()
	return askAs(t, p, "somebody", query)
}

func askAs(t *testing.T, p *Platform, viewer, query string) (*httptest.ResponseRecorder, wire.Answer) {
	t.Helper()
	w := do(t, p, http.MethodGet, "/v1/playback?"+query, viewer)
	var a wire.Answer
	if w.Header().Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
	}
	return w, a
}

func do(t *testing.T, p *Platform, method, target, viewer string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.Header.Set("X-Viewer", viewer)
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	return w
}

// calls is how many calls of all services the platform has made.
func calls(s *legacy.Legacy) (n int64) {
	for _, c := range s.Counts() {
		n += c.Calls
	}
	return n
}

// eventually waits for something that a server does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never %s", what)
		}
	}
}

// has reports which parts a title came with.
func has(title wire.Title) (parts []wire.Part) {
	for _, part := range wire.Parts {
		if map[wire.Part]bool{
			wire.PartStream: title.Stream != nil, wire.PartMetadata: title.Metadata != nil, wire.PartAds: len(title.Ads) > 0,
			wire.PartArtwork: title.Artwork != nil, wire.PartRecommendations: len(title.Recommendations) > 0,
		}[part] {
			parts = append(parts, part)
		}
	}
	return parts
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
