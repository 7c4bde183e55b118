package console

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dewarcache/dewar"
)

// Actions gives the page its buttons: invalidate, expire, refresh, pin and
// unpin a key, and turn the dial. authorise is called for each action, whose
// JSON is the request's Body, and says who does it; its error refuses the
// action, and is shown to whoever tried. Actions panics without it.
//
// authorise must go by what only the operator's own session has, such as a
// cookie or a client certificate. Where a request comes from is not enough: a
// page of anybody's that an operator opens can have the console's address given
// to its own host name (DNS rebinding), and then asks from the operator's
// machine, in the console's origin.
//
// An action is a POST of JSON with a token in a header, which is bound to a
// cookie and to this handler; a browser must have sent it from this very page's
// origin ([http.CrossOriginProtection]). Every attempt is logged, also one that
// is refused: who, from where, what, on which cache and key (as Config.LogKeys
// has it; where it hashes keys, errors that might quote one are left out), and
// how it ended.
func Actions(authorise func(*http.Request) (who string, err error), opts ...ActionOption) Part {
	if authorise == nil {
		panic("console: Actions needs a function that authorises")
	}
	a := &actions{authorise: authorise, log: slog.Default(), secret: make([]byte, sha256.Size)}
	_, _ = rand.Read(a.secret) // it never fails
	for _, o := range opts {
		o(a)
	}
	return a
}

// ActionOption is an option of [Actions].
type ActionOption func(*actions)

// AuditTo is where actions are logged: those that were done at Info, the others
// at Warn. Defaults to slog.Default().
func AuditTo(l *slog.Logger) ActionOption {
	if l == nil {
		panic("console: AuditTo needs a logger")
	}
	return func(a *actions) { a.log = l }
}

// actions stands among the caches that Handler is given, but is none: Handler
// tells it from them, and nobody calls the methods that it seems to have.
type actions struct {
	Part
	authorise func(*http.Request) (string, error)
	log       *slog.Logger
	secret    []byte // of the tokens
	crossing  http.CrossOriginProtection
}

const (
	cookieName  = "dewar-console"
	tokenHeader = "Dewar-Token"

	maxAction = 32 << 10 // bytes of a request: a key may be escaped
	maxWhy    = 500      // bytes
)

// request is what api/action takes.
type request struct {
	Op    string  `json:"op"` // an Operation, or opDefcon
	Cache string  `json:"cache"`
	Key   *string `json:"key"`
	Key64 *string `json:"key64"` // one of the two, but for opDefcon
	Level int     `json:"level"` // opDefcon only, as Why
	Why   string  `json:"why"`

	key string // what Key or Key64 says
}

const opDefcon = "defcon"

// refusal is why an action is not even tried.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func (h *handler) serveActions(w http.ResponseWriter, r *http.Request, route string) {
	switch {
	case route == "api/token" && r.Method == http.MethodGet:
		h.actions.serveToken(w, r)
	case route == "api/token":
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, http.StatusMethodNotAllowed, "tokens are read with GET")
	case r.Method == http.MethodPost:
		h.serveAction(w, r)
	default:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "actions are sent with POST")
	}
}

// serveToken gives the page the token of its session. Other sites' pages can
// ask for it, but not read it. The cookie has no Path: the browser then takes
// the page's own, which is not known here.
func (a *actions) serveToken(w http.ResponseWriter, r *http.Request) {
	session := sessionOf(r)
	if session == "" {
		session = rand.Text()
		http.SetCookie(w, &http.Cookie{
			Name: cookieName, Value: session,
			HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
		})
	}
	answer(w, http.StatusOK, map[string]string{"token": a.token(session)})
}

func sessionOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) > 128 {
		return ""
	}
	return c.Value
}

func (a *actions) token(session string) string {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte(session))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// serveAction tries an action, tells how it ended, and logs that.
func (h *handler) serveAction(w http.ResponseWriter, r *http.Request) {
	defer patiently(w)()
	err := h.attempt(w, r)
	refused, isRefused := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		answer(w, http.StatusOK, map[string]string{"outcome": "done"})
	case isRefused:
		refuse(w, refused.status, refused.why)
	case errors.Is(err, dewar.ErrInvalidationPending):
		answer(w, http.StatusAccepted, map[string]string{"outcome": "pending", "error": errorText(err)})
	case errors.Is(err, dewar.ErrClosed):
		refuse(w, http.StatusConflict, errorText(err))
	case errors.Is(err, dewar.ErrNoKey):
		refuse(w, http.StatusUnprocessableEntity, errorText(err))
	default:
		refuse(w, http.StatusBadGateway, errorText(err))
	}
}

