package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/dewarcache/dewar"
)

// audit logs an attempt at an action. Before it was admitted, whatever it says
// is a stranger's: it is cut short, and the key stands there only as the cache
// has keys in its log lines.
func (h *handler) audit(r *http.Request, who string, req *request, err error, took time.Duration) {
	outcome, level := "done", slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		switch _, refused := errors.AsType[*refusal](err); {
		case refused:
			outcome = "refused"
		case errors.Is(err, dewar.ErrInvalidationPending):
			outcome = "pending"
		case errors.Is(err, errPanicked):
			outcome = "panicked"
		default:
			outcome = "failed"
		}
	}
	attrs := []slog.Attr{
		slog.String("who", cut(who)), slog.String("op", cut(req.Op)), slog.String("cache", cut(req.Cache)),
	}
	if req.Op == opDefcon {
		attrs = append(attrs, slog.Int("level", req.Level), slog.String("why", cut(req.Why)))
	} else if c := h.byID[req.Cache]; c != nil {
		attrs = append(attrs, slog.String("key", c.LogKey(req.key)))
	}
	attrs = append(attrs, slog.String("remote", r.RemoteAddr), slog.String("outcome", outcome), slog.Duration("took", took))
	if err != nil {
		attrs = append(attrs, slog.String("error", h.auditable(err, req.Cache)))
	}
	// The line is to be written also when the client has gone.
	h.actions.log.LogAttrs(context.WithoutCancel(r.Context()), level, "dewar: console action", attrs...)
}

// auditable is the text of an error. Where a cache hashes its keys it is only that
// of an error which is known to quote none.
func (h *handler) auditable(err error, cache string) string {
	c := h.byID[cache]
	if _, refused := errors.AsType[*refusal](err); refused || c == nil || c.LogKey("key") == strconv.Quote("key") {
		return errorText(err)
	}
	for _, known := range []error{
		dewar.ErrInvalidationPending, dewar.ErrClosed, dewar.ErrNoKey, dewar.ErrNotFound, dewar.ErrTimeout,
		dewar.ErrOverloaded, dewar.ErrBreakerOpen, dewar.ErrDefcon, dewar.ErrUnencodable, context.Canceled, errPanicked,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprintf("%T, whose text is left out as it might hold the key", err)
}

// cut shortens what a stranger may have written.
func cut(s string) string {
	const most = 128
	runes := []rune(s)
	if len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}
