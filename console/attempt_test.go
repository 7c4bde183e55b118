package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// panicking is a cache whose Config.ParseKey panics, say.
type panicking struct{ *fake }

func (p panicking) Operate(context.Context, dewar.Operation, string) error { panic("ParseKey") }

func TestAnActionThatPanicsIsLogged(t *testing.T) {
	careless := func(*http.Request) (string, error) { panic("nil map of users") }
	for name, tt := range map[string]struct {
		part      Part
		authorise func(*http.Request) (string, error)
	}{
		"authorise": {newFake("videos"), careless},
		"the cache": {panicking{newFake("videos")}, anna},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newSession(t, Handler(tt.part, Actions(tt.authorise, AuditTo(lines(&log)))))
			func() {
				defer func() {
					if recover() == nil {
						t.Error("net/http does not hear of the panic")
					}
				}()
				s.act(`{"op":"invalidate","cache":"videos","key":"a"}`)
			}()
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "op=invalidate") || !strings.Contains(log.String(), "outcome=panicked") {
				t.Errorf("logged: %s", log.String())
			}
		})
	}
}

func TestNoKeyIsInTheAuditLogWhereTheyAreHashed(t *testing.T) {
	const key = "anna@example.com"
	said := errors.New("there is no user " + key)
	parse := func(s string) (string, error) {
		if s == key {
			return "", said
		}
		return s, nil
	}
	text := dewar.Config[string, string]{
		Key: func(k string) string { return k }, ParseKey: parse,
		Load: func(context.Context, string) (string, error) { return "", said },
	}
	text.Name, text.LogKeys = "users", dewar.KeysHashed
	for name, part := range map[string]Part{
		"ParseKey": dewartest.New(t, text),
		"strconv": dewartest.New(t, dewar.Config[int, string]{
			Name: "users", LogKeys: dewar.KeysHashed,
			Load: func(context.Context, int) (string, error) { return "", nil },
		}),
		"the loader": dewartest.New(t, dewar.Config[string, string]{
			Name: "users", LogKeys: dewar.KeysHashed,
			Load: func(context.Context, string) (string, error) { return "", said },
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newSession(t, Handler(part, Actions(anna, AuditTo(lines(&log)))))
			r := s.act(`{"op":"refresh","cache":"users","key":"` + key + `"}`)
			if body := read(t, r); !strings.Contains(body, key) || r.StatusCode == http.StatusOK {
				t.Error("whoever asked is told less than he sent:", r.StatusCode, body)
			}
			if strings.Contains(log.String(), "anna@") || !strings.Contains(log.String(), "outcome=failed") || !strings.Contains(log.String(), "error=") {
				t.Error(log.String())
			}
		})
	}
	t.Run("quoted", func(t *testing.T) { // there the error may as well say it
		var log bytes.Buffer
		text.LogKeys = dewar.KeysQuoted
		s := newSession(t, Handler(dewartest.New(t, text), Actions(anna, AuditTo(lines(&log)))))
		s.act(`{"op":"refresh","cache":"users","key":"` + key + `"}`)
		if !strings.Contains(log.String(), said.Error()) {
			t.Error(log.String())
		}
	})
}

func TestAuditToNobodyIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("actions would be done that nobody hears of")
		}
	}()
	AuditTo(nil)
}

func TestAuthoriseSeesTheAction(t *testing.T) {
	const body = `{"op":"refresh","cache":"videos","key":"a"}`
	var seen string
	f := newFake("videos")
	s := newSession(t, Handler(f, Actions(func(r *http.Request) (string, error) {
		b, err := io.ReadAll(r.Body)
		seen = string(b)
		return "anna", err
	}, AuditTo(quiet))))
	if r := s.act(body); seen != body || r.StatusCode != http.StatusOK || f.done() != "refresh a" {
		t.Errorf("%d, it saw %q, done: %q", r.StatusCode, seen, f.done())
	}
}

func TestAnActionOnAKeyThatIsNotSurelyTheOneMeantIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"no key":              `{"op":"invalidate","cache":"videos"}`,
		"null":                `{"op":"invalidate","cache":"videos","key":null}`,
		"half a character":    `{"op":"invalidate","cache":"videos","key":"a\ud800"}`,
		"two that differ":     `{"op":"invalidate","cache":"videos","key":"a","key64":"Yg"}`,
		"what stands for one": `{"op":"invalidate","cache":"videos","key":"\ufffd"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake("videos")
			s := newSession(t, Handler(f, Actions(anna, AuditTo(quiet))))
			if r := s.act(body); r.StatusCode != http.StatusBadRequest || f.done() != "" {
				t.Errorf("%d, done: %q", r.StatusCode, f.done())
			}
		})
	}
	for body, done := range map[string]string{
		`{"op":"invalidate","cache":"videos","key":""}`:       "invalidate ",
		`{"op":"invalidate","cache":"videos","key64":""}`:     "invalidate ",
		`{"op":"invalidate","cache":"videos","key64":"77-9"}`: "invalidate \ufffd",
	} {
		f := newFake("videos")
		s := newSession(t, Handler(f, Actions(anna, AuditTo(quiet))))
		if r := s.act(body); r.StatusCode != http.StatusOK || f.done() != done {
			t.Errorf("%s: %d, done: %q", body, r.StatusCode, f.done())
		}
	}
}

// cutOff is the body of a client that has gone.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestABodyThatEndsTooSoonIsNotCalledTooLong(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newFake("videos"), Actions(anna, AuditTo(lines(&log))))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/api/action", io.MultiReader(strings.NewReader(`{"op"`), cutOff{})))
	if w.Code != http.StatusBadRequest || !strings.Contains(log.String(), "ended too soon") {
		t.Error(w.Code, w.Body.String(), log.String())
	}
}
