package console

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dewarcache/dewar"
)

// maxKey bounds the keys that are taken from a client.
const maxKey = 4 << 10

// catalogue is what api/caches answers.
type catalogue struct {
	Now     time.Time   `json:"now"`
	Every   float64     `json:"every"`   // seconds between samples
	Kept    int         `json:"kept"`    // samples of the past
	Actions bool        `json:"actions"` // there are some
	Dials   []dialState `json:"dials"`
	Caches  []cacheInfo `json:"caches"`
}

type cacheInfo struct {
	ID      string     `json:"id"` // Name, made unique
	Name    string     `json:"name"`
	Dial    int        `json:"dial"` // in dials: caches may share one
	Problem string     `json:"problem,omitempty"`
	Stats   *statsInfo `json:"stats,omitempty"`
}

// statsInfo is Stats, with durations in nanoseconds, and what was seen since
// New as quantiles in place of the buckets that they are found in.
type statsInfo struct {
	dewar.Stats
	Breaker                                                                    string
	LoadTime, WaitTime, ServeAge, StaleAge, BatchSize, FillTime, BackfillDelay quantiles
}

// quantiles are in the unit of their histogram: seconds, or keys.
type quantiles struct {
	Count               uint64
	Mean, P50, P90, P99 float64
}

func infoOf(s *dewar.Stats) *statsInfo {
	return &statsInfo{
		Stats: *s, Breaker: s.Origin.Breaker.String(),
		LoadTime: quantilesOf(&s.LoadTime), WaitTime: quantilesOf(&s.WaitTime), ServeAge: quantilesOf(&s.ServeAge),
		StaleAge: quantilesOf(&s.StaleAge), BatchSize: quantilesOf(&s.BatchSize), FillTime: quantilesOf(&s.FillTime),
		BackfillDelay: quantilesOf(&s.BackfillDelay),
	}
}

func quantilesOf(h *dewar.Histogram) (q quantiles) {
	if q.Count = h.Count; q.Count > 0 {
		q.Mean = rounded(h.Sum / float64(h.Count))
		q.P50, q.P90, q.P99 = rounded(h.Quantile(0.50)), rounded(h.Quantile(0.90)), rounded(h.Quantile(0.99))
	}
	return q
}

// dialState is a dial and how it was last turned, if it was.
type dialState struct {
	Level int    `json:"level"`
	Name  string `json:"name"`
	Who   string `json:"who,omitempty"`
	Why   string `json:"why,omitempty"`
	Via   string `json:"via,omitempty"`
	At    int64  `json:"at,omitzero"` // in milliseconds since 1970
}

func dialStates(dials []*dewar.Defcon) []dialState {
	states := make([]dialState, len(dials))
	for i, d := range dials {
		level, last := d.Level(), d.LastTurn()
		states[i] = dialState{Level: int(level), Name: level.String(), Who: last.Who, Why: last.Why, Via: last.Via}
		if !last.At.IsZero() {
			states[i].At = last.At.UnixMilli()
		}
	}
	return states
}

func (h *handler) catalogue() catalogue {
	all := catalogue{
		Now: time.Now(), Every: h.live.every.Seconds(), Kept: kept, Actions: h.actions != nil,
		Dials: dialStates(h.dials), Caches: make([]cacheInfo, len(h.caches)),
	}
	seen := lookAt(h.caches)
	for i, c := range h.caches {
		info := cacheInfo{ID: c.id, Name: c.Name(), Dial: c.dial}
		if seen[i].problem != "" {
			info.Problem = seen[i].problem
		} else {
			info.Stats = infoOf(&seen[i].stats)
		}
		all.Caches[i] = info
	}
	return all
}

func (h *handler) serveCaches(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, h.catalogue())
}

// keyText is a key in JSON, which holds nothing but valid UTF-8.
type keyText struct {
	Key   string `json:"key"`
	Key64 string `json:"key64,omitempty"` // the key itself, where Key is not quite it
	Bytes int    `json:"bytes,omitzero"`  // of a key that is too long for the console: Key is how it begins
}

func textOf(key string) keyText {
	if len(key) > maxKey {
		return keyText{Key: strings.ToValidUTF8(key[:maxKey/16], ""), Bytes: len(key)}
	}
	if utf8.ValidString(key) {
		return keyText{Key: key}
	}
	return keyText{Key: key, Key64: base64.RawURLEncoding.EncodeToString([]byte(key))}
}

// keyOf is the reverse of textOf.
func keyOf(key, key64 string) (string, error) {
	if key64 != "" {
		b, err := base64.RawURLEncoding.DecodeString(key64)
		if err != nil {
			return "", errors.New("key64 is not URL-safe base64 without padding")
		}
		key = string(b)
	}
	if len(key) > maxKey {
		return "", fmt.Errorf("a key of %d bytes is longer than the console takes, which is %d", len(key), maxKey)
	}
	return key, nil
}

// asked finds the cache that a query names.
func (h *handler) asked(w http.ResponseWriter, r *http.Request) (*cache, url.Values) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, "the query is not one")
		return nil, nil
	}
	c := h.byID[query.Get("cache")]
	if c == nil {
		refuse(w, http.StatusNotFound, "no such cache: api/caches lists them")
	}
	return c, query
}

type keyList struct {
	Tracked bool       `json:"tracked"` // Config.Track is set
	Hot     []hotKey   `json:"hot"`
	Stale   []staleKey `json:"stale"`
}

type hotKey struct {
	keyText
	Reads float64 `json:"reads"` // a second
}

type staleKey struct {
	keyText
	Age float64 `json:"age"` // in seconds
}

func (h *handler) serveKeys(w http.ResponseWriter, r *http.Request) {
	c, _ := h.asked(w, r)
	if c == nil {
		return
	}
	hot, stale := c.HotKeys(), c.StaleKeys()
	list := keyList{Tracked: hot != nil, Hot: make([]hotKey, len(hot)), Stale: make([]staleKey, len(stale))}
	for i, k := range hot {
		list.Hot[i] = hotKey{textOf(k.Key), rounded(k.Reads)}
	}
	for i, k := range stale {
		list.Stale[i] = staleKey{textOf(k.Key), rounded(k.Age.Seconds())}
	}
	answer(w, http.StatusOK, list)
}
