package defconhttp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/defconhttp"
)

// dialServer serves a dial over HTTP.
func dialServer(t *testing.T) (*dewar.Defcon, *httptest.Server) {
	dial := new(dewar.Defcon)
	srv := httptest.NewServer(defconhttp.Handler(dial))
	t.Cleanup(srv.Close)
	return dial, srv
}

// ask sends a request and returns the answer and its body.
func ask(t *testing.T, srv *httptest.Server, method, contentType, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

// mustShow fails the test unless body is a dial's state with these fields, and
// no others but "since".
func mustShow(t *testing.T, body string, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	delete(got, "since")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestGETShowsTheDial(t *testing.T) {
	dial, srv := dialServer(t)
	resp, body := ask(t, srv, http.MethodGet, "", "")
	mustShow(t, body, map[string]any{"level": 5, "name": "normal", "set": 5})
	if strings.Contains(body, "since") || resp.StatusCode != http.StatusOK ||
		resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d, %v, %q", resp.StatusCode, resp.Header, body)
	}
	before := time.Now()
	if err := dial.Turn(dewar.Turn{To: dewar.Protect, Who: "anna", Why: "<b>& an event"}); err != nil {
		t.Fatal(err)
	}
	_, body = ask(t, srv, http.MethodGet, "", "")
	mustShow(t, body, map[string]any{"level": 2, "name": "protect", "set": 2, "who": "anna", "why": "<b>& an event", "via": "code"})
	var state struct{ Since time.Time }
	if err := json.Unmarshal([]byte(body), &state); err != nil || state.Since.Before(before.Add(-time.Second)) || state.Since.After(time.Now()) {
		t.Errorf("%v, %v", state, err)
	}
}

func TestHEADIsAGETWithoutABody(t *testing.T) {
	_, srv := dialServer(t)
	resp, body := ask(t, srv, http.MethodHead, "", "")
	if resp.StatusCode != http.StatusOK || body != "" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d, %v, %q", resp.StatusCode, resp.Header, body)
	}
}

func TestPUTTurnsTheDial(t *testing.T) {
	for body, want := range map[string]dewar.Turn{
		`{"level":1,"who":"anna","why":"the event"}`: {To: dewar.Lockdown, Who: "anna", Why: "the event"},
		`{"level":"2"}`:                          {To: dewar.Protect},
		` {"why":"w","level":"Degraded"}` + "\n": {To: dewar.Degraded, Why: "w"},
		`{"level":"elevated","who":""}`:          {To: dewar.Elevated},
		`{"level":5}`:                            {To: dewar.Normal},
	} {
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON"} {
			dial, srv := dialServer(t)
			var told []dewar.Turn
			dial.Watch(func(turn dewar.Turn) { told = append(told, turn) })
			resp, answer := ask(t, srv, http.MethodPut, kind, body)
			if resp.StatusCode != http.StatusOK || dial.Level() != want.To || len(told) != 1 {
				t.Fatalf("%s: %d %s, at %v, told %v", body, resp.StatusCode, answer, dial.Level(), told)
			}
			got, want := told[0], want
			if want.Who == "" { // who turned it is told all the same
				if host, _, _ := strings.Cut(got.Who, ":"); host != "127.0.0.1" {
					t.Errorf("%s: who is %q", body, got.Who)
				}
				want.Who = got.Who
			}
			want.Via, want.From, want.At = dewar.ViaHTTP, dewar.Normal, got.At
			if got != want {
				t.Errorf("%s: %+v; want %+v", body, got, want)
			}
			show := map[string]any{"level": int(want.To), "name": want.To.String(), "set": int(want.To), "who": want.Who, "via": "http"}
			if want.Why != "" {
				show["why"] = want.Why
			}
			mustShow(t, answer, show)
		}
	}
}

