package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/console"
)

func TestGraphsMoveUnderLoad(t *testing.T) {
	s := newStage(t)
	tb := openTab(t, serve(t, s.handler()))
	const said = `document.querySelector('[data-graph="reads"]').getAttribute("aria-label")`
	const drawn = `document.querySelector('[data-graph="reads"]').toDataURL()`
	tb.until("the page says that there are no reads yet", said+`.includes("no reads yet")`)
	still := eval[string](tb, drawn)

	s.load(t)
	tb.until("reads are told", `/reads [1-9]/.test(`+said+`)`)
	moving := eval[string](tb, drawn)
	if moving == still {
		t.Error("the graph of reads is as it was without any")
	}
	tb.until("the graph moves on", drawn+` !== `+fmt.Sprintf("%q", moving))
	for graph, words := range map[string]string{
		"answers": `/local tier [1-9]/`, "origin": `/calls [1-9]/`, "latency": `/load p99 [1-9]/`, "memory": `/entries [1-9]/`,
	} {
		tb.until(graph+" moves", words+`.test(document.querySelector('[data-graph="`+graph+`"]').getAttribute("aria-label"))`)
	}
	tb.until("the overview tells too", `/^[1-9]/.test(document.querySelector("#overview tbody td b").textContent)`)
}

func TestAPageThatOpensHasThePast(t *testing.T) {
	s := newStage(t)
	s.load(t)
	url := serve(t, s.handler())
	first := openTab(t, url)
	const points = `import("./store.js").then((m) => m.state.samples.length)`
	first.until("some seconds have passed", `document.querySelector('[data-graph="reads"]').getAttribute("aria-label").includes("reads ")`)
	before := run(first, chromedp.Evaluate[int](points, chromedp.EvalAwaitPromise))
	if now := run(openTab(t, url), chromedp.Evaluate[int](points, chromedp.EvalAwaitPromise)); now < before {
		t.Errorf("the second page begins with %d seconds, the first had %d", now, before)
	}
}

func TestTheInspectorFindsAKey(t *testing.T) {
	s := newStage(t)
	if _, err := s.videos.Get(t.Context(), "video-042"); err != nil {
		t.Fatal(err)
	}
	s.videos.KeepWarm("video-042")
	tb := openTab(t, serve(t, s.handler()))
	tb.find("video-042")
	found := eval[string](tb, `document.querySelector("#found").innerText`)
	for _, want := range []string{"video-042", "pinned", "local tier", "remote tier", "loaded", "dead in", "its load took"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not in what was found:\n%s", want, found)
		}
	}
	if eval[int](tb, `document.querySelectorAll("#found button, button.turn").length`) > 0 {
		t.Error("there are buttons without Actions")
	}
	if footer := eval[string](tb, `document.querySelector("footer").innerText`); !strings.Contains(footer, "Read-only") || !strings.Contains(footer, "your own authentication") {
		t.Error("the page does not say that it is read-only and wants authentication before it: ", footer)
	}
	tb.find("nobody-has-it")
	if found := eval[string](tb, `document.querySelector("#found").innerText`); strings.Count(found, "it is not there") != 2 {
		t.Error("what is not there is shown as ", found)
	}
}

func TestButtonsDoWhatTheySay(t *testing.T) {
	s := newStage(t)
	mustGet(t, s.users, "anna")
	tb := openTab(t, serve(t, s.handler(s.withActions()))+"#users")
	tb.find("anna")
	press := func(op, then string) {
		t.Helper()
		tb.js(`document.querySelector('[data-op="` + op + `"]').focus()`)
		tb.press(kb.Enter)
		tb.until(op+" is done", `document.querySelector(".result").textContent.includes("Done.") && `+then)
	}
	inLocal := func(what string) string {
		return `document.querySelector('[data-tier="local"]').innerText.includes("` + what + `")`
	}
	press("pin", `document.querySelector("#found").innerText.includes("pinned")`)
	if n := s.users.Stats().Pinned; n != 1 {
		t.Error("pinned keys:", n)
	}
	if at := eval[string](tb, `document.activeElement.dataset.op ?? ""`); at != "unpin" {
		t.Errorf("the focus is at %q, not where pin was", at)
	}
	press("unpin", `!document.querySelector("#found").innerText.includes("pinned")`)
	press("invalidate", inLocal("not there"))
	if _, err := s.users.Get(t.Context(), "anna", dewar.CacheOnly()); !errors.Is(err, dewar.ErrNotCached) {
		t.Error("after invalidate:", err)
	}
	press("refresh", inLocal("fresh"))
	if _, err := s.users.Get(t.Context(), "anna", dewar.CacheOnly()); err != nil {
		t.Error("after refresh:", err)
	}
	press("expire", inLocal("not there")) // users has no stale window
	for _, op := range []string{"pin", "unpin", "invalidate", "refresh", "expire"} {
		if !strings.Contains(s.audit.String(), "who=anna op="+op+` cache=users key="\"anna\""`) {
			t.Errorf("%s is not in the log:\n%s", op, s.audit.String())
		}
	}
}

