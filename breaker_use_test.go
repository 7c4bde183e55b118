package dewar_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// A breaker of the user's own: Breaker.Use.

// switchBreaker is a user's breaker that a test throws.
type switchBreaker struct {
	mu    sync.Mutex // guards what follows
	err   error      // what Allow refuses with
	panic string     // the method that panics: "Allow" or "done"
	asked int        // calls of Allow
	told  []error    // what the done functions were called with
}

func (b *switchBreaker) Allow() (done func(error), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	switch {
	case b.panic == "Allow":
		panic("Allow of the user's")
	case b.err != nil:
		return nil, b.err
	}
	called := false
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if called {
			err = errors.New("done was called twice")
		}
		called = true
		b.told = append(b.told, err)
		if b.panic == "done" {
			panic("done of the user's")
		}
	}, nil
}

func (b *switchBreaker) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func TestAUsersBreakerThatPanicsFailsNoReaderAndKeepsNoSlot(t *testing.T) {
	for _, where := range []string{"Allow", "done"} {
		for name, loader := range map[string]func(*config, *origin){
			"Load":     func(*config, *origin) {},
			"LoadMany": func(cfg *config, o *origin) { cfg.Load, cfg.LoadMany = nil, o.loadMany },
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					o := newOrigin(0)
					cfg := localOnly(o)
					loader(&cfg, o)
					cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
					cfg.Guard.MaxConcurrent = 1
					cfg.Guard.Breaker.Use = &switchBreaker{panic: where}
					c := open(t, cfg)
					for _, k := range keys(5) {
						mustGet(t, c, k, k+"#1")
					}
					o.fail(errOrigin)
					mustFail(t, c, "failing", errOrigin)
					synctest.Wait()
					if s := c.Stats(); s.Origin.Calls != 0 || s.Flights != 0 || s.Overloaded != 0 {
						t.Errorf("%+v", s)
					}
					if !strings.Contains(log.String(), "Breaker.Use") || !strings.Contains(log.String(), where+" of the user's") {
						t.Errorf("logged: %s", log.String())
					}
				})
			})
		}
	}
}
