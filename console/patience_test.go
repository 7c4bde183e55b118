package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

// waiting is a cache whose remote tier lets it wait.
type waiting struct{ *fake }

const waited = 300 * time.Millisecond

func (s waiting) Inspect(_ context.Context, key string) (dewar.Inspection, error) {
	time.Sleep(waited)
	return dewar.Inspection{Key: key, RemoteState: "failed"}, errors.New("redis is dead")
}

func (s waiting) Operate(ctx context.Context, op dewar.Operation, key string) error {
	time.Sleep(waited)
	return s.fake.Operate(ctx, op, key)
}

func TestAnswersThatTakeLongerThanTheServersWriteTimeoutArrive(t *testing.T) {
	h := Handler(waiting{newFake("videos")}, Actions(anna, AuditTo(quiet)))
	srv := httptest.NewUnstartedServer(h)
	srv.Config.WriteTimeout = waited / 3
	srv.Start()
	defer srv.Close()
	for range 2 { // on one connection
		r, err := http.Get(srv.URL + "/api/inspect?cache=videos&key=" + strings.Repeat("%3C", 4000)) // more than is buffered
		if err != nil {
			t.Fatal("inspect:", err)
		}
		if in := decoded[inspection](t, r, http.StatusOK); in.Error != "redis is dead" {
			t.Errorf("inspect: %+v", in)
		}
	}
	s := newSession(t, h)
	r, err := http.NewRequest("POST", srv.URL+"/api/action", strings.NewReader(`{"op":"refresh","cache":"videos","key":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Cookie", s.cookie)
	r.Header.Set("Dewar-Token", s.token)
	if a, err := http.DefaultClient.Do(r); err != nil || a.StatusCode != http.StatusOK {
		t.Error("action:", a, err)
	}
}

func TestAStreamThatBeginsWhileTheServerShutsDownEndsAtOnce(t *testing.T) {
	h := quick(newFake("videos"))
	in, goOn := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slowly/api/events" {
			close(in)
			<-goOn // the owner's own authentication asks its database
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream := func(path string) {
		r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+path, nil)
		if a, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
		}
	}
	if _, err := http.Get(srv.URL + "/"); err != nil {
		t.Fatal(err)
	}
	go stream("/slowly/api/events")
	<-in
	ended := make(chan error, 1)
	patience, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	go func() { ended <- srv.Config.Shutdown(patience) }()
	eventually(t, "the shutdown has begun", func() bool {
		h.live.mu.Lock()
		defer h.live.mu.Unlock()
		return h.live.servers[srv.Config]
	})
	close(goOn)
	if err := <-ended; err != nil {
		t.Error("Shutdown:", err)
	}
}

// The samples of the past are more than a slow connection takes in at once.
func TestAStreamOverASlowConnectionTakesInThePastAndGoesOn(t *testing.T) {
	f := newFake("videos")
	h := Handler(f).(*handler)
	h.live.every, h.within = 100*time.Millisecond, 500*time.Millisecond // a tenth and a twentieth
	fat := asJSON(sample{At: time.Now().UnixMilli(), Caches: []cacheSample{{Problem: strings.Repeat("x", 4<<10)}}})
	h.live.mu.Lock()
	for i := range kept {
		h.live.past = append(h.live.past, past{time.Now().Add(time.Duration(i) * time.Millisecond), fat})
	}
	h.live.mu.Unlock()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
		}
	}
	srv.Start()
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	fmt.Fprint(conn, "GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n")
	var got bytes.Buffer
	buf := make([]byte, 64<<10)
	begun := time.Now()
	for !bytes.Contains(got.Bytes(), []byte("event: sample")) {
		time.Sleep(25 * time.Millisecond) // some 2 s in all
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil || bytes.Contains(buf[:n], []byte("event: bye")) || time.Since(begun) > time.Minute {
			t.Fatalf("after %v and %d kB: %v; it ends with %.120q", time.Since(begun), got.Len()>>10, err, got.Bytes()[max(0, got.Len()-120):])
		}
	}
}

func TestItWorksBelowAPathThatEndsInAPI(t *testing.T) {
	for _, prefix := range []string{"/api/", "/internal/api/", "/debug/dewar/"} {
		mux := http.NewServeMux()
		mux.Handle(prefix, Handler(newFake("videos")))
		for _, path := range []string{"", "app.js", "app.css", "icon.svg", "api/caches"} {
			if r := ask(mux, "GET", prefix+path, ""); r.StatusCode != http.StatusOK {
				t.Errorf("%s%s: %d", prefix, path, r.StatusCode)
			}
		}
	}
}
