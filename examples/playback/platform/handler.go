package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// playback answers players, on the path that the viewer is on.
func (p *Platform) playback(w http.ResponseWriter, r *http.Request) {
	req, err := parseRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !p.rollout.New(req.viewer) {
		p.old.ServeHTTP(w, r.WithContext(withRequest(r.Context(), req)))
		return
	}
	a := p.answer(r.Context(), req)
	if r.Context().Err() != nil {
		return // the player has left
	}
	p.count(&a)
	w.Header().Set("Cache-Status", cacheStatus(a.readings))
	if age := age(a.readings); age != "" {
		w.Header().Set("Age", age)
	}
	w.Header().Set("Cache-Control", "private, no-store") // URLs are signed, and ads are the viewer's
	writeJSON(w, a.statusCode(w.Header()), a.Answer)
	if p.shadow.wanted() {
		p.shadow.offer(shadowJob{req: req, after: &a.Answer})
	}
}

// statusCode is 200 as long as there is something to play.
func (a *answered) statusCode(h http.Header) int {
	switch {
	case len(a.Titles) == 0:
		return http.StatusNotFound
	case !a.playable:
		if a.Retry {
			h.Set("Retry-After", "1")
		}
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// requestKey is under which the old path finds what it is to answer.
type requestKey struct{}

func withRequest(ctx context.Context, req request) context.Context {
	return context.WithValue(ctx, requestKey{}, req)
}

// newOldPath sends players to the legacy service, as it was before.
func newOldPath(p *Platform) (http.Handler, error) {
	target, err := url.Parse(p.cfg.Legacy)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport: p.legacy.http.Transport,
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Set("Cache-Status", bypassed(resp.StatusCode))
			if req, ok := resp.Request.Context().Value(requestKey{}).(request); ok && p.shadow.wanted() {
				return p.shadowOld(req, resp)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
		},
	}, nil
}

// shadowOld reads an answer of the old path, on its way to the player, to have
// it compared.
func (p *Platform) shadowOld(req request, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	a := new(wire.Answer)
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, a) == nil {
		p.shadow.offer(shadowJob{req: req, before: a})
	}
	return nil
}

// healthz says 503 once the service is about to end, so that no more players
// are sent to it.
func (p *Platform) healthz(w http.ResponseWriter, _ *http.Request) {
	status, says := http.StatusOK, "ok"
	if p.draining.Load() {
		status, says = http.StatusServiceUnavailable, "draining"
	}
	writeJSON(w, status, map[string]string{"status": says, "defcon": p.dial.Level().String()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs
	_ = enc.Encode(v)        // who left does not mind
}

// drainFor is how long Serve waits for the requests under way.
const drainFor = 10 * time.Second

// Serve serves the API on l until ctx ends. Then, after Config.Grace, it accepts
// no more, and returns when the requests under way are answered, or drainFor is
// over.
func (p *Platform) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           p.handler,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }() // waited for below
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	p.draining.Store(true)
	time.Sleep(p.cfg.Grace)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	err := srv.Shutdown(patience)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	<-served
	return err
}

// Stats is a snapshot of everything that is counted.
type Stats struct {
	Level    dewar.Level                                `json:"level"`
	Percent  int                                        `json:"rollout_percent"`
	Caches   map[wire.Part]dewar.Stats                  `json:"caches"`
	Features map[dewar.Level]map[wire.Part]FeatureCount `json:"features"` // by level
	Shadow   ShadowStats                                `json:"shadow"`
	Uncached int64                                      `json:"uncached_calls"` // of the legacy services, if there were no caches
}

// Stats returns a snapshot.
func (p *Platform) Stats() Stats {
	s := Stats{
		Level: p.dial.Level(), Percent: p.rollout.Percent(), Caches: make(map[wire.Part]dewar.Stats),
		Features: p.tallies.snapshot(), Shadow: p.shadow.stats(), Uncached: p.uncached.Load(),
	}
	for _, part := range p.parts {
		s.Caches[part.name()] = part.stats()
	}
	return s
}

func (p *Platform) showStats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, p.Stats())
}
