package dewartest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// useContract is about keys of any kind and number, contexts, concurrency and
// Close.
var useContract = []remoteCheck{
	{"HostileKeysStayDistinct", func(p *remoteProbe) {
		p = p.start()
		keys := hostileKeys()
		found := p.takeLease(keys...)
		fills := make([]dewar.Fill[string], len(keys))
		for i, f := range found {
			if f.State != dewar.RemoteGranted {
				p.t.Fatalf("key %d (%.30q): state %d, error %v", i, keys[i], f.State, f.Err)
			}
			fills[i] = filling(keys[i], f.Fence, fmt.Sprint("value ", i))
		}
		p.tier.Fill(p.t.Context(), fills)
		for i, f := range fills {
			if f.Err != nil {
				p.t.Fatalf("key %d (%.30q): %v", i, keys[i], f.Err)
			}
		}
		for i, f := range p.read(keys...) {
			if f.State != dewar.RemoteValue || f.Entry.Value != fmt.Sprint("value ", i) {
				p.t.Errorf("key %d (%.30q): state %d, value %q", i, keys[i], f.State, f.Entry.Value)
			}
		}
		p.expire(time.Minute, keys...)
		p.unlink(keys...)
		for i, f := range p.read(keys...) {
			if f.State != dewar.RemoteAbsent {
				p.t.Errorf("key %d (%.30q): state %d after Unlink", i, keys[i], f.State)
			}
		}
	}},
	{"ManyKeysKeepTheirOrder", func(p *remoteProbe) {
		p = p.start()
		const n = 2500
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("key-%d", i)
		}
		found := p.takeLease(keys...)
		var fills []dewar.Fill[string]
		for i, f := range found {
			p.wantState(f, dewar.RemoteGranted)
			if i%2 == 0 {
				fills = append(fills, filling(keys[i], f.Fence, keys[i]))
			}
		}
		p.tier.Fill(p.t.Context(), fills)
		for i, f := range p.read(keys...) {
			switch {
			case i%2 == 1:
				p.wantState(f, dewar.RemoteLeased)
			case f.State != dewar.RemoteValue || f.Entry.Value != keys[i]:
				p.t.Fatalf("%s: state %d, value %q", keys[i], f.State, f.Entry.Value)
			}
		}
		p.expire(time.Minute, keys...)
		for i, f := range p.read(keys...) {
			if i%2 == 1 {
				p.wantState(f, dewar.RemoteAbsent)
			} else if f.State != dewar.RemoteValue || f.Entry.Fresh > dewar.Clock() {
				p.t.Fatalf("%s: state %d, still fresh", keys[i], f.State)
			}
		}
		p.unlink(keys...)
		for _, f := range p.read(keys...) {
			p.wantState(f, dewar.RemoteAbsent)
		}
	}},
	{"DuplicateKeysInOneCall", func(p *remoteProbe) {
		p = p.start()
		found := p.takeLease("k", "k")
		p.wantState(found[0], dewar.RemoteGranted)
		p.wantState(found[1], dewar.RemoteLeased)
		fills := []dewar.Fill[string]{filling("k", found[0].Fence, "v"), filling("k", found[0].Fence, "w")}
		p.tier.Fill(p.t.Context(), fills)
		p.wantOK(fills[0].Err)
		p.wantFenced(fills[1].Err)
		for _, f := range p.read("k", "other", "k") {
			if f.Entry.Value != "v" && f.State != dewar.RemoteAbsent {
				p.t.Fatalf("state %d, value %q", f.State, f.Entry.Value)
			}
		}
		p.expire(time.Minute, "k", "k")
		p.wantValue("k", "v")
		p.unlink("k", "k")
		p.wantAbsent("k")
	}},
	{"DoneContextFailsEveryKey", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v")
		seen := p.wantValue("k", "v")
		ctx, cancel := context.WithCancel(p.t.Context())
		cancel()
		keys := []string{"k", "other"}
		for op, do := range p.operations(seen.Fence) {
			for i, err := range do(ctx, keys) {
				if !errors.Is(err, context.Canceled) {
					p.t.Errorf("%s: key %d: error %v, want context.Canceled", op, i, err)
				}
			}
		}
		p.wantValue("k", "v")
		p.wantAbsent("other")
	}},
	{"ConcurrentFillersOneWins", func(p *remoteProbe) {
		first := p.start()
		const processes, rounds = 4, 25
		var granted, stored [rounds]atomic.Int32
		var wg sync.WaitGroup
		for range processes {
			p := first.start()
			wg.Go(func() {
				for r := range rounds {
					key := fmt.Sprint("round-", r)
					f := p.takeLease(key)[0]
					if f.State != dewar.RemoteGranted {
						continue
					}
					granted[r].Add(1)
					if p.fill(filling(key, f.Fence, "v")) == nil {
						stored[r].Add(1)
					}
				}
			})
		}
		wg.Wait()
		for r := range rounds {
			if granted[r].Load() != 1 || stored[r].Load() != 1 {
				p.t.Fatalf("round %d: %d leases, %d fills; want one of each", r, granted[r].Load(), stored[r].Load())
			}
		}
	}},
	{"ConcurrentUseOfEverything", func(p *remoteProbe) {
		p = p.start()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 30 {
					keys := []string{fmt.Sprint("k", i%5), fmt.Sprint("k", (i+g)%5)}
					for _, f := range p.takeLease(keys...) {
						if f.State == dewar.RemoteFailed {
							p.t.Errorf("lease: %v", f.Err)
						}
						if f.State == dewar.RemoteGranted {
							p.fill(filling(keys[0], f.Fence, keys[0]))
						}
					}
					for k, f := range p.read(keys...) {
						if f.State == dewar.RemoteFailed {
							p.t.Errorf("read: %v", f.Err)
						}
						if f.State == dewar.RemoteValue && f.Entry.Value != keys[k] {
							p.t.Errorf("%s: value %q", keys[k], f.Entry.Value)
						}
					}
					switch g {
					case 0:
						p.unlink(keys...)
					case 1:
						p.expire(time.Minute, keys...)
					case 2:
						p.release(keys[0], p.seize(keys[0]).Fence)
					case 3:
						f := p.leaseRefresh(keys[0])[0]
						p.renewRefresh(keys[0], f.Refresh)
						p.releaseRefresh(keys[0], f.Refresh)
					case 4:
						p.announce(dewar.AnnounceSet, keys...)
					case 5:
						p.wantNextEpoch()
					}
					p.tier.Stats()
				}
			})
		}
		wg.Wait()
	}},
	{"CloseIsIdempotentAndMayRaceAnything", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v")
		seen := p.wantValue("k", "v")
		var wg sync.WaitGroup
		for _, do := range p.operations(seen.Fence) {
			wg.Go(func() {
				for range 20 {
					do(p.t.Context(), []string{"k", "other"})
				}
			})
		}
		for range 2 {
			wg.Go(func() { p.tier.Close() })
		}
		wg.Wait()
		p.wantOK(p.tier.Close())
		p.tier.Stats()
		again := p.start() // what a tier opened was its own: others go on
		again.unlink("k")
		again.put("k", "v")
	}},
}
