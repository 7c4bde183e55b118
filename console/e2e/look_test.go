package e2e

import (
	"testing"
	"time"
)

// Look at what this writes: -args -shots=DIR.
func TestThePageFitsItsScreen(t *testing.T) {
	s := newStage(t)
	s.load(t)
	url := serve(t, s.handler(s.withActions()))
	if *shots != "" {
		openTab(t, url)
		s.play()
	}
	for _, sc := range []screen{
		{"light", 1440, 900, 1, "light", false},
		{"dark", 1440, 900, 1, "dark", false},
		{"tablet", 820, 1100, 1, "light", true},
		{"phone", 390, 844, 2, "light", true},
		{"phone-dark", 390, 844, 2, "dark", true},
		{"narrow", 320, 640, 2, "light", true},
	} {
		t.Run(sc.name, func(t *testing.T) {
			tb := openTab(t, url, sc.steps()...)
			tb.js(`document.querySelector('[data-span="60"]').click()`)
			tb.find("video-001")
			tb.js(`document.activeElement.blur(); scrollTo(0, 0)`)
			tb.fits(sc)
			tb.until("keys are listed", `document.querySelector("#hot li")`)
			tb.shoot(sc.name, true)
			tb.js(`document.querySelector("button.turn").click()`)
			tb.until("the dialog is open", `document.querySelector("#dial[open]")`)
			tb.shoot(sc.name+"-dial", false)
		})
	}
}

// play lets the origin fail for a while, and the dial be turned, so that there
// is something to see.
func (s *stage) play() {
	for _, act := range []struct {
		sick  bool
		lasts time.Duration
	}{{false, 15 * time.Second}, {true, 12 * time.Second}, {false, 25 * time.Second}} {
		s.sick.Store(act.sick)
		time.Sleep(act.lasts) // against a real browser
	}
}
