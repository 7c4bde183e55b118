package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/playback/legacy"
)

const serveUsage = `
With -serve it prints where the API and the legacy service are, and the logger writes to
stderr. TTLs are those of a night of -duration.

	curl -i "$API/v1/playback?ids=title-0001,title-0002&parts=stream,ads"
	curl    "$API/stats"
	curl    "$API/healthz"
	curl -X PUT "$API/defcon" -H 'Content-Type: application/json' \
	     -d '{"level":3,"who":"you","why":"to see"}'
	curl -X PUT "$API/rollout?percent=50"
	curl -X PUT "$LEGACY/chaos/streams?fail=1"              metadata, streams or ads
	curl -X PUT "$LEGACY/chaos/metadata?latency=400ms"
	curl -X PUT "$LEGACY/chaos/ads?at_once=2&per_second=10"
	curl -X DELETE "$LEGACY/chaos"                          everything is well again
`

// serve serves until ctx ends, and then answers what is under way.
func serve(ctx context.Context, set settings, srv redisd.Server, stdout, stderr io.Writer) error {
	s, err := openStage(set, srv, slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	_ = s.platform.Rollout().Set(100)
	fmt.Fprintf(stdout, `API=%s
LEGACY=%s
# %d titles, %s to %s; Redis: %s; -h shows what to ask for
`, s.url, s.legacy.URL(), titleCount, legacy.TitleID(0), legacy.TitleID(titleCount-1), srv)
	if err := s.warm(ctx); err != nil {
		show.Error(stderr, "playback", err) // players will ask, and the caches with them
	}
	select {
	case <-ctx.Done():
	case <-s.served: // by itself
	}
	return s.close()
}
