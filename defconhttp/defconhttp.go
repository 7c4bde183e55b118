// Package defconhttp shows and turns a DEFCON dial over HTTP, for a dashboard or
// curl. It is a package of its own, so that who embeds dewar without it does
// not pay for net/http.
package defconhttp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/dewarcache/dewar"
)

// maxTurnBytes bounds the body of a PUT.
const maxTurnBytes = 4 << 10

// dialState is what GET tells of a dial.
type dialState struct {
	Level int        `json:"level"`
	Name  string     `json:"name"`
	Set   int        `json:"set"` // differs from level while the rule of Automate holds it lower
	Who   string     `json:"who,omitempty"`
	Why   string     `json:"why,omitempty"`
	Via   string     `json:"via,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

// dialTurn is what PUT takes.
type dialTurn struct {
	Level json.RawMessage `json:"level"`
	Who   string          `json:"who"`
	Why   string          `json:"why"`
}

// Handler shows and turns the dial:
//
//	GET  {"level":3,"name":"degraded","set":3,"who":"anna","why":"ad break","via":"http","since":"..."}
//	PUT  {"level":3,"who":"anna","why":"ad break"}
//
// Level is a number or a name; PUT answers as GET does. It wants the
// Content-Type application/json, which a page of another site cannot send
// without asking, and otherwise lets everybody turn the dial who can reach it:
// it must stand behind the owner's own authentication.
func Handler(dial *dewar.Defcon) http.Handler { return handler{dial} }

type handler struct{ dial *dewar.Defcon }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		if status, err := h.put(w, r); err != nil {
			http.Error(w, err.Error(), status)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "GET shows the dial, PUT turns it", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(stateOf(h.dial)) // who left does not mind
}

func (h handler) put(w http.ResponseWriter, r *http.Request) (status int, err error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return http.StatusUnsupportedMediaType, errors.New("dewar: PUT wants Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTurnBytes))
	if err != nil {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("dewar: PUT takes at most %d bytes: %w", maxTurnBytes, err)
	}
	var turn dialTurn
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err = dec.Decode(&turn)
	if err == nil && dec.Decode(new(json.RawMessage)) != io.EOF {
		err = errors.New("there is more behind it")
	}
	if err != nil {
		return http.StatusBadRequest, fmt.Errorf(`dewar: PUT wants {"level":1..5,"who":"...","why":"..."}: %w`, err)
	}
	level, err := dewar.ParseLevel(strings.Trim(string(turn.Level), `"`))
	if err != nil {
		return http.StatusBadRequest, err
	}
	err = h.dial.Turn(dewar.Turn{To: level, Who: cmp.Or(turn.Who, r.RemoteAddr), Why: turn.Why, Via: dewar.ViaHTTP})
	return http.StatusBadRequest, err
}

func stateOf(d *dewar.Defcon) dialState {
	level, last := d.Level(), d.LastTurn()
	s := dialState{Level: int(level), Name: level.String(), Set: int(d.LevelSet()), Who: last.Who, Why: last.Why, Via: last.Via}
	if !last.At.IsZero() {
		s.Since = &last.At
	}
	return s
}
