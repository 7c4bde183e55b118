package console

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

var quiet = slog.New(slog.DiscardHandler)

// session is a browser that has the page open.
type session struct {
	h             http.Handler
	cookie, token string
}

func newSession(t testing.TB, h http.Handler) *session {
	t.Helper()
	r := ask(h, "GET", "/debug/dewar/api/token", "")
	if r.StatusCode != http.StatusOK || len(r.Cookies()) != 1 {
		t.Fatal(r.StatusCode, r.Cookies())
	}
	var answer struct{ Token string }
	mustDecode(t, read(t, r), &answer)
	c := r.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "" || c.Domain != "" {
		t.Errorf("the cookie is %v", c)
	}
	return &session{h: h, cookie: c.Name + "=" + c.Value, token: answer.Token}
}

// act sends an action as the page does, but for what header says.
func (s *session) act(body string, header ...string) *http.Response {
	return ask(s.h, "POST", "/debug/dewar/api/action", body, append([]string{
		"Content-Type", "application/json", "Sec-Fetch-Site", "same-origin", "Cookie", s.cookie, "Dewar-Token", s.token,
	}, header...)...)
}

func TestActionsAreDoneAndLogged(t *testing.T) {
	for _, op := range []string{"invalidate", "expire", "refresh", "pin", "unpin"} {
		t.Run(op, func(t *testing.T) {
			var log bytes.Buffer
			f := newFake("videos")
			s := newSession(t, Handler(f, Actions(anna, AuditTo(lines(&log)))))
			r := s.act(`{"op":"` + op + `","cache":"videos","key":"a"}`)
			if body := read(t, r); r.StatusCode != http.StatusOK || !strings.Contains(body, `"outcome":"done"`) {
				t.Error(r.StatusCode, body)
			}
			if f.done() != op+" a" {
				t.Errorf("done: %q", f.done())
			}
			want := `level=INFO msg="dewar: console action" who=anna op=` + op + ` cache=videos key=hidden remote=192.0.2.1:1234 outcome=done`
			if !strings.Contains(log.String(), want) || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("logged: %s", log.String())
			}
		})
	}
}

func TestTheDialIsTurnedAndLogged(t *testing.T) {
	var log bytes.Buffer
	c := newCache(t, dewar.Config[string, string]{Name: "videos"})
	s := newSession(t, Handler(c, Actions(anna, AuditTo(lines(&log)))))
	if r := s.act(`{"op":"defcon","cache":"videos","level":1,"why":"the final"}`); r.StatusCode != http.StatusOK {
		t.Fatal(r.StatusCode, read(t, r))
	}
	if _, err := c.Get(t.Context(), "a"); !errors.Is(err, dewar.ErrDefcon) {
		t.Error("the cache answers", err)
	}
	if last := c.Dial().LastTurn(); last.To != dewar.Lockdown || last.Who != "anna" || last.Why != "the final" || last.Via != dewar.ViaHTTP {
		t.Errorf("%+v", last)
	}
	if !strings.Contains(log.String(), `who=anna op=defcon cache=videos level=1 why="the final"`) {
		t.Error(log.String())
	}
	for _, level := range []int{0, 6, -1} {
		if r := s.act(fmt.Sprintf(`{"op":"defcon","cache":"videos","level":%d}`, level)); r.StatusCode != http.StatusBadRequest {
			t.Errorf("level %d: %d", level, r.StatusCode)
		}
	}
}

// Each of these is one step away from an action that is done.
func TestForgedActionsAreRefusedAndLogged(t *testing.T) {
	const good = `{"op":"invalidate","cache":"videos","key":"a"}`
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"another site":                  {good, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another origin of the site":    {good, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"another origin, old browser":   {good, []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, 403},
		"a sandboxed page":              {good, []string{"Sec-Fetch-Site", "", "Origin", "null"}, 403},
		"a form":                        {good, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"a form that sends text":        {good, []string{"Content-Type", "text/plain"}, 415},
		"no type":                       {good, []string{"Content-Type", ""}, 415},
		"no token":                      {good, []string{"Dewar-Token", ""}, 403},
		"a wrong token":                 {good, []string{"Dewar-Token", "AAAA"}, 403},
		"no cookie":                     {good, []string{"Cookie", ""}, 403},
		"a cookie of another session":   {good, []string{"Cookie", cookieName + "=other"}, 403},
		"an empty cookie":               {good, []string{"Cookie", cookieName + "="}, 403},
		"no such cache":                 {`{"op":"invalidate","cache":"x","key":"a"}`, nil, 404},
		"no such action":                {`{"op":"invalidateAll","cache":"videos","key":"a"}`, nil, 400},
		"an action with a long name":    {`{"op":"` + strings.Repeat("x", 5000) + `","cache":"videos","key":"a"}`, nil, 400},
		"no action":                     {`{"cache":"videos","key":"a"}`, nil, 400},
		"not JSON":                      {`op=invalidate`, nil, 400},
		"nothing":                       {``, nil, 400},
		"an unknown field":              {`{"op":"invalidate","cache":"videos","key":"a","force":true}`, nil, 400},
		"two actions":                   {good + good, nil, 400},
		"a key that is a number":        {`{"op":"invalidate","cache":"videos","key":1}`, nil, 400},
		"a key that is no UTF-8":        {"{\"op\":\"invalidate\",\"cache\":\"videos\",\"key\":\"\xff\"}", nil, 400},
		"key64 that is none":            {`{"op":"invalidate","cache":"videos","key64":"!"}`, nil, 400},
		"a long key":                    {`{"op":"invalidate","cache":"videos","key":"` + strings.Repeat("k", maxKey+1) + `"}`, nil, 400},
		"a long reason":                 {`{"op":"defcon","cache":"videos","level":2,"why":"` + strings.Repeat("w", maxWhy+1) + `"}`, nil, 400},
		"a body that does not end soon": {strings.Repeat(" ", maxAction+1) + good, nil, 413},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := newFake("videos")
			s := newSession(t, Handler(f, Actions(anna, AuditTo(slog.New(slog.NewJSONHandler(&log, nil))))))
			r := s.act(c.body, c.header...)
			if body := read(t, r); r.StatusCode != c.status || !strings.HasPrefix(body, `{"error":"`) {
				t.Error(r.StatusCode, body)
			}
			if f.done() != "" || f.dial.Level() != dewar.Normal {
				t.Error("it was done all the same:", f.done())
			}
			if strings.Count(log.String(), `"outcome":"refused"`) != 1 || !strings.Contains(log.String(), `"level":"WARN"`) || strings.Count(log.String(), "\n") != 1 || log.Len() > 2000 {
				t.Errorf("logged: %s", log.String())
			}
			if r := s.act(good); r.StatusCode != http.StatusOK {
				t.Error("the real one is refused too:", r.StatusCode, read(t, r))
			}
		})
	}
}

