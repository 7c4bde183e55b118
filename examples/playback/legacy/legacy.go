// Package legacy simulates the service that the platform stands in front of:
// what has answered the players so far, and the three services behind it. They
// are slow, bear no more than they were built for, and break on command.
package legacy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// The services.
const (
	Metadata = "metadata" // and artwork, and recommendations
	Streams  = "streams"
	Ads      = "ads"
)

// Options are what a Legacy is started with.
type Options struct {
	Titles      int           // of tonight's schedule: TitleID(0) and on
	Archive     int           // of older titles: ArchiveID(0) and on
	StreamValid time.Duration // how long a signed stream URL is good for
}

// Legacy is a server on the loopback interface.
type Legacy struct {
	catalogue
	metadata, streams, ads *service

	listener net.Listener
	server   *http.Server
	served   chan error // what Serve returned; Close receives it
}

// Start starts one at a free port.
func Start(o Options) (*Legacy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Legacy{
		catalogue: catalogue{o: o},
		metadata:  newService(limits{AtOnce: 24, PerSecond: 300}, 6*time.Millisecond),
		streams:   newService(limits{AtOnce: 48, PerSecond: 600}, 8*time.Millisecond),
		ads:       newService(limits{AtOnce: 16, PerSecond: 150}, 5*time.Millisecond),
		listener:  l, served: make(chan error, 1),
	}
	s.server = &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { s.served <- s.server.Serve(l) }() // Close waits for it
	return s, nil
}

// URL is where it is, without a slash at the end.
func (s *Legacy) URL() string { return "http://" + s.listener.Addr().String() }

// Close lets the calls under way end, until ctx does.
func (s *Legacy) Close(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	<-s.served
	return err
}

// Handler is the server's.
func (s *Legacy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata", s.many(s.metadata, "ids", func(id string) (any, bool) { return s.metadataOf(id), s.knows(id) }))
	mux.HandleFunc("GET /artwork", s.many(s.metadata, "ids", func(id string) (any, bool) { return s.artworkOf(id), s.knows(id) }))
	mux.HandleFunc("GET /recommendations", s.many(s.metadata, "ids", func(id string) (any, bool) { return s.recommendationsFor(id), s.knows(id) }))
	mux.HandleFunc("GET /ads", s.many(s.ads, "pods", func(pod string) (any, bool) { return s.adsOf(pod), true }))
	mux.HandleFunc("GET /streams/{id}", s.stream)
	mux.HandleFunc("GET /v1/playback", s.playback)
	s.chaosRoutes(mux)
	return mux
}

// many answers for several keys with one call: those that exist.
func (s *Legacy) many(behind *service, param string, of func(key string) (any, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		keys := list(r, param)
		if status := behind.call(r.Context(), len(keys)); status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		found := make(map[string]any, len(keys))
		for _, key := range keys {
			if v, ok := of(key); ok {
				found[key] = v
			}
		}
		writeJSON(w, found)
	}
}

// stream signs the URL of one title.
func (s *Legacy) stream(w http.ResponseWriter, r *http.Request) {
	status := s.streams.call(r.Context(), 1)
	id := r.PathValue("id")
	if status == http.StatusOK && !s.knows(id) {
		status = http.StatusNotFound
	}
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	writeJSON(w, s.streamOf(id))
}

// playback is how players were answered before there was a platform: by asking
// every service for every request. When one fails, all of the answer does. Its
// own calls are not among those that the services limit.
func (s *Legacy) playback(w http.ResponseWriter, r *http.Request) {
	ids, parts := list(r, "ids"), list(r, "parts")
	wants := func(part wire.Part) bool { return len(parts) == 0 || slices.Contains(parts, string(part)) }
	for part, behind := range map[wire.Part]*service{
		wire.PartMetadata: s.metadata, wire.PartArtwork: s.metadata, wire.PartRecommendations: s.metadata,
		wire.PartStream: s.streams, wire.PartAds: s.ads,
	} {
		if !wants(part) {
			continue
		}
		if status := behind.callOld(r.Context(), len(ids)); status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
	}
	var a wire.Answer
	for _, id := range ids {
		if !s.knows(id) {
			a.Unknown = append(a.Unknown, id)
			continue
		}
		a.Titles = append(a.Titles, s.title(id, wants))
	}
	writeJSON(w, a)
}

// list returns what a parameter lists, separated by commas: each once.
func list(r *http.Request, param string) (keys []string) {
	for key := range strings.SplitSeq(r.FormValue(param), ",") {
		if key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs
	_ = enc.Encode(v)        // who left does not mind
}
