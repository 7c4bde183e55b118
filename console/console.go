package console

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// Part is what a console is made of: a cache, as every *[dewar.Cache] is, or
// what [Actions] returns. Its methods are the cache's; Name, Dial and LogKey
// answer at once.
type Part interface {
	Name() string
	Stats() dewar.Stats
	Dial() *dewar.Defcon
	HotKeys() []dewar.HotKey
	StaleKeys() []dewar.StaleKey
	Inspect(ctx context.Context, key string) (dewar.Inspection, error)
	Operate(ctx context.Context, op dewar.Operation, key string) error
	LogKey(key string) string
}

// Handler returns a handler for the page of these caches, in this order, and
// for all that the page needs. Caches of the same name are told apart by a
// number. It panics when a part is nil, and on a second [Actions].
func Handler(parts ...Part) http.Handler {
	h := &handler{byID: make(map[string]*cache), within: writeWithin}
	for i, p := range parts {
		switch p := p.(type) {
		case nil:
			panic(fmt.Sprintf("console: part %d of Handler is nil", i))
		case *actions:
			if h.actions != nil {
				panic("console: Handler was given Actions twice")
			}
			h.actions = p
		default:
			h.add(p)
		}
	}
	h.live = newLive(h.caches, h.dials)
	h.routes = map[string]http.HandlerFunc{
		"":            page("index.html"),
		"api/caches":  h.serveCaches,
		"api/events":  h.serveEvents,
		"api/inspect": h.serveInspect,
		"api/keys":    h.serveKeys,
	}
	for _, name := range assets {
		h.routes[name] = page(name)
	}
	return h
}

// handler is written once, by Handler; what changes is in live.
type handler struct {
	caches  []*cache
	byID    map[string]*cache
	dials   []*dewar.Defcon
	actions *actions // nil: read-only
	live    *live
	within  time.Duration               // writeWithin
	routes  map[string]http.HandlerFunc // those that are read
}

// cache is a Part as the page knows it.
type cache struct {
	Part
	id   string // its name, made unique
	dial int    // in handler.dials: caches may share one

	mu      sync.Mutex // mu guards looking
	looking *look      // under way; nil: none is
}

func (h *handler) add(p Part) {
	c := &cache{Part: p, id: p.Name(), dial: -1}
	for n := 2; h.byID[c.id] != nil; n++ {
		c.id = fmt.Sprintf("%s #%d", p.Name(), n)
	}
	for i, d := range h.dials {
		if d == p.Dial() {
			c.dial = i
		}
	}
	if c.dial < 0 {
		c.dial = len(h.dials)
		h.dials = append(h.dials, p.Dial())
	}
	h.byID[c.id] = c
	h.caches = append(h.caches, c)
}

// policy lets the page use what comes from this handler, and nothing else:
// no inline script or style, no text that becomes markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cache-Control", "no-store")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")

	h.live.know(serverOf(r))
	if r.URL.Path == "" && redirectBelow(w, r) { // StripPrefix has taken all
		return
	}
	route := h.routeOf(r.URL.Path)
	if h.actions != nil && (route == "api/token" || route == "api/action") {
		h.serveActions(w, r, route)
		return
	}
	serve, found := h.routes[route]
	switch {
	case !found:
		refuse(w, http.StatusNotFound, "there is nothing here")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		head.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "this is read with GET")
	default:
		serve(w, r)
	}
}

// serverOf returns the server that a request came to; nil: it is not known.
func serverOf(r *http.Request) *http.Server {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return server
}

// routeOf returns the path below the one where the handler is mounted, which it
// does not know, and which may end in api itself: a last element that it serves,
// or one that is in api.
func (h *handler) routeOf(p string) string {
	dir, last := path.Split(p)
	if _, asset := h.routes[last]; !asset && (dir == "api/" || strings.HasSuffix(dir, "/api/")) {
		return "api/" + last
	}
	return last
}

// redirectBelow sends a browser from /debug/dewar to /debug/dewar/, which
// relative paths are below, and reports whether it has. The leading dot keeps
// the element from being anything but one.
func redirectBelow(w http.ResponseWriter, r *http.Request) bool {
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil || u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return false
	}
	w.Header().Set("Location", "./"+url.PathEscape(path.Base(u.Path))+"/")
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true
}

//go:embed page
var files embed.FS

// assets are the names of all that the page is made of.
var assets = func() (names []string) {
	entries, err := fs.ReadDir(files, "page")
	if err != nil {
		panic(err) // it is part of the program
	}
	for _, e := range entries {
		if e.Name() != "index.html" {
			names = append(names, e.Name())
		}
	}
	return names
}()

// page serves one file of the page. The types are given here, since mime's
// depend on the machine.
func page(name string) http.HandlerFunc {
	body, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err)
	}
	kind := map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
		".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}[path.Ext(name)]
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // who left does not mind
	}
}

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who left does not mind
}

// refuse sends an error as JSON.
func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}

// isJSON reports whether a body is said to be JSON, which a page of another
// site cannot say without asking first.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}