func mustGet(t *testing.T, c *dewar.Cache[string, string], key string) {
	t.Helper()
	if _, err := c.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func TestTheDialTurnsRealCaches(t *testing.T) {
	s := newStage(t)
	tb := openTab(t, serve(t, s.handler(s.withActions())))
	open := func() {
		t.Helper()
		tb.js(`document.querySelector("button.turn").focus()`)
		tb.press(kb.Enter)
		tb.until("the dialog is open", `document.querySelector("#dial[open] :focus")`)
	}
	open()
	if text := eval[string](tb, `document.querySelector("#dial").innerText`); !strings.Contains(text, "videos, titles, which share this dial") {
		t.Error("the dialog does not say whom the dial is shared with: ", text)
	}
	tb.press(kb.Escape)
	tb.until("Esc has closed it", `!document.querySelector("#dial[open]")`)
	if s.dial.Level() != dewar.Normal {
		t.Fatal("Esc has turned the dial")
	}

	open()
	tb.press(strings.Repeat(kb.ArrowDown, 4)) // from normal to lockdown
	tb.press(kb.Tab + "the final" + kb.Enter)
	tb.until("the page shows it", `document.querySelector(".head").innerText.includes("DEFCON 1 lockdown")`)
	if s.dial.Level() != dewar.Lockdown {
		t.Fatal("the dial is at ", s.dial.Level())
	}
	for _, c := range []*dewar.Cache[string, string]{s.videos, s.titles} {
		if _, err := c.Get(t.Context(), "cold"); !errors.Is(err, dewar.ErrDefcon) {
			t.Errorf("%s answers %v", c.Name(), err)
		}
	}
	if last := s.dial.LastTurn(); last.Who != "anna" || last.Why != "the final" || last.Via != dewar.ViaHTTP {
		t.Errorf("turned by %+v", last)
	}
	tb.until("the page says who and why", `document.querySelector(".head .about").innerText.includes("by anna (http): the final")`)
	if !strings.Contains(s.audit.String(), `op=defcon cache=videos level=1 why="the final"`) {
		t.Error("it is not in the log: ", s.audit.String())
	}
}

func TestARefusedActionSaysWhy(t *testing.T) {
	s := newStage(t)
	tb := openTab(t, serve(t, s.handler(console.Actions(func(*http.Request) (string, error) {
		return "bob", errors.New("bob is not on call")
	}))))
	tb.find("video-001")
	tb.js(`document.querySelector('[data-op="invalidate"]').click()`)
	tb.until("the reason is told", `document.querySelector(".result.failure")?.textContent.includes("bob is not on call")`)
	tb.expect("403")
}

func TestTheKeyboardDoesEverything(t *testing.T) {
	s := newStage(t)
	s.load(t)
	tb := openTab(t, serve(t, s.handler(s.withActions())))
	title := `document.querySelector("h2").textContent`
	for i, name := range []string{"videos", "titles", "users"} {
		tb.press(fmt.Sprint(i + 1))
		tb.until("a digit chooses "+name, title+`==="`+name+`"`)
	}
	tb.press("9") // there is none
	tb.press("1")
	tb.until("the first is back", title+`==="videos"`)

	tb.press("/")
	tb.js(`document.activeElement.value = ""`)
	tb.press("12p")
	if v := eval[string](tb, `document.querySelector("#key").value`); v != "12p" || eval[string](tb, title) != "videos" {
		t.Errorf("typing a key: the field has %q, the cache is %s", v, eval[string](tb, title))
	}
	tb.press(kb.Escape)
	tb.press(kb.Escape)
	tb.until("Esc leaves the field", `document.activeElement === document.body && document.querySelector("#key").value === ""`)

	tb.press("p")
	tb.until("p pauses", `document.querySelector("#link").textContent.startsWith("paused at")`)
	tb.press("p")
	tb.until("p goes on", `document.querySelector("#link").textContent === "live"`)
	tb.press("?")
	tb.until("? helps", `document.querySelector("#help[open]")`)
	tb.press(kb.Escape)

	tb.js(`document.querySelector('[data-graph="reads"]').focus()`)
	tb.until("there are seconds to read", `document.querySelector('[data-graph="reads"]').getAttribute("aria-label").match(/reads [1-9]/)`)
	tb.press(kb.ArrowLeft)
	tb.until("the arrow reads a value aloud", `/^[0-9:]+: reads [0-9]/.test(document.querySelector("#spoken").textContent)`)

	// All that can be used is reached by Tab, in the order of the page, and shows it.
	tb.js(`document.querySelector(".skip").focus()`)
	order := []string{"skip"}
	for range 60 {
		tb.press(kb.Tab)
		here := eval[string](tb, `(() => {
			const e = document.activeElement, o = getComputedStyle(e);
			if (e === document.body) return "";
			if (o.outlineStyle === "none" || parseFloat(o.outlineWidth) < 1) return "no focus ring: " + e.outerHTML.slice(0, 80);
			return e.id || e.className || e.dataset.graph || e.textContent;
		})()`)
		if strings.HasPrefix(here, "no focus ring") {
			t.Error(here)
		}
		if here == "" {
			break
		}
		order = append(order, here)
	}
	at := 0
	for _, want := range []string{"1 min", "5 min", "pause", "help-open", "1videos", "2titles", "3users", "turn", "reads", "memory", "key"} {
		next := slices.Index(order, want)
		if next <= at {
			t.Errorf("%s is at place %d of the tab order, after %d: %q", want, next, at, order)
		}
		at = next
	}
}

func TestALostConnectionIsToldAndMended(t *testing.T) {
	s := newStage(t)
	s.load(t)
	mux := http.NewServeMux()
	mux.Handle("/debug/dewar/", s.handler())
	srv := httptest.NewServer(mux)
	address := srv.Listener.Addr().String()
	tb := openTab(t, srv.URL+"/debug/dewar/")
	tb.until("something is drawn", `document.querySelector('[data-graph="reads"]').getAttribute("aria-label").match(/reads [1-9]/)`)

	srv.CloseClientConnections()
	srv.Close()
	tb.until("the loss is told", `document.querySelector(".link").textContent.match(/^cannot reach the server, retrying in [1-3] s$/)`)
	tb.until("what is shown is dated", `document.querySelector("#banner").checkVisibility() && document.querySelector("#banner").textContent.includes("What you see is from ")`)
	tb.shoot("lost", false)

	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { // ends with back.Close
		defer close(done)
		_ = back.Serve(l)
	}()
	t.Cleanup(func() {
		back.Close()
		<-done
	})
	tb.until("it is live again", `document.querySelector("#link").textContent === "live" && !document.querySelector("#banner").checkVisibility()`)
	tb.expect("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
}

func TestAPageThatNobodySeesFallsAsleep(t *testing.T) {
	s := newStage(t)
	tb := openTab(t, serve(t, s.handler()))
	hide := func(hidden bool) {
		tb.js(`Object.defineProperty(document, "hidden", {value: ` + fmt.Sprint(hidden) + `, configurable: true});
			document.dispatchEvent(new Event("visibilitychange"))`)
	}
	tb.js(`const set = setTimeout; window.setTimeout = (f, ms) => set(f, ms === 30000 ? 1 : ms)`) // its patience
	hide(true)
	tb.until("it sleeps", `document.querySelector("#link").textContent === "asleep"`)
	asked := tb.asks("api/events")
	hide(false)
	tb.until("it wakes up", `document.querySelector("#link").textContent === "live"`)
	if now := tb.asks("api/events"); now != asked+1 {
		t.Errorf("it had asked for events %d times asleep, and %d awake", asked, now)
	}
}

func TestOneWatcherTooManyIsToldWhy(t *testing.T) {
	s := newStage(t)
	url := serve(t, s.handler())
	for range 64 {
		r, err := http.Get(url + "api/events")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
	}
	tb := newTab(t, url)
	tb.do(chromedp.Navigate(url))
	tb.until("the reason is told", `document.querySelector("#banner").textContent.includes("64 pages are watching already")`)
	tb.expect("503")
}

func TestClosedAndEmptyAreTold(t *testing.T) {
	s := newStage(t)
	url := serve(t, s.handler())
	s.titles.Close()
	tb := openTab(t, url+"#titles")
	tb.until("the cache is told to be closed", `document.querySelector(".notice").checkVisibility() && document.querySelector(".notice").textContent.includes("is closed")`)
	if pills := eval[string](tb, `document.querySelector("#overview").innerText`); !strings.Contains(pills, "closed") {
		t.Error("the overview does not tell: ", pills)
	}
	none := newTab(t, serve(t, console.Handler()))
	none.do(chromedp.Navigate(none.url))
	none.until("no cache at all is told", `document.querySelector("#empty").textContent.includes("There is no cache here")`)
}
