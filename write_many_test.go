package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestManyPendingInvalidationsAreAllConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		var keys []string
		for i := range 1500 {
			keys = append(keys, fmt.Sprint("key", i))
		}
		if _, err := a.GetMany(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		a.wait()
		a.chaos.Down(true)
		err := a.Invalidate(t.Context(), keys...)
		var batch *dewar.BatchError[string]
		if !errors.As(err, &batch) || len(batch.Errs) != len(keys) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		a.chaos.Down(false)
		time.Sleep(2 * time.Second)
		if n := srv.Len(); n != 0 {
			t.Errorf("%d keys are still there", n)
		}
		if n := a.Stats().PendingInvalidations; n != 0 {
			t.Errorf("%d pending", n)
		}
	})
}

// picky is a remote tier that refuses to delete, expire or seize keys that begin
// with an x, while it is told to.
type picky struct {
	dewar.RemoteOpener[string]
	refuse *atomic.Bool
}

func (p picky) OpenRemote(o dewar.RemoteOptions) (dewar.RemoteTier[string], error) {
	tier, err := p.RemoteOpener.OpenRemote(o)
	return &pickyTier{tier, p.refuse}, err
}

type pickyTier struct {
	dewar.RemoteTier[string]
	refuse *atomic.Bool
}

// each carries out an operation key by key.
func (p *pickyTier) each(keys []string, do func(i int), refuse func(i int, err error)) {
	for i, k := range keys {
		if p.refuse.Load() && strings.HasPrefix(k, "x") {
			refuse(i, errors.New("refused"))
		} else {
			do(i)
		}
	}
}

func (p *pickyTier) Unlink(ctx context.Context, keys []string, errs []error) {
	p.each(keys, func(i int) { p.RemoteTier.Unlink(ctx, keys[i:i+1], errs[i:i+1]) }, func(i int, err error) { errs[i] = err })
}

func (p *pickyTier) Expire(ctx context.Context, keys []string, keep time.Duration, errs []error) {
	p.each(keys, func(i int) { p.RemoteTier.Expire(ctx, keys[i:i+1], keep, errs[i:i+1]) }, func(i int, err error) { errs[i] = err })
}

func (p *pickyTier) Seize(ctx context.Context, keys []string, found []dewar.Found[string]) {
	p.each(keys, func(i int) { p.RemoteTier.Seize(ctx, keys[i:i+1], found[i:i+1]) },
		func(i int, err error) { found[i] = dewar.Found[string]{State: dewar.RemoteFailed, Err: err} })
}

func TestAWriteOfSeveralKeysTriesAllAndNamesTheFailedInOrder(t *testing.T) {
	keys := []string{"d", "a", "x1", "c", "x2", "b"}
	vs := make(map[string]string)
	for _, k := range keys {
		vs[k] = k + "@1"
	}
	for name, do := range map[string]func(context.Context, *process) error{
		"Invalidate": func(ctx context.Context, p *process) error { return p.Invalidate(ctx, keys...) },
		"Expire":     func(ctx context.Context, p *process) error { return p.Expire(ctx, keys...) },
		"SetMany":    func(ctx context.Context, p *process) error { return p.SetMany(ctx, vs) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, origin := dewartest.NewRemote[string](), newLedger()
				var refuse atomic.Bool
				refuse.Store(true)
				a := startProcess(t, srv, origin, staleFor(time.Hour), func(cfg *fleetConfig) {
					cfg.Remote = picky{srv, &refuse}
				})
				for _, k := range keys {
					if k[0] == 'x' {
						seed(t, srv, origin, k, staleFor(time.Hour))
					}
					a.get(k)
					origin.commit(k)
				}
				a.wait()
				err := do(t.Context(), a)
				var batch *dewar.BatchError[string]
				if !errors.As(err, &batch) {
					t.Fatalf("%T: %v", err, err)
				}
				var failed []string
				for _, ke := range batch.Errs {
					failed = append(failed, ke.Key)
					if !errors.Is(ke, dewar.ErrInvalidationPending) {
						t.Error(ke)
					}
				}
				if name == "SetMany" {
					slices.Sort(failed) // a map has no order
				}
				if !slices.Equal(failed, []string{"x1", "x2"}) {
					t.Errorf("failed: %v", failed)
				}
				for _, k := range keys {
					a.want(k, k+"@1")
					if e, ok := srv.Entry(fleetName, k); k[0] != 'x' && ok && e.Value != k+"@1" && dewar.Clock() < e.Fresh {
						t.Errorf("%s was not tried", k)
					}
				}
				if n := a.Stats().PendingInvalidations; n != 2 {
					t.Errorf("%d pending", n)
				}
				refuse.Store(false)
				time.Sleep(3 * time.Second)
				for _, k := range []string{"x1", "x2"} {
					wantRemote(t, srv, k, "")
				}
			})
		})
	}
}

func TestSetManyWritesAllInOneRoundTripPerStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, origin := dewartest.NewRemote[string](), newLedger()
		a := startProcess(t, srv, origin)
		vs := make(map[string]string)
		for i := range 150 {
			vs[fmt.Sprint("key", i)] = fmt.Sprint("value", i)
		}
		a.must(a.SetMany(t.Context(), vs))
		c := srv.Counts()
		if c.Seize != (dewartest.OpCount{Calls: 1, Keys: 150}) || c.Fill != (dewartest.OpCount{Calls: 1, Keys: 150}) || c.Unlink.Keys != 0 {
			t.Errorf("%+v", c)
		}
		b := startProcess(t, srv, origin)
		for k, v := range vs {
			a.want(k, v, dewar.CacheOnly())
			b.want(k, v)
		}
		a.must(a.SetMany(t.Context(), nil))
	})
}
