package console

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

// What users write must compile.
var _ = func(a, b *dewar.Cache[string, int]) []http.Handler {
	return []http.Handler{Handler(a, b), Handler(a, Actions(anna)), Handler(a, Actions(anna, AuditTo(nil)))}
}

func TestItWorksBelowAnyPrefix(t *testing.T) {
	h := Handler(newFake("videos"))
	mux := http.NewServeMux()
	mux.Handle("/debug/dewar/", h)
	mux.Handle("/stripped/", http.StripPrefix("/stripped/", h))
	mux.Handle("/slashless", http.StripPrefix("/slashless", h))
	mux.Handle("/slashless/", http.StripPrefix("/slashless", h))
	mux.Handle("/api/caches/", h) // a prefix that looks like a path of ours
	root := http.NewServeMux()
	root.Handle("/", h)

	for prefix, h := range map[string]http.Handler{
		"/debug/dewar/": mux, "/stripped/": mux, "/slashless/": mux, "/api/caches/": mux, "/": root,
	} {
		for path, want := range map[string]string{
			"": "<title>dewar console</title>", "app.js": "import", "app.css": ":root", "icon.svg": "<svg",
			"api/caches": `"name":"videos"`, "api/keys?cache=videos": `"tracked":false`, "api/inspect?cache=videos&key=a": `"key":"a"`,
		} {
			r := ask(h, "GET", prefix+path, "")
			if body := read(t, r); r.StatusCode != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s%s: %d, %.200s", prefix, path, r.StatusCode, body)
			}
		}
		for _, path := range []string{"nothing", "api", "api/nothing", "app.html", "index.html", "api/action", "api/token", "x/api/caches/y"} {
			if r := ask(h, "GET", prefix+path, ""); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s%s: %d", prefix, path, r.StatusCode)
			}
		}
	}
	for target, want := range map[string]string{"/slashless": "./slashless/", "/slashless?x=1": "./slashless/"} {
		if r := ask(mux, "GET", target, ""); r.StatusCode != http.StatusTemporaryRedirect || r.Header.Get("Location") != want {
			t.Errorf("%s: %d to %q", target, r.StatusCode, r.Header.Get("Location"))
		}
	}
}

func TestARedirectStaysOnTheSite(t *testing.T) {
	h := http.StripPrefix("/x", Handler())
	for _, evil := range []string{"//evil.example/x", "/javascript:alert(1)/x", `/\evil.example/x`, "/%2f%2fevil.example/x"} {
		r := ask(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path, r.URL.RawPath, r.RequestURI = "/x", "", evil
			h.ServeHTTP(w, r)
		}), "GET", "/x", "")
		if to := r.Header.Get("Location"); to != "./x/" {
			t.Errorf("from %s to %q", evil, to)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	h := Handler(newFake("videos"), Actions(anna, AuditTo(quiet)))
	for _, path := range []string{"", "app.js", "app.css", "icon.svg", "api/caches", "api/inspect", "api/keys", "api/token", "api/action", "nothing"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "DELETE"} {
			head := ask(h, method, "/debug/"+path, "").Header
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
					"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			} {
				if head.Get(name) != want {
					t.Errorf("%s %s: %s is %q", method, path, name, head.Get(name))
				}
			}
			if head.Get("Content-Type") == "" {
				t.Errorf("%s %s has no type", method, path)
			}
			if head.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s lets other sites read", method, path)
			}
		}
	}
}

func TestReadingIsDoneWithGET(t *testing.T) {
	h := Handler(newFake("videos"))
	for _, path := range []string{"", "app.js", "api/caches", "api/inspect?cache=videos&key=a", "api/keys?cache=videos", "api/events"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
			r := ask(h, method, "/"+path, "{}")
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow: %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
		if r := ask(h, "HEAD", "/"+path, ""); r.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %d", path, r.StatusCode)
		}
	}
}

// The policy forbids them: a page that had one would be broken.
func TestThePageHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	for _, name := range append([]string{"index.html"}, assets...) {
		body, err := files.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, forbidden := range []string{
			`<script(\s[^>]*)?>[^<]`, `<style`, `\sstyle="`, `\son[a-z]+="`, `innerHTML`, `outerHTML`, `insertAdjacentHTML`,
			`document\.write`, `\beval\(`, `new Function`, `DOMParser`, `\bhttps?://`, `@import`, `url\(`, `="data:`,
		} {
			if name == "icon.svg" && strings.Contains(forbidden, "http") {
				continue // its namespace
			}
			if m := regexp.MustCompile(forbidden).Find(body); m != nil {
				t.Errorf("%s has %q", name, m)
			}
		}
	}
}

func TestCachesOfOneNameAreToldApart(t *testing.T) {
	shared := new(dewar.Defcon)
	a, b, c, d := newFake("videos"), newFake("videos"), newFake("videos #2"), newFake("videos")
	a.dial, c.dial = shared, shared
	h := Handler(a, b, c, d)
	list := decoded[catalogue](t, ask(h, "GET", "/api/caches", ""), http.StatusOK)
	var ids []string
	var dials []int
	for _, c := range list.Caches {
		ids, dials = append(ids, c.ID), append(dials, c.Dial)
	}
	if got := strings.Join(ids, ", "); got != "videos, videos #2, videos #2 #2, videos #3" {
		t.Error(got)
	}
	if len(list.Dials) != 3 || dials[0] != dials[2] || dials[0] == dials[1] || dials[1] == dials[3] {
		t.Errorf("%d dials, of the caches %v", len(list.Dials), dials)
	}
}

func TestWhatHandlerIsNotToBeGiven(t *testing.T) {
	for name, build := range map[string]func(){
		"nil":               func() { Handler(newFake("a"), nil) },
		"Actions twice":     func() { Handler(Actions(anna), Actions(anna)) },
		"without authorise": func() { Actions(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, "console: ") {
					t.Errorf("it panics with %q", p)
				}
			}()
			build()
		})
	}
}
