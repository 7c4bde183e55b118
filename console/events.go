package console

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// writeWithin is how long a client may take to receive an event.
const writeWithin = 10 * time.Second

// serveEvents serves the live part: "hello", which is what api/caches answers,
// "history", which is an array of samples, and then a "sample" a second, which
// is the heartbeat too, and "dials" when one was turned.
//
// Server.WriteTimeout is for answers that end; here each write has a deadline of
// its own. Where that is not supported, Write itself must notice that the client
// is gone.
func (h *handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store, no-transform")
	head.Set("X-Accel-Buffering", "no") // nginx would collect the events
	if r.Method == http.MethodHead {
		return
	}
	listener, history, err := h.live.join(serverOf(r))
	if err != nil {
		head.Set("Retry-After", "30")
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer h.live.leave(listener)

	out := stream{w, http.NewResponseController(w), h.within}
	if err := out.rc.Flush(); errors.Is(err, http.ErrNotSupported) {
		refuse(w, http.StatusInternalServerError, "events cannot be streamed: a middleware before the console hides http.Flusher (give it an Unwrap method)")
		return
	}
	err = errors.Join(
		out.send([]byte("retry: 3000\n\n")),
		out.send(event("hello", asJSON(h.catalogue()))),
		out.sendLong(event("history", arrayOf(history))),
	)
	for err == nil {
		select {
		case e, ok := <-listener.events:
			if !ok {
				_ = out.send(event("bye", asJSON(map[string]string{"error": listener.why.Error()})))
				return
			}
			err = out.send(e)
		case <-r.Context().Done():
			return
		}
	}
}

// arrayOf makes one JSON array of several encoded values.
func arrayOf(values [][]byte) []byte {
	return fmt.Appendf(nil, "[%s]", bytes.Join(values, []byte(",")))
}

// stream writes events, each within its time.
type stream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	within time.Duration
}

// sendLong sends what a slow connection need not receive within one deadline.
func (s *stream) sendLong(event []byte) error {
	for part := range slices.Chunk(event, 64<<10) {
		if err := s.send(part); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) send(event []byte) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(s.within)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(event); err != nil {
		return err
	}
	return s.rc.Flush()
}

// patiently takes the deadline of an answer away, which may have to wait for the
// remote tier or the origin for longer than Server.WriteTimeout. The function
// that it returns gives it another, once the answer is written.
func patiently(w http.ResponseWriter) (written func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // where that is not supported, it stays as it is
	return func() { _ = rc.SetWriteDeadline(time.Now().Add(writeWithin)) }
}
