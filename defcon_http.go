package dewar

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

// ServeHTTP shows and turns the dial, for a dashboard or curl:
//
//	GET  {"level":3,"name":"degraded","set":3,"who":"anna","why":"ad break","via":"http","since":"..."}
//	PUT  {"level":3,"who":"anna","why":"ad break"}
//
// Level is a number or a name; PUT answers as GET does. It wants the
// Content-Type application/json, which a page of another site cannot send
// without asking, and otherwise lets everybody turn the dial who can reach it:
// it must stand behind the owner's own authentication.
func (d *Defcon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		if status, err := d.put(w, r); err != nil {
			http.Error(w, err.Error(), status)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "GET shows the dial, PUT turns it", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.state()) // who left does not mind
}

func (d *Defcon) put(w http.ResponseWriter, r *http.Request) (status int, err error) {
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
	level, err := ParseLevel(strings.Trim(string(turn.Level), `"`))
	if err != nil {
		return http.StatusBadRequest, err
	}
	err = d.Turn(Turn{To: level, Who: cmp.Or(turn.Who, r.RemoteAddr), Why: turn.Why, Via: ViaHTTP})
	return http.StatusBadRequest, err
}

func (d *Defcon) state() dialState {
	d.mu.Lock()
	defer d.mu.Unlock()
	level, last := d.Level(), d.last
	s := dialState{Level: int(level), Name: level.String(), Set: int(d.setLocked()), Who: last.Who, Why: last.Why, Via: last.Via}
	if !last.At.IsZero() {
		s.Since = &last.At
	}
	return s
}
