package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// hostile are names and keys of somebody who means harm.
var hostile = []string{
	`<img src=x onerror="window.pwned=1">`,
	`"><script>window.pwned=1</script>`,
	`<svg/onload=window.pwned=1>`,
	`javascript:window.pwned=1`,
	`';window.pwned=1;//`,
	`</script><script>window.pwned=1</script>`,
	"__proto__",
	"\u202egnp.exe\u0000\u200b",
	"\xff\xfe binary",
	strings.Repeat("W", 3000),
	"",
}

// named is a cache under a name that dewar would not take.
type named struct {
	*dewar.Cache[string, string]
	name string
}

func (n named) Name() string { return n.name }

func TestHostileNamesAndKeysDoNothing(t *testing.T) {
	s := newStage(t)
	for _, sc := range []screen{{"hostile", 1440, 900, 1, "light", false}, {"hostile-phone", 390, 844, 2, "light", true}} {
		t.Run(sc.name, func(t *testing.T) {
			c := open(t, dewar.Config[string, string]{
				Name: "victim", TTL: minute, Track: 40, Local: memory.Config[string]{MaxEntries: 1000},
				Stale: dewar.Stale{IfError: minute}, Load: echo,
			})
			parts := s.handler(named{c, hostile[0]}, named{c, hostile[9]}, named{c, "\u202etxt"}, s.withActions())
			for range 2000 { // one in sixteen reads is tracked
				for _, k := range hostile {
					mustGet(t, c, k)
				}
			}
			s.dial.Turn(dewar.Turn{To: dewar.Normal, Who: hostile[0], Why: hostile[2]})
			tb := openTab(t, serve(t, parts), sc.steps()...)
			tb.press("4")
			tb.until("the hostile cache is chosen", `document.querySelector("h2").textContent.includes("<img")`)
			tb.until("hostile keys are listed", `document.querySelectorAll("#hot li").length === `+num(len(hostile)))
			for i := range hostile {
				tb.js(`document.querySelectorAll("#hot li button")[` + num(i) + `].click()`)
				tb.until("key "+num(i)+" is found in the local tier", `document.querySelector('#found [data-tier="local"] .age')`)
			}
			tb.find(hostile[0])
			tb.until("the typed key is found too", `document.querySelector('#found [data-tier="local"] .age')`)
			tb.js(`document.querySelector('[data-op="refresh"]').click()`)
			tb.until("it is refreshed", `document.querySelector(".result").textContent.includes("Done.")`)
			if text := eval[string](tb, `document.body.textContent`); strings.ContainsAny(text, "\u202e\u200b\x00") || !strings.Contains(text, `\u202egnp.exe\u0000\u200b`) {
				t.Error("what is hidden in a key stands in the page as it is, not as escapes")
			}
			tb.press(kb.Escape + kb.Escape)
			for _, cache := range []string{"1", "5", "6"} { // what else is hostile: who turned the dial, longer names
				tb.press(cache)
				tb.until("another is chosen", `document.querySelector("#overview tbody tr:nth-child(`+cache+`)").matches(".selected")`)
			}
			if eval[bool](tb, `"pwned" in window`) {
				t.Error("a hostile key or name has run")
			}
			if n := eval[int](tb, `document.querySelectorAll("img, svg, script:not([src]), iframe, object, embed").length`); n != 1 { // the icon
				t.Errorf("there are %d elements that the page has not made", n-1)
			}
			tb.fits(sc)
			tb.press("4")
			tb.find(hostile[9][:300])
			if eval[bool](tb, `(k => k.scrollWidth > k.clientWidth)(document.querySelector(".found-key .key"))`) {
				t.Error("a long key is not broken into lines")
			}
			tb.js(`scrollTo(0, 0)`)
			tb.shoot(sc.name, true)
		})
	}
}
