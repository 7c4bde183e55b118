package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// fake is a Part that says what it is told to, and notes what is done to it.
type fake struct {
	name string
	dial *dewar.Defcon
	hot  []dewar.HotKey

	mu       sync.Mutex // mu guards these
	stats    dewar.Stats
	panics   bool
	found    dewar.Inspection
	err      error
	operated []string
}

func newFake(name string) *fake { return &fake{name: name, dial: new(dewar.Defcon)} }

func (f *fake) Name() string                { return f.name }
func (f *fake) Dial() *dewar.Defcon         { return f.dial }
func (f *fake) HotKeys() []dewar.HotKey     { return f.hot }
func (f *fake) StaleKeys() []dewar.StaleKey { return nil }
func (f *fake) LogKey(string) string        { return "hidden" }

func (f *fake) Stats() dewar.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics {
		panic("no stats today")
	}
	return f.stats
}

func (f *fake) Inspect(_ context.Context, key string) (dewar.Inspection, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.found
	in.Key = key
	return in, f.err
}

func (f *fake) Operate(_ context.Context, op dewar.Operation, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.operated = append(f.operated, string(op)+" "+key)
	return f.err
}

func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) done() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.operated, ", ")
}

// newCache is a real cache whose origin answers every key.
func newCache(t *testing.T, cfg dewar.Config[string, string]) *dewar.Cache[string, string] {
	cfg.Load = func(_ context.Context, id string) (string, error) { return "value of " + id, nil }
	return dewartest.New(t, cfg)
}

var errNobody = errors.New("nobody knows you")

func anna(*http.Request) (string, error)   { return "anna", nil }
func nobody(*http.Request) (string, error) { return "mallory", errNobody }

// ask sends a request to a handler.
func ask(h http.Handler, method, target, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func read(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decoded asks for JSON and wants a status.
func decoded[T any](t *testing.T, r *http.Response, status int) (v T) {
	t.Helper()
	body := read(t, r)
	if r.StatusCode != status || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s: %s", r.StatusCode, r.Header.Get("Content-Type"), body)
	}
	mustDecode(t, body, &v)
	return v
}

func mustDecode(t testing.TB, body string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), v); err != nil {
		t.Fatal(err, body)
	}
}

// lines logs to w, a line for each entry.
func lines(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