func TestATokenIsOfOneSessionAndOneHandler(t *testing.T) {
	const good = `{"op":"pin","cache":"videos","key":"a"}`
	f := newFake("videos")
	h := Handler(f, Actions(anna, AuditTo(quiet)))
	mine, other := newSession(t, h), newSession(t, h)
	if mine.cookie == other.cookie || mine.token == other.token {
		t.Fatal("two sessions are one")
	}
	if r := mine.act(good, "Dewar-Token", other.token); r.StatusCode != http.StatusForbidden {
		t.Error("another session's token:", r.StatusCode)
	}
	elsewhere := newSession(t, Handler(f, Actions(anna, AuditTo(quiet))))
	if r := mine.act(good, "Dewar-Token", elsewhere.token, "Cookie", elsewhere.cookie); r.StatusCode != http.StatusForbidden {
		t.Error("another handler's session:", r.StatusCode)
	}
	if c := ask(h, "GET", "https://example.com/api/token", "").Cookies()[0]; !c.Secure {
		t.Error("over TLS the cookie is", c)
	}
	// A session that has a cookie keeps it, in all its windows.
	r := ask(h, "GET", "/debug/dewar/api/token", "", "Cookie", mine.cookie)
	if body := read(t, r); len(r.Cookies()) != 0 || !strings.Contains(body, mine.token) {
		t.Error(r.Cookies(), body)
	}
}

func TestWhoIsNotAuthorisedDoesNothing(t *testing.T) {
	var log bytes.Buffer
	f := newFake("videos")
	s := newSession(t, Handler(f, Actions(nobody, AuditTo(lines(&log)))))
	r := s.act(`{"op":"invalidate","cache":"videos","key":"a"}`)
	if body := read(t, r); r.StatusCode != http.StatusForbidden || !strings.Contains(body, errNobody.Error()) {
		t.Error(r.StatusCode, body)
	}
	if f.done() != "" || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "who=mallory op=invalidate cache=videos key=hidden") || !strings.Contains(log.String(), "outcome=refused") {
		t.Error(f.done(), log.String())
	}
}

func TestHowAnActionEndsIsTold(t *testing.T) {
	_, notAKey := strconv.Atoi("x")
	for name, c := range map[string]struct {
		err     error
		status  int
		outcome string
	}{
		"unconfirmed":    {fmt.Errorf("redis: %w", dewar.ErrInvalidationPending), 202, "pending"},
		"closed":         {dewar.ErrClosed, 409, "failed"},
		"no ParseKey":    {dewar.ErrNoKey, 422, "failed"},
		"no number":      {fmt.Errorf("%w: %w", dewar.ErrNoKey, notAKey), 422, "failed"},
		"a failing load": {errors.New("503"), 502, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := newFake("videos")
			f.err = c.err
			s := newSession(t, Handler(f, Actions(anna, AuditTo(lines(&log)))))
			r := s.act(`{"op":"refresh","cache":"videos","key":"a"}`)
			if body := read(t, r); r.StatusCode != c.status || !strings.Contains(body, strings.ReplaceAll(c.err.Error(), `"`, `\"`)) {
				t.Error(r.StatusCode, body)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "outcome="+c.outcome) {
				t.Error(log.String())
			}
		})
	}
}

func TestActionsHaveTheirMethods(t *testing.T) {
	h := Handler(newFake("videos"), Actions(anna, AuditTo(quiet)))
	for path, allow := range map[string]string{"api/token": "GET", "api/action": "POST"} {
		for _, method := range []string{"GET", "POST", "HEAD", "PUT", "OPTIONS"} {
			r := ask(h, method, "/"+path, "")
			if method != allow && (r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != allow) {
				t.Errorf("%s %s: %d, Allow: %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
}

func TestAKeyThatIsNoUTF8IsOperatedOn(t *testing.T) {
	f := newFake("videos")
	s := newSession(t, Handler(f, Actions(anna, AuditTo(quiet))))
	if r := s.act(`{"op":"invalidate","cache":"videos","key64":"_wD-"}`); r.StatusCode != http.StatusOK || f.done() != "invalidate \xff\x00\xfe" {
		t.Errorf("%d, %q", r.StatusCode, f.done())
	}
}
