package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// client calls the legacy services. Its methods are the loaders of the caches.
type client struct {
	base string
	http *http.Client
}

// maxBody bounds what is read of an answer.
const maxBody = 4 << 20

func newClient(base string) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 128 // what the guards let through at once, so that no call waits for a handshake
	transport.MaxIdleConns = 0
	transport.IdleConnTimeout = 30 * time.Second
	return &client{base: base, http: &http.Client{Transport: transport}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// statusError is an answer that is not 200.
type statusError struct {
	code int
	path string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("legacy: %s answered %d %s", e.path, e.code, http.StatusText(e.code))
}

// get decodes the answer to a GET. How long it may take is up to ctx: within a
// cache that is Flight.Timeout.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, maxBody)
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, body) // so that the connection can be used again
		return &statusError{resp.StatusCode, path}
	}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("legacy: %s: %w", path, err)
	}
	_, _ = io.Copy(io.Discard, body)
	return nil
}

// many asks for several keys with one call. Those that do not exist are not in
// the map.
func many[V any](c *client, path, param string) func(context.Context, []string) (map[string]V, error) {
	return func(ctx context.Context, keys []string) (map[string]V, error) {
		found := make(map[string]V, len(keys))
		err := c.get(ctx, path, url.Values{param: {strings.Join(keys, ",")}}, &found)
		if err != nil {
			return nil, err
		}
		return found, nil
	}
}

// stream asks for the signed URL of one title.
func (c *client) stream(ctx context.Context, id string) (wire.Stream, error) {
	var s wire.Stream
	err := c.get(ctx, "/streams/"+url.PathEscape(id), nil, &s)
	if status, ok := errors.AsType[*statusError](err); ok && status.code == http.StatusNotFound {
		return s, fmt.Errorf("stream %q: %w", id, dewar.ErrNotFound)
	}
	return s, err
}

// playback asks for what the legacy service would have answered a player.
func (c *client) playback(ctx context.Context, req request) (*wire.Answer, error) {
	a := new(wire.Answer)
	return a, c.get(ctx, "/v1/playback", req.query(), a)
}
