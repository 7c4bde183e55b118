package dewar_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// Keys whose deletion the remote tier has not confirmed are marked.

// From the local part of a write until the remote tier has confirmed it, the
// process neither reads nor writes the remote copy.
func TestMarkedKeysKeepAwayFromTheRemoteTier(t *testing.T) {
	writes := map[string]struct {
		step string
		do   func(context.Context, *process) error
	}{
		"Invalidate": {"Unlink", func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") }},
		"Expire":     {"Expire", func(ctx context.Context, p *process) error { return p.Expire(ctx, "k") }},
		"answered":   {"Unlink answered", func(ctx context.Context, p *process) error { return p.Invalidate(ctx, "k") }},
	}
	reads := map[string]func(context.Context, *process) error{
		"Get":     func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k"); return err },
		"Reload":  func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.Reload()); return err },
		"NoStale": func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.NoStale()); return err },
		"MaxAge":  func(ctx context.Context, p *process) error { _, err := p.Get(ctx, "k", dewar.MaxAge(0)); return err },
		"GetMany": func(ctx context.Context, p *process) error { _, err := p.GetMany(ctx, []string{"k"}); return err },
		"Refresh": func(ctx context.Context, p *process) error { return p.Refresh(ctx, "k") },
		"KeepWarm": func(ctx context.Context, p *process) error {
			p.KeepWarm("k")
			time.Sleep(time.Second)
			p.LetGo("k")
			return nil
		},
		"CacheOnly": func(ctx context.Context, p *process) error { p.Get(ctx, "k", dewar.CacheOnly()); return nil },
		"Preload": func(ctx context.Context, p *process) error {
			return p.Preload(ctx, func(yield func(string) bool) { yield("k") })
		},
	}
	for writeName, write := range writes {
		for readName, read := range reads {
			t.Run(writeName+", "+readName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, origin := dewartest.NewRemote[string](), newLedger()
					seed(t, srv, origin, "k", staleFor(time.Hour))
					a := startProcess(t, srv, origin, staleFor(time.Hour))
					origin.commit("k")
					held := a.hold(write.step)
					done := beginWrite(func() error { return write.do(t.Context(), a) })
					held.await(t)
					a.forget()
					if err := read(t.Context(), a); err != nil {
						t.Error(err)
					}
					synctest.Wait()
					for _, step := range []string{"Read", "Lease", "Seize", "Fill", "Release"} {
						if a.count(step) > 0 {
							t.Errorf("a %s while the write was under way: %v", step, a.steps)
						}
					}
					if readName != "CacheOnly" {
						a.want("k", "k@1", dewar.CacheOnly())
					}
					held.open()
					if got := <-done; got.err != nil {
						t.Error(got.err)
					}
					a.want("k", "k@1")

					// Confirmed: the remote tier takes part again.
					a.wait()
					a.must(a.Invalidate(t.Context(), "k"))
					a.forget()
					a.want("k", "k@1")
					a.wait()
					if a.count("Read") != 1 || a.count("Fill") != 1 {
						t.Errorf("after the confirmation: %v", a.steps)
					}
				})
			})
		}
	}
}

func TestTheMarkIsACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		gates := []*gate{a.hold("Unlink"), a.hold("Unlink")}
		invalidate := func() error { return a.Invalidate(t.Context(), "k") }
		first, second := beginWrite(invalidate), beginWrite(invalidate)
		synctest.Wait()
		gates[0].open()
		synctest.Wait()
		a.forget()
		a.want("k", "k@0")
		if a.count("Read") > 0 {
			t.Errorf("the first of two writes that ended took the mark of both: %v", a.steps)
		}
		gates[1].open()
		<-first
		<-second
		a.must(a.Invalidate(t.Context(), "k"))
		a.want("k", "k@0")
		if a.count("Read") != 1 {
			t.Errorf("a mark is left: %v", a.steps)
		}
	})
}

// A load that began while the key was marked ends after the mark is gone: it
// has no fence, and must not write.
func TestALoadBegunUnderAMarkIsNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		unlink := a.hold("Unlink")
		done := beginWrite(func() error { return a.Invalidate(t.Context(), "k") })
		unlink.await(t)
		load := a.hold("load")
		got := a.beginGet("k")
		load.await(t)
		unlink.open()
		<-done
		load.open()
		if got := <-got; got.value != "k@0" {
			t.Error(got)
		}
		a.wait()
		if a.count("Fill")+a.count("Lease") > 0 {
			t.Errorf("written: %v", a.steps)
		}
		a.want("k", "k@0", dewar.CacheOnly())
	})
}
