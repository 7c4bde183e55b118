package dewar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// watched is a local tier that calls missed, once, between a miss and its
// return to the reader.
type watched struct {
	memory.Config[string]
	missed *func()
}

type watchedTier struct {
	dewar.LocalTier[string]
	missed *func()
}

func (w watched) OpenLocal(name string) (dewar.LocalTier[string], error) {
	tier, err := w.Config.OpenLocal(name)
	return watchedTier{tier, w.missed}, err
}

func (w watchedTier) Get(key string) *dewar.Entry[string] {
	e := w.LocalTier.Get(key)
	if missed := *w.missed; e == nil && missed != nil {
		*w.missed = nil
		missed()
	}
	return e
}

// A reader misses in the local tier; before it comes to the flight table, the
// flight of another ends, stores, and leaves the table.
func TestAReaderThatMissedJustBeforeAFlightEndedDoesNotLoadAgain(t *testing.T) {
	for name, read := range reads {
		if name == "Reload" || name == "Refresh" {
			continue // they load whatever there is
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var missed func()
				o := newOrigin(time.Second)
				cfg := batched(o)
				cfg.Local = watched{memory.Config[string]{MaxEntries: 100}, &missed}
				c := open(t, cfg)
				go c.Get(t.Context(), "a")
				synctest.Wait()
				missed = func() { time.Sleep(2 * time.Second) }
				if v, err := read(c, t.Context(), "a"); v != "a#1" || err != nil {
					t.Error(v, err)
				}
				mustCount(t, o, "a", 1)
			})
		})
	}
}