// errPanicked is how an attempt ended that has not returned. What it panicked
// with is net/http's to tell.
var errPanicked = errors.New("it panicked")

// attempt tries an action, and logs how it ended, whoever's code panics.
func (h *handler) attempt(w http.ResponseWriter, r *http.Request) (err error) {
	begun := time.Now()
	var req request
	var who string
	err = errPanicked
	defer func() { h.audit(r, who, &req, err, time.Since(begun)) }()
	who, admitted := h.actions.admit(w, r, &req)
	if admitted != nil {
		err = admitted
		return err
	}
	err = h.do(r, who, &req)
	return err
}

// admit reads an action and says who does it, or why it is not to be tried. What
// was read is there for the log in any case.
func (a *actions) admit(w http.ResponseWriter, r *http.Request, req *request) (who string, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAction))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return "", &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("an action is at most %d bytes", maxAction)}
	}
	if err != nil {
		return "", &refusal{http.StatusBadRequest, "the request has ended too soon"}
	}
	malformed := req.parse(body)
	if err := a.crossing.Check(r); err != nil {
		return "", &refusal{http.StatusForbidden, "this was not sent by the console's own page"}
	}
	if !isJSON(r) {
		return "", &refusal{http.StatusUnsupportedMediaType, "an action is sent as application/json"}
	}
	if !hmac.Equal([]byte(r.Header.Get(tokenHeader)), []byte(a.token(sessionOf(r)))) {
		return "", &refusal{http.StatusForbidden, "the token is missing or that of another process: try again"}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if who, err = a.authorise(r); err != nil {
		return who, &refusal{http.StatusForbidden, "not authorised: " + errorText(err)}
	}
	if malformed != nil {
		return who, &refusal{http.StatusBadRequest, "not an action: " + malformed.Error()}
	}
	return who, nil
}

// parse reads an action. JSON of invalid UTF-8 is refused, since it would be
// about another key than the one that was meant.
func (req *request) parse(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8: give the key as key64")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(req); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows it")
	}
	if len(req.Why) > maxWhy {
		return fmt.Errorf("the reason is longer than %d bytes", maxWhy)
	}
	return req.parseKey()
}

// parseKey finds out which key is meant. In doubt it is none: an escape that is
// half of a character, say, becomes the one that stands for what is broken.
func (req *request) parseKey() (err error) {
	switch {
	case req.Op == opDefcon && req.Key == nil && req.Key64 == nil:
		return nil
	case (req.Key == nil) == (req.Key64 == nil):
		return errors.New("give the key as key or as key64")
	case req.Key64 != nil:
		req.key, err = keyOf("", *req.Key64)
		return err
	case strings.ContainsRune(*req.Key, utf8.RuneError):
		return errors.New("give a key that has a U+FFFD, or half a surrogate pair, as key64")
	}
	req.key, err = keyOf(*req.Key, "")
	return err
}

// do carries out an action that was admitted.
func (h *handler) do(r *http.Request, who string, req *request) error {
	c := h.byID[req.Cache]
	if c == nil {
		return &refusal{http.StatusNotFound, "no such cache: api/caches lists them"}
	}
	switch op := dewar.Operation(req.Op); op {
	case dewar.OpInvalidate, dewar.OpExpire, dewar.OpRefresh, dewar.OpKeepWarm, dewar.OpLetGo:
		return c.Operate(r.Context(), op, req.key)
	case opDefcon:
		err := c.Dial().Turn(dewar.Turn{To: dewar.Level(req.Level), Who: who, Why: req.Why, Via: dewar.ViaHTTP})
		if err != nil {
			return &refusal{http.StatusBadRequest, err.Error()}
		}
		return nil
	}
	return &refusal{http.StatusBadRequest, "no such action: invalidate, expire, refresh, pin, unpin and defcon are"}
}