func TestWhatTurnsNothing(t *testing.T) {
	const good = `{"level":1}`
	for name, tt := range map[string]struct {
		method, kind, body string
		status             int
		words              string // that the answer has
	}{
		"no body":            {http.MethodPut, "application/json", ``, http.StatusBadRequest, `"level"`},
		"no JSON":            {http.MethodPut, "application/json", `level=1`, http.StatusBadRequest, `"level"`},
		"JSON cut short":     {http.MethodPut, "application/json", `{"level":1`, http.StatusBadRequest, `"level"`},
		"more behind":        {http.MethodPut, "application/json", good + good, http.StatusBadRequest, `"level"`},
		"rubbish behind":     {http.MethodPut, "application/json", good + `x`, http.StatusBadRequest, `"level"`},
		"an array":           {http.MethodPut, "application/json", `[1]`, http.StatusBadRequest, `"level"`},
		"a number alone":     {http.MethodPut, "application/json", `1`, http.StatusBadRequest, `"level"`},
		"no level":           {http.MethodPut, "application/json", `{"who":"anna"}`, http.StatusBadRequest, "no DEFCON level"},
		"level null":         {http.MethodPut, "application/json", `{"level":null}`, http.StatusBadRequest, "no DEFCON level"},
		"level 0":            {http.MethodPut, "application/json", `{"level":0}`, http.StatusBadRequest, "no DEFCON level"},
		"level 6":            {http.MethodPut, "application/json", `{"level":6}`, http.StatusBadRequest, "no DEFCON level"},
		"level 1.5":          {http.MethodPut, "application/json", `{"level":1.5}`, http.StatusBadRequest, "no DEFCON level"},
		"an unknown name":    {http.MethodPut, "application/json", `{"level":"panic"}`, http.StatusBadRequest, "no DEFCON level"},
		"a level of levels":  {http.MethodPut, "application/json", `{"level":{"level":1}}`, http.StatusBadRequest, "no DEFCON level"},
		"who is no string":   {http.MethodPut, "application/json", `{"level":1,"who":1}`, http.StatusBadRequest, "who"},
		"an unknown field":   {http.MethodPut, "application/json", `{"level":1,"reason":"x"}`, http.StatusBadRequest, "reason"},
		"a big body":         {http.MethodPut, "application/json", `{"level":1,"why":"` + strings.Repeat("x", 4<<10) + `"}`, http.StatusRequestEntityTooLarge, "4096"},
		"no content type":    {http.MethodPut, "", good, http.StatusUnsupportedMediaType, "application/json"},
		"two content types":  {http.MethodPut, "text/plain, application/json", good, http.StatusUnsupportedMediaType, "application/json"},
		"hidden in a form's": {http.MethodPut, "text/plain; application/json", good, http.StatusUnsupportedMediaType, "application/json"},
		"POST":               {http.MethodPost, "application/json", good, http.StatusMethodNotAllowed, "PUT"},
		"PATCH":              {http.MethodPatch, "application/json", good, http.StatusMethodNotAllowed, "PUT"},
		"DELETE":             {http.MethodDelete, "", "", http.StatusMethodNotAllowed, "PUT"},
		"TRACE":              {http.MethodTrace, "", "", http.StatusMethodNotAllowed, "PUT"},
	} {
		t.Run(name, func(t *testing.T) {
			dial, srv := dialServer(t)
			resp, body := ask(t, srv, tt.method, tt.kind, tt.body)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.words) {
				t.Errorf("%d %q; want %d and %q", resp.StatusCode, body, tt.status, tt.words)
			}
			if tt.status == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "GET, HEAD, PUT" {
				t.Error(resp.Header)
			}
			if dial.Level() != dewar.Normal || dial.LastTurn().To != 0 {
				t.Error("turned to", dial.Level())
			}
		})
	}
}

// A page of another site can have a browser send forms, and simple requests
// without asking. Neither turns the dial, and who asks first is not allowed to.
func TestAnotherSitesPageCannotTurnTheDial(t *testing.T) {
	dial, srv := dialServer(t)
	for _, kind := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodPut} {
			body := `{"level":1}`
			if kind == "application/x-www-form-urlencoded" {
				body = "level=1&_method=PUT"
			}
			req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"?level=1&_method=PUT", bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", kind)
			req.Header.Set("X-HTTP-Method-Override", http.MethodPut)
			req.Header.Set("Origin", "https://elsewhere.example")
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if reads := method == http.MethodGet || method == http.MethodHead; reads != (resp.StatusCode == http.StatusOK) {
				t.Errorf("%s %s: %d", method, kind, resp.StatusCode)
			}
		}
	}
	resp, _ := ask(t, srv, http.MethodOptions, "", "") // a preflight
	if resp.StatusCode < 400 {
		t.Error(resp.StatusCode)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s: %v", name, resp.Header[name])
		}
	}
	if dial.LastTurn().To != 0 {
		t.Errorf("%+v", dial.LastTurn())
	}
}
