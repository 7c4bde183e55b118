package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/console"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// stage is what the page shows: caches of a platform, under load.
type stage struct {
	videos, users, titles *dewar.Cache[string, string]
	dial                  dewar.Defcon // of videos and titles
	sick                  atomic.Bool  // the catalog fails
	audit                 audit
}

// audit is the log of the actions.
type audit struct {
	mu    sync.Mutex // mu guards lines
	lines strings.Builder
}

func (a *audit) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lines.Write(p)
}

func (a *audit) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lines.String()
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{}
	remote := dewartest.NewRemote[string]()
	catalog := dewar.NewOrigin("catalog", dewar.Guard{MaxConcurrent: 16})
	load := func(slow time.Duration) func(context.Context, string) (string, error) {
		return func(_ context.Context, id string) (string, error) {
			time.Sleep(slow + time.Duration(rand.ExpFloat64()*float64(slow))) // a real origin takes a while
			if strings.HasPrefix(id, "gone") {
				return "", dewar.ErrNotFound
			}
			if s.sick.Load() && rand.IntN(3) > 0 {
				return "", errors.New("catalog: 503 service unavailable")
			}
			return "value of " + id, nil
		}
	}
	s.videos = open(t, dewar.Config[string, string]{
		Name: "videos", TTL: 3 * time.Second, NegativeTTL: time.Second, Track: 20,
		Stale: dewar.Stale{IfError: time.Hour, SoftTimeout: 100 * time.Millisecond},
		Warm:  dewar.Warm{Ahead: 0.8, KeysPerSecond: 80},
		Local: memory.Config[string]{MaxEntries: 400}, Remote: remote,
		Origin: catalog, Defcon: &s.dial, Load: load(4 * time.Millisecond),
	})
	s.titles = open(t, dewar.Config[string, string]{
		Name: "titles", TTL: 30 * time.Second, Local: memory.Config[string]{MaxEntries: 10_000},
		Origin: catalog, Defcon: &s.dial, Load: load(2 * time.Millisecond),
	})
	s.users = open(t, dewar.Config[string, string]{
		Name: "users", TTL: time.Minute, Local: memory.Config[string]{MaxEntries: 10_000}, Load: load(time.Millisecond),
	})
	return s
}

const minute = time.Minute

func echo(_ context.Context, id string) (string, error) { return "value of " + id, nil }

func num(i int) string { return strconv.Itoa(i) }

func open(t testing.TB, cfg dewar.Config[string, string]) *dewar.Cache[string, string] {
	t.Helper()
	c, err := dewar.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// load reads videos and titles, popular ones more, until the test ends.
func (s *stage) load(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			zipf := rand.NewZipf(rand.New(rand.NewPCG(rand.Uint64(), 1)), 1.1, 1, 999)
			for ctx.Err() == nil {
				id := fmt.Sprintf("video-%03d", zipf.Uint64())
				if rand.IntN(50) == 0 {
					id = fmt.Sprintf("gone-%d", rand.IntN(20))
				}
				_, _ = s.videos.Get(ctx, id)
				if rand.IntN(4) == 0 {
					_, _ = s.titles.Get(ctx, id)
				}
				time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond) // the readers' pace
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// handler is the console of the stage.
func (s *stage) handler(extra ...console.Part) http.Handler {
	return console.Handler(append([]console.Part{s.videos, s.titles, s.users}, extra...)...)
}

// withActions is what makes it change something.
func (s *stage) withActions() console.Part {
	return console.Actions(func(*http.Request) (string, error) { return "anna", nil },
		console.AuditTo(slog.New(slog.NewTextHandler(&s.audit, nil))))
}

// serve serves a handler where users would mount it, and returns the address of
// the page.
func serve(t testing.TB, h http.Handler) string {
	mux := http.NewServeMux()
	mux.Handle("/debug/dewar/", h)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + "/debug/dewar/"
}
