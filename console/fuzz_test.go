package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dewarcache/dewar"
)

// FuzzInspect: whatever is asked for, the answer is JSON that names the very
// key, or says what is wrong with the question.
func FuzzInspect(f *testing.F) {
	for _, key := range []string{"a", "", "\xff\x00", "</script>", "日本", strings.Repeat("k", maxKey), "a&cache=b", "%2f"} {
		f.Add("cache=videos&key="+url.QueryEscape(key), key)
		f.Add(key, key)
	}
	f.Add("cache=videos&key64=_w", "\xff")
	h := Handler(newFake("videos"))
	f.Fuzz(func(t *testing.T, query, key string) {
		for _, raw := range []string{query, "cache=videos&key=" + url.QueryEscape(key)} {
			r := httptest.NewRequest("GET", "/api/inspect", nil)
			r.URL.RawQuery = raw
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var in inspection
			if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil {
				t.Fatalf("%q: %d %v: %s", raw, w.Code, err, w.Body)
			}
			if w.Code != http.StatusOK && in.Error == "" {
				t.Fatalf("%q: %d without a reason", raw, w.Code)
			}
			if raw == query || len(key) > maxKey {
				continue
			}
			if found, err := keyOf(in.Key, in.Key64); w.Code != http.StatusOK || err != nil || found != key {
				t.Fatalf("%q is found as %q (%d, %v)", key, found, w.Code, err)
			}
		}
	})
}

// FuzzAction: nothing is done unless the whole request is as the page sends it,
// and every attempt is one line in the log.
func FuzzAction(f *testing.F) {
	f.Add(`{"op":"invalidate","cache":"videos","key":"a"}`, "application/json", "same-origin", "", true)
	f.Add(`{"op":"defcon","cache":"videos","level":2,"why":"w"}`, "application/json; charset=utf-8", "", "http://example.com", true)
	f.Add(`{"op":"pin","cache":"videos","key64":"_wD-"}`, "application/json", "none", "", true)
	f.Add(`{"op":"invalidate","cache":"videos","key":"a"}`, "text/plain", "cross-site", "null", false)
	f.Add("{\"key\":\"\xff\"}", "application/json;", "same-site", "https://evil.example", true)
	f.Fuzz(func(t *testing.T, body, kind, site, origin string, token bool) {
		var log bytes.Buffer
		part := newFake("videos")
		s := newSession(t, Handler(part, Actions(anna, AuditTo(lines(&log)))))
		r := httptest.NewRequest("POST", "/api/action", strings.NewReader(body))
		for name, value := range map[string]string{"Content-Type": kind, "Sec-Fetch-Site": site, "Origin": origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		r.Header.Set("Cookie", s.cookie)
		if token {
			r.Header.Set("Dewar-Token", s.token)
		}
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, r)

		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%d %v: %s", w.Code, err, w.Body)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || log.Len() > 8<<10 || !utf8.Valid(log.Bytes()) {
			t.Fatalf("%d lines of %d bytes in the log:\n%s", n, log.Len(), log.String())
		}
		acted := part.done() != "" || part.dial.LastTurn().To != 0
		if acted != (w.Code == http.StatusOK) {
			t.Fatalf("%d, and done is %v", w.Code, acted)
		}
		from, err := url.Parse(origin)
		elsewhere := origin != "" && (err != nil || from.Host != "example.com") // what older browsers tell
		crossed := site == "cross-site" || site == "same-site" || site == "" && elsewhere
		if acted && (!token || crossed || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(kind)), "application/json")) {
			t.Fatalf("done for token %v, site %q, origin %q, type %q", token, site, origin, kind)
		}
		if acted && part.dial.LastTurn().To == 0 {
			op, _, _ := strings.Cut(part.done(), " ")
			switch dewar.Operation(op) {
			case dewar.OpInvalidate, dewar.OpExpire, dewar.OpRefresh, dewar.OpKeepWarm, dewar.OpLetGo:
			default:
				t.Fatalf("done: %q", part.done())
			}
		}
	})
}
