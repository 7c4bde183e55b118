package console

import (
	"net/http"
	"time"

	"github.com/dewarcache/dewar"
)

// inspection is a dewar.Inspection in JSON. Times are to the millisecond; Now
// is on the same clock, which the browser's need not be.
type inspection struct {
	keyText
	Cache       string     `json:"cache"`
	Now         string     `json:"now"`
	Local       *entryInfo `json:"local"`
	Remote      *entryInfo `json:"remote"`
	RemoteState string     `json:"remoteState"` // "": there is no remote tier
	Source      string     `json:"source"`
	Loading     bool       `json:"loading"`
	Pinned      bool       `json:"pinned"`
	Due         bool       `json:"due"`
	Pending     bool       `json:"pending"`
	Resting     float64    `json:"resting"` // in seconds
	RestsFor    string     `json:"restsFor,omitempty"`
	Error       string     `json:"error,omitempty"` // what is missing here for
}

type entryInfo struct {
	Age      string  `json:"age"`
	Negative bool    `json:"negative"`
	Loaded   string  `json:"loaded"`
	Due      string  `json:"due,omitempty"`
	Fresh    string  `json:"fresh"`
	Dead     string  `json:"dead"`
	Took     float64 `json:"took,omitzero"` // in seconds
	Size     int64   `json:"size,omitzero"`
}

func entryOf(e *dewar.EntryInfo) *entryInfo {
	if e == nil {
		return nil
	}
	info := &entryInfo{
		Age: e.Age, Negative: e.Negative, Loaded: stamp(e.Loaded), Fresh: stamp(e.Fresh), Dead: stamp(e.Dead),
		Took: rounded(e.Took.Seconds()), Size: e.Size,
	}
	if !e.Due.IsZero() {
		info.Due = stamp(e.Due)
	}
	return info
}

// stamp is a time as every browser reads it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// maxError bounds the text of an error of a loader or of the remote tier.
const maxError = 500

func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := []rune(err.Error())
	if len(text) > maxError {
		return string(text[:maxError]) + "..."
	}
	return string(text)
}

func (h *handler) serveInspect(w http.ResponseWriter, r *http.Request) {
	c, query := h.asked(w, r)
	if c == nil {
		return
	}
	if !query.Has("key") && !query.Has("key64") {
		refuse(w, http.StatusBadRequest, "which key? ?cache=...&key=...")
		return
	}
	key, err := keyOf(query.Get("key"), query.Get("key64"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if r.Method == http.MethodHead {
		return // it would ask the remote tier for nothing
	}
	defer patiently(w)()
	in, err := c.Inspect(r.Context(), key)
	answer(w, http.StatusOK, inspection{
		keyText: textOf(key), Cache: c.id, Now: stamp(time.Now()),
		Local: entryOf(in.Local), Remote: entryOf(in.Remote), RemoteState: in.RemoteState, Source: in.Source.String(),
		Loading: in.Loading, Pinned: in.Pinned, Due: in.Due, Pending: in.Pending,
		Resting: rounded(in.Resting.Seconds()), RestsFor: errorText(in.RestsFor), Error: errorText(err),
	})
}
