package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// eventually waits for what a real server does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("waited in vain until ", what)
		}
	}
}

// openStream opens a stream, and returns what reads the next event of it: its
// name and data, "" at the end.
func openStream(t *testing.T, url string) (next func() (name, data string), end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/debug/dewar/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatal(answer.Status, got)
	}
	if got := answer.Header.Get("Cache-Control"); got != "no-store, no-transform" {
		t.Error("Cache-Control:", got)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return func() (name, data string) {
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = n
			}
			if d, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return name, d
			}
		}
		return "", ""
	}, cancel
}

// quick is a handler that takes a sample every few milliseconds.
func quick(parts ...Part) *handler {
	h := Handler(parts...).(*handler)
	h.live.every = 5 * time.Millisecond
	return h
}

func TestAStreamSaysHelloTellsThePastAndGoesOn(t *testing.T) {
	h := quick(newFake("videos"))
	srv := httptest.NewServer(h)
	defer srv.Close()
	next, end := openStream(t, srv.URL)
	name, data := next()
	var hello catalogue
	if mustDecode(t, data, &hello); name != "hello" || len(hello.Caches) != 1 || hello.Caches[0].ID != "videos" || hello.Kept != kept {
		t.Error(name, data)
	}
	if name, data := next(); name != "history" || data != "[]" {
		t.Error(name, data)
	}
	var last sample
	for range 5 {
		for name, data = next(); name != "sample"; name, data = next() {
		}
		mustDecode(t, data, &last)
	}
	second, endSecond := openStream(t, srv.URL)
	second()
	if name, data := second(); name != "history" || strings.Count(data, `"t":`) < 5 {
		t.Error("the second is told:", name, data)
	}
	end()
	endSecond()
	eventually(t, "no goroutine is left", func() bool {
		return len(goroutines(looking)) == 0 && len(goroutines("console.(*handler).serveEvents")) == 0
	})
}

// The timeouts of a server are for answers that end.
func TestAStreamOutlivesTheServersTimeouts(t *testing.T) {
	h := quick(newFake("videos"))
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	srv.Start()
	defer srv.Close()
	next, end := openStream(t, srv.URL)
	defer end()
	begun := time.Now()
	for time.Since(begun) < 400*time.Millisecond {
		if name, _ := next(); name == "" {
			t.Fatalf("it has ended after %v", time.Since(begun))
		}
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	h := quick(newFake("videos"))
	srv := httptest.NewServer(h)
	next, _ := openStream(t, srv.URL)
	other := httptest.NewServer(h)
	defer other.Close()
	goesOn, end := openStream(t, other.URL)
	defer end()
	next()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := srv.Config.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	name, data := next()
	for ; name != "bye" && name != ""; name, data = next() {
	}
	if name != "bye" || !strings.Contains(data, errShutdown.Error()) {
		t.Errorf("the last event is %s %s", name, data)
	}
	for range 10 {
		if name, _ := goesOn(); name == "" {
			t.Fatal("the stream of another server has ended too")
		}
	}
}

func TestOneTooManyIsToldWhy(t *testing.T) {
	h := quick(newFake("videos"))
	for range maxListeners {
		one, _ := mustJoin(t, h.live)
		defer h.live.leave(one)
	}
	r := ask(h, "GET", "/api/events", "")
	if body := read(t, r); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, errCrowded.Error()) || r.Header.Get("Retry-After") == "" {
		t.Error(r.Status, body)
	}
	if r := ask(h, "HEAD", "/api/events", ""); r.StatusCode != http.StatusOK {
		t.Error("HEAD takes a place:", r.Status)
	}
}

// hiding is a middleware's writer that forgets what the one below can do.
type hiding struct{ http.ResponseWriter }

func TestAMiddlewareThatHidesFlushIsNamed(t *testing.T) {
	h := quick(newFake("videos"))
	r := ask(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(hiding{w}, r) }), "GET", "/api/events", "")
	if body := read(t, r); r.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "hides http.Flusher") {
		t.Error(r.Status, body)
	}
	eventually(t, "no goroutine is left", func() bool { return len(goroutines(looking)) == 0 })
}

// broken is a client's connection that takes a few writes and no more.
type broken struct {
	*httptest.ResponseRecorder
	writes int
}

func (b *broken) Write(p []byte) (int, error) {
	if b.writes--; b.writes < 0 {
		return 0, errors.New("connection reset")
	}
	return b.ResponseRecorder.Write(p)
}

func TestAClientThatIsGoneIsLeft(t *testing.T) {
	for writes := range 6 {
		t.Run(fmt.Sprint("after ", writes), func(t *testing.T) {
			h := quick(newFake("videos"))
			h.ServeHTTP(&broken{httptest.NewRecorder(), writes}, httptest.NewRequest("GET", "/api/events", nil)) // returns
			h.live.mu.Lock()
			defer h.live.mu.Unlock()
			if n := len(h.live.listeners); n != 0 {
				t.Errorf("%d listeners are left", n)
			}
		})
	}
}
