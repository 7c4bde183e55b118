package platform

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// request is GET /v1/playback?ids=a,b&parts=stream,ads.
type request struct {
	ids    []string // each once, in the order in which they were asked for
	parts  []wire.Part
	viewer string
}

const (
	maxIDs      = 100
	maxIDLength = 64
)

func parseRequest(r *http.Request) (req request, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return req, errors.New("the query is not well formed")
	}
	if req.ids, err = parseIDs(q.Get("ids")); err != nil {
		return req, err
	}
	if req.parts, err = parseParts(q.Get("parts")); err != nil {
		return req, err
	}
	req.viewer = viewerOf(r)
	return req, nil
}

func parseIDs(list string) (ids []string, err error) {
	if list == "" {
		return nil, errors.New("ids is empty: name the titles, as in ?ids=title-0001,title-0002")
	}
	if len(list) > maxIDs*(maxIDLength+1) {
		return nil, fmt.Errorf("ids is too long: at most %d titles", maxIDs)
	}
	for id := range strings.SplitSeq(list, ",") {
		switch {
		case !validID(id):
			return nil, fmt.Errorf("%.80q is no id: 1 to %d of a-z A-Z 0-9 . _ -", id, maxIDLength)
		case slices.Contains(ids, id):
			continue
		case len(ids) == maxIDs:
			return nil, fmt.Errorf("too many ids: at most %d", maxIDs)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func validID(id string) bool {
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return 1 <= len(id) && len(id) <= maxIDLength
}

// parseParts returns all parts for an empty list.
func parseParts(list string) (parts []wire.Part, err error) {
	if list == "" {
		return wire.Parts, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		part := wire.Part(name)
		if !slices.Contains(wire.Parts, part) {
			return nil, fmt.Errorf("%.40q is no part: there are %v", name, wire.Parts)
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// viewerOf is who asks, as far as one can tell.
func viewerOf(r *http.Request) string {
	if v := r.Header.Get("X-Viewer"); v != "" {
		return v
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (req request) wants(part wire.Part) bool { return slices.Contains(req.parts, part) }

func (req request) query() url.Values {
	parts := make([]string, len(req.parts))
	for i, p := range req.parts {
		parts[i] = string(p)
	}
	return url.Values{"ids": {strings.Join(req.ids, ",")}, "parts": {strings.Join(parts, ",")}}
}
