package dewar_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestStaleServedTellsEachReaderOfItsValueAndWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		stale dewar.Stale
		want  error
	}{
		"the origin fails":          {dewar.Stale{IfError: time.Hour}, errOrigin},
		"while it is revalidated":   {dewar.Stale{WhileRevalidate: time.Hour}, nil},
		"the origin takes too long": {dewar.Stale{IfError: time.Hour, SoftTimeout: time.Millisecond}, dewar.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var served traced[error]
				o := newOrigin(0)
				cfg := batched(o)
				cfg.Stale = tt.stale
				cfg.Trace = &dewar.Trace{StaleServed: served.hook}
				c := open(t, cfg)
				for _, k := range []string{"a", "b", "c"} {
					mustGet(t, c, k, k+"#1")
				}
				time.Sleep(2 * time.Minute)
				o.fail(errOrigin)
				o.slow(time.Second)
				mustGet(t, c, "a", "a#1")
				if vs, err := c.GetMany(t.Context(), []string{"b", "c"}); len(vs) != 2 || err != nil {
					t.Error(vs, err)
				}
				got := served.all()
				if len(got) != 3 {
					t.Fatalf("%+v", got)
				}
				for _, call := range got {
					if !errors.Is(call.with, tt.want) || call.goroutine != goroutine() {
						t.Errorf("%+v; want %v on goroutine %d", call, tt.want, goroutine())
					}
				}
			})
		})
	}
}

func TestRefreshDroppedIsCalledByTheReaderWhoFoundTheBucketFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped traced[int]
		cfg := warming(newOrigin(0))
		cfg.Warm.Bucket = 2
		cfg.Trace = &dewar.Trace{RefreshDropped: func() { dropped.hook(0) }}
		c := open(t, cfg)
		ks := keys(5)
		if _, err := c.GetMany(t.Context(), ks); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		for _, k := range ks {
			mustGet(t, c, k, k+"#1")
		}
		got := dropped.all()
		if len(got) != 3 || c.Stats().RefreshDropped != 3 {
			t.Fatalf("%+v; %d counted", got, c.Stats().RefreshDropped)
		}
		for _, call := range got {
			if call.goroutine != goroutine() {
				t.Error("on another goroutine")
			}
		}
	})
}

func TestBreakerChangedTellsEveryCacheOfAnOriginOfEachChangeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var here, there traced[dewar.BreakerChange]
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Origin = dewar.NewOrigin("catalog", dewar.Guard{Breaker: dewar.Breaker{MinRequests: 4, OpenFor: 10 * time.Second, Probes: 1}})
		cfg.Trace = &dewar.Trace{BreakerChanged: here.hook}
		c := open(t, cfg)
		cfg.Trace = &dewar.Trace{BreakerChanged: there.hook}
		open(t, cfg)
		o.fail(errOrigin)
		for _, k := range keys(4) {
			mustFail(t, c, k, errOrigin)
		}
		time.Sleep(13 * time.Second)
		o.fail(nil)
		mustGet(t, c, "a", "a#1")
		synctest.Wait()
		want := []dewar.BreakerChange{
			{Origin: "catalog", From: dewar.BreakerClosed, To: dewar.BreakerOpen, Calls: 4, Failures: 4, Err: errOrigin},
			{Origin: "catalog", From: dewar.BreakerOpen, To: dewar.BreakerHalfOpen},
			{Origin: "catalog", From: dewar.BreakerHalfOpen, To: dewar.BreakerClosed},
		}
		for _, heard := range []*traced[dewar.BreakerChange]{&here, &there} {
			var got []dewar.BreakerChange
			for _, call := range heard.all() {
				got = append(got, call.with)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v; want %+v", got, want)
			}
		}
	})
}

func TestDefconTurnedTellsOfEachTurnInOrderOnAGoroutineThatTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns traced[dewar.Turn]
		cfg := localOnly(newOrigin(0))
		cfg.Defcon = new(dewar.Defcon)
		running := 0
		cfg.Trace = &dewar.Trace{DefconTurned: func(turn dewar.Turn) {
			if running++; running != 1 { // one at a time: the race detector watches too
				t.Error("two at once")
			}
			turns.hook(turn)
			running--
		}}
		open(t, cfg)
		cfg.Defcon.Set(dewar.Protect)
		if got := turns.forget(); len(got) != 1 || got[0].with.From != dewar.Normal || got[0].with.To != dewar.Protect || got[0].goroutine != goroutine() {
			t.Errorf("%+v", got)
		}
		turners := make(map[int]bool)
		var mu sync.Mutex // guards turners
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				mu.Lock()
				turners[goroutine()] = true
				mu.Unlock()
				cfg.Defcon.Set(dewar.Level(1 + i%5))
			})
		}
		wg.Wait()
		before := dewar.Protect
		got := turns.all()
		for _, call := range got {
			if call.with.From != before || !turners[call.goroutine] {
				t.Fatalf("%+v after %v", call, before)
			}
			before = call.with.To
		}
		if len(got) != 200 || before != cfg.Defcon.Level() {
			t.Errorf("%d turns, the last to %v", len(got), before)
		}
	})
}

func TestWriteFailedIsCalledOncePerRoundTripThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed traced[error]
		o := newOrigin(0)
		srv := newServer()
		down := errors.New("down")
		var fails error
		cfg := batched(o)
		cfg.Remote = &dewartest.Chaos[string]{Remote: srv, Intercept: func(op string, _ []string) error {
			if op == "Fill" {
				return fails
			}
			return nil
		}}
		cfg.Trace = &dewar.Trace{WriteFailed: failed.hook}
		c := open(t, cfg)
		load := func(ks ...string) error {
			if _, err := c.GetMany(t.Context(), ks); err != nil {
				t.Fatal(err)
			}
			err := c.Wait(t.Context())
			synctest.Wait() // the hook may be called after Wait has returned
			return err
		}
		if err := load("a", "b"); err != nil || len(failed.all()) != 0 {
			t.Error("writes that end well:", err, failed.all())
		}
		fails = dewar.ErrFenced
		if err := load("c"); err != nil || len(failed.all()) != 0 {
			t.Error("writes refused by the fence:", err, failed.all())
		}
		fails = down
		if err := load("d", "e", "f"); !errors.Is(err, down) {
			t.Error(err)
		}
		if got := failed.all(); len(got) != 1 || !errors.Is(got[0].with, down) || got[0].goroutine == goroutine() {
			t.Errorf("%+v", got)
		}
		if s := c.Stats(); s.WritesFailed != 3 || s.FillsRefused != 1 || s.Filled != 2 {
			t.Errorf("%+v", s)
		}
	})
}
