package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var shots = flag.String("shots", "", "a folder for screenshots")

// patience bounds what a page is waited for.
const patience = 30 * time.Second

var browser struct {
	once sync.Once
	ctx  context.Context
	err  error
	end  func()
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if browser.end != nil {
		browser.end()
	}
	os.Exit(code)
}

// openBrowser starts the one browser of all tests, with a profile of its own
// and nothing that calls home.
func openBrowser(t *testing.T) context.Context {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("there is no chromium here: apt-get install chromium")
	}
	browser.once.Do(func() {
		profile, err := os.MkdirTemp("", "dewar-console-")
		if err != nil {
			browser.err = err
			return
		}
		opts := []chromedp.ExecAllocatorOption{
			chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(1440, 900),
			chromedp.WSURLReadTimeout(time.Minute),
		}
		for _, f := range []string{
			"headless", "no-sandbox", "disable-gpu", "no-first-run", "no-default-browser-check",
			"disable-background-networking", "disable-component-update", "disable-sync", "disable-default-apps",
			"disable-extensions", "disable-dev-shm-usage", "mute-audio", "hide-scrollbars",
		} {
			opts = append(opts, chromedp.Flag(f, true))
		}
		allocated, endAll := chromedp.NewExecAllocator(context.Background(), opts...)
		ctx, endBrowser := chromedp.NewContext(allocated)
		browser.ctx, browser.err = ctx, chromedp.Do(ctx)
		browser.end = func() {
			endBrowser()
			endAll()
			os.RemoveAll(profile)
		}
	})
	if browser.err != nil {
		t.Fatal("chromium does not start: ", browser.err)
	}
	return browser.ctx
}

// tab is a page under test. What it logs, throws and asks for is recorded.
type tab struct {
	*testing.T
	ctx context.Context
	url string

	mu       sync.Mutex // mu guards these
	problems []string
	asked    []string
}

// openTab opens a page and waits until it is live. When the test ends nothing
// may have gone wrong in it that was not expected.
func openTab(t *testing.T, url string, before ...step) *tab {
	t.Helper()
	tb := newTab(t, url)
	tb.do(append(before, chromedp.Navigate(url))...)
	tb.until("the page is live", `document.body.dataset.link === "live" && document.querySelectorAll("canvas").length > 0`)
	return tb
}

func newTab(t *testing.T, url string) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(openBrowser(t))
	tb := &tab{T: t, ctx: ctx, url: url}
	t.Cleanup(func() {
		for _, p := range tb.takeProblems() {
			t.Error("in the page: ", p)
		}
		tb.mu.Lock()
		defer tb.mu.Unlock()
		own, _, _ := strings.Cut(url, "#")
		for _, a := range tb.asked {
			if !strings.HasPrefix(a, own) && !strings.HasPrefix(a, "data:") {
				t.Error("the page asks for ", a)
			}
		}
		if len(tb.asked) == 0 {
			t.Error("the page asks for nothing at all: what it asks for is not seen")
		}
		end()
	})
	if err := chromedp.Listen(ctx, tb.record); err != nil {
		t.Fatal(err)
	}
	tb.do(call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{}),
		call(runtime.Enable, cdp.Empty{}), call(page.Enable, page.EnableParams{}))
	return tb
}

// step is what is done to a page.
type step = chromedp.Action[chromedp.Void]

func call[P, R any](cmd cdp.Command[P, R], params P) step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, params)
		return err
	})
}

func (tb *tab) record(event any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		what := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			what = e.ExceptionDetails.Exception.Description
		}
		tb.problems = append(tb.problems, "thrown: "+what)
	case *runtime.EventConsoleAPICalled:
		tb.problems = append(tb.problems, fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value))
	case *log.EventEntryAdded:
		tb.problems = append(tb.problems, fmt.Sprintf("%s %s: %s %s", e.Entry.Level, e.Entry.Source, e.Entry.Text, e.Entry.URL))
	case *page.EventJavascriptDialogOpening:
		tb.problems = append(tb.problems, "a dialog opened: "+e.Message)
	case *network.EventRequestWillBeSent:
		tb.asked = append(tb.asked, e.Request.URL)
	}
}

// expect takes away the problems that one of these is in, and wants one at least.
func (tb *tab) expect(parts ...string) {
	tb.Helper()
	var others []string
	met := false
	for _, p := range tb.takeProblems() {
		if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(p, part) }) {
			met = true
		} else {
			others = append(others, p)
		}
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.problems = append(tb.problems, others...); !met {
		tb.Errorf("the browser's log has none of %q", parts)
	}
}

func (tb *tab) takeProblems() []string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	p := tb.problems
	tb.problems = nil
	return p
}

// asks counts the requests of the page whose address ends so.
func (tb *tab) asks(suffix string) (n int) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, a := range tb.asked {
		if strings.HasSuffix(a, suffix) {
			n++
		}
	}
	return n
}

func (tb *tab) do(steps ...step) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tb.Fatal(err)
	}
}

func run[T any](tb *tab, a chromedp.Action[T]) T {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// eval returns what an expression is in the page.
func eval[T any](tb *tab, js string) T {
	tb.Helper()
	return run(tb, chromedp.Evaluate[T](js))
}

// js runs statements in the page.
func (tb *tab) js(statements string) {
	tb.Helper()
	eval[bool](tb, "(() => {"+statements+"; return true})()")
}

// until waits until an expression is true in the page.
func (tb *tab) until(what, js string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+js+")"))
		if err == nil && ok {
			return
		}
		if ctx.Err() != nil {
			body, _ := chromedp.Run(tb.ctx, chromedp.Evaluate[string](`document.body.innerText`))
			tb.Fatalf("waited in vain until %s (%v); the page says:\n%s", what, err, body)
		}
		time.Sleep(50 * time.Millisecond) // against a real browser
	}
}

// press sends keys to whatever has the focus.
func (tb *tab) press(keys string, opts ...chromedp.KeyOption) {
	tb.Helper()
	tb.do(chromedp.KeyEvent(keys, opts...))
}

// find looks for a key with the keyboard.
func (tb *tab) find(key string) {
	tb.Helper()
	tb.press("/")
	tb.until("the inspector has the focus", `document.activeElement.id === "key"`)
	tb.js(`document.activeElement.value = ""`) // DevTools type the "/" though its keydown is prevented
	tb.press(key + kb.Enter)
	tb.until("the key is found", `document.querySelector("#found .tier")`)
}

// screen is a size and a colour scheme.
type screen struct {
	name          string
	width, height int64
	scale         float64
	scheme        string
	phone         bool
}

func (s screen) steps() []step {
	return []step{
		call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: s.width, Height: s.height, DeviceScaleFactor: s.scale, Mobile: s.phone,
		}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}},
		}),
	}
}

// fits checks that nothing is wider than the screen. (On a phone the browser
// makes innerWidth as wide as the page.)
func (tb *tab) fits(s screen) {
	tb.Helper()
	if width := eval[int64](tb, `document.documentElement.scrollWidth`); width > s.width {
		tb.Errorf("the page is %d pixels wide, the screen %d", width, s.width)
	}
}

// shoot writes a picture of the page, where -shots says, or of all of it.
func (tb *tab) shoot(name string, whole bool) {
	tb.Helper()
	take := chromedp.CaptureScreenshot()
	if whole {
		take = chromedp.FullScreenshot(100)
	}
	png := run(tb, take)
	if len(png) < 10_000 {
		tb.Errorf("the picture %s has %d bytes", name, len(png))
	}
	if *shots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		tb.Fatal(err)
	}
}
