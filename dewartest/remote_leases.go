package dewartest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dewarcache/dewar"
)

// leaseContract is about refresh leases and renewal.
var leaseContract = []remoteCheck{
	{"RefreshLeaseIsGrantedOnce", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.refreshGranted("k")
		b.refreshTaken("k")
		a.refreshTaken("k")
		b.refreshGranted("other")
		if got := a.leaseRefresh(); len(got) != 0 {
			p.t.Fatalf("no keys, but answers")
		}
	}},
	{"RefreshLeaseComesWithALook", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.wantState(a.leaseRefresh("absent")[0], dewar.RemoteAbsent)
		a.put("value", "v")
		seen := a.wantValue("value", "v")
		for _, p := range []*remoteProbe{a, b} { // with the lease and without
			f := p.leaseRefresh("value")[0]
			p.wantState(f, dewar.RemoteValue)
			if f.Entry.Value != "v" || f.Fence != seen.Fence {
				p.t.Fatalf("saw %q, not what Read sees", f.Entry.Value)
			}
		}
		b.granted("leased")
		a.wantState(a.leaseRefresh("leased")[0], dewar.RemoteLeased)
		a.putNegative("negative")
		f := a.leaseRefresh("negative")[0]
		a.wantState(f, dewar.RemoteValue)
		if !f.Entry.Negative() || f.Refresh == (dewar.Fence{}) {
			p.t.Fatalf("entry %+v, refresh lease %x", f.Entry, f.Refresh)
		}
	}},
	{"RefresherFillsOverWhatItSaw", func(p *remoteProbe) {
		p = p.start()
		p.put("k", "v1")
		f := p.refreshGranted("k")
		p.wantOK(p.fill(filling("k", f.Fence, "v2")))
		p.wantValue("k", "v2")
		p.wantOK(p.releaseRefresh("k", f.Refresh))
		p.wantValue("k", "v2")
	}},
	{"RefreshLeaseIsApartFromItsKey", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		mine := a.refreshGranted("k").Refresh
		a.wantFenced(a.fill(filling("k", mine, "filled over the refresh lease")))
		a.wantFenced(a.release("k", mine))
		for what, do := range map[string]func(){
			"Lease and Fill": func() { b.put("k", "v") },
			"Expire":         func() { b.expire(time.Minute, "k") },
			"Seize":          func() { b.seize("k") },
			"Unlink":         func() { b.unlink("k") },
		} {
			do()
			if f := b.leaseRefresh("k")[0]; f.Refresh != (dewar.Fence{}) {
				p.t.Fatalf("%s of the key ends its refresh lease", what)
			}
			b.unlink("k")
		}
		fence := b.granted("k")
		a.wantOK(a.releaseRefresh("k", mine))
		b.wantState(b.read("k")[0], dewar.RemoteLeased)
		b.wantFenced(b.releaseRefresh("k", fence))
	}},
	{"ReleasedRefreshLeaseIsFree", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		first := a.refreshGranted("k").Refresh
		a.wantFenced(a.releaseRefresh("k", dewar.Fence{}))
		a.wantOK(a.releaseRefresh("k", first))
		a.wantFenced(a.releaseRefresh("k", first))
		second := b.refreshGranted("k").Refresh
		a.wantFenced(a.releaseRefresh("k", first))
		a.refreshTaken("k")
		b.wantOK(b.releaseRefresh("k", second))
		a.refreshGranted("k")
	}},
	{"RefreshLeaseExpires", func(p *remoteProbe) {
		p.lease = 20 * time.Millisecond
		p = p.start()
		first := p.refreshGranted("k").Refresh
		time.Sleep(60 * time.Millisecond)
		p.wantFenced(p.releaseRefresh("k", first))
		p.refreshGranted("k")
	}},
	{"RenewKeepsLeasesAlive", func(p *remoteProbe) {
		p.lease = time.Second
		p = p.start()
		const stalled = 800 * time.Millisecond // too near to the lease's end to prove anything
		renewed := func(key string) bool {
			asked := time.Now()
			inTime := func() bool { return time.Since(asked) < stalled }
			fence, refresh := p.granted(key), p.refreshGranted(key).Refresh
			for range 3 {
				if time.Sleep(p.lease * 4 / 10); !inTime() {
					return false
				}
				again := time.Now()
				fills := []dewar.Fill[string]{{Key: key, Fence: fence}, {Key: key, Fence: refresh, Refresh: true}}
				if p.tier.Renew(p.t.Context(), fills); !inTime() {
					return false
				}
				p.wantAllOK(fills)
				asked = again
			}
			taken := p.leaseRefresh(key)[0].Refresh == dewar.Fence{}
			released := p.releaseRefresh(key, refresh)
			filled := p.fill(filling(key, fence, "v"))
			if !inTime() {
				return false
			}
			if !taken {
				p.t.Fatalf("the refresh lease was free although renewed")
			}
			p.wantOK(released)
			p.wantOK(filled)
			return true
		}
		for i := range 20 { // until the machine lets one be undisturbed
			if renewed(fmt.Sprint("k", i)) {
				return
			}
		}
		p.t.Fatalf("in 20 attempts the machine or the tier stalled for %v", stalled)
	}},
	{"RenewedLeaseExpires", func(p *remoteProbe) {
		p.lease = 30 * time.Millisecond
		p = p.start()
		p.renew("k", p.granted("k"))
		p.renewRefresh("k", p.leaseRefresh("k")[0].Refresh)
		time.Sleep(90 * time.Millisecond)
		p.wantAbsent("k")
		p.refreshGranted("k")
	}},
	{"RenewOfALostLeaseIsFenced", func(p *remoteProbe) {
		p.lease = 20 * time.Millisecond
		p = p.start()
		fence, refresh := p.granted("k"), p.refreshGranted("k").Refresh
		time.Sleep(60 * time.Millisecond)
		lost := func() {
			p.t.Helper()
			p.wantFenced(p.renew("k", fence))
			p.wantFenced(p.renewRefresh("k", refresh))
			p.wantFenced(p.renew("k", dewar.Fence{}))
			p.wantFenced(p.renewRefresh("k", dewar.Fence{}))
		}
		lost()
		p.wantAbsent("k")
		p.lease = time.Minute
		b := p.start()
		theirs := b.refreshGranted("k").Refresh // Renew has not made one
		b.granted("k")
		lost()
		b.wantState(b.read("k")[0], dewar.RemoteLeased)
		b.wantOK(b.renewRefresh("k", theirs))
		b.unlink("k")
		b.put("k", "v")
		lost()
		b.wantValue("k", "v")
	}},
	{"RefreshLeasesOfHostileKeysAreApart", func(p *remoteProbe) {
		p = p.start()
		var keys []string
		for _, key := range hostileKeys() {
			// A key may look like what a tier calls the refresh lease of another.
			if keys = append(keys, key); len(key) < 1000 {
				keys = append(keys, key+":r", "{"+key+"}:r")
			}
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		refresh := p.leaseRefresh(keys...)
		found := p.takeLease(keys...)
		fills := make([]dewar.Fill[string], len(keys))
		for i, key := range keys {
			if refresh[i].Refresh == (dewar.Fence{}) || refresh[i].State != dewar.RemoteAbsent {
				p.t.Fatalf("refresh lease of key %d (%.30q): state %d, error %v", i, key, refresh[i].State, refresh[i].Err)
			}
			if found[i].State != dewar.RemoteGranted {
				p.t.Fatalf("key %d (%.30q): state %d, error %v", i, key, found[i].State, found[i].Err)
			}
			fills[i] = dewar.Fill[string]{Key: key, Fence: refresh[i].Refresh, Refresh: true}
		}
		p.tier.Renew(p.t.Context(), fills)
		p.wantAllOK(fills)
		p.unlink(keys...)
		p.tier.Release(p.t.Context(), fills)
		p.wantAllOK(fills)
	}},
	{"ManyRefreshLeasesKeepTheirOrder", func(p *remoteProbe) {
		p = p.start()
		const n, early = 1200, 1100 // more than a tier is likely to ask for at once
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprint("key-", i)
		}
		var fills []dewar.Fill[string]
		for i, f := range p.takeLease(keys...) {
			if i%2 == 0 {
				fills = append(fills, filling(keys[i], f.Fence, keys[i]))
			}
		}
		p.tier.Fill(p.t.Context(), fills)
		p.wantAllOK(fills)
		taken := p.leaseRefresh(keys[:early]...)
		fills = fills[:0]
		for i, f := range p.leaseRefresh(keys...) {
			if i%2 == 1 {
				p.wantState(f, dewar.RemoteLeased)
			} else if f.State != dewar.RemoteValue || f.Entry.Value != keys[i] {
				p.t.Fatalf("%s: state %d, value %q", keys[i], f.State, f.Entry.Value)
			}
			if (f.Refresh != dewar.Fence{}) != (i >= early) {
				p.t.Fatalf("%s: refresh lease %x", keys[i], f.Refresh)
			}
			if i < early {
				f = taken[i]
			}
			fills = append(fills, dewar.Fill[string]{Key: keys[i], Fence: f.Refresh, Refresh: i%3 > 0})
		}
		for _, do := range []func(context.Context, []dewar.Fill[string]){p.tier.Renew, p.tier.Release} {
			do(p.t.Context(), fills)
			for i := range fills { // under the key itself there is no refresh lease
				if (fills[i].Err == nil) != fills[i].Refresh {
					p.t.Fatalf("%s, refresh %v: error %v", keys[i], fills[i].Refresh, fills[i].Err)
				}
			}
		}
	}},
	{"DuplicateKeysShareARefreshLease", func(p *remoteProbe) {
		p = p.start()
		found := p.leaseRefresh("k", "k")
		if found[0].Refresh == (dewar.Fence{}) || found[1].Refresh != (dewar.Fence{}) {
			p.t.Fatalf("refresh leases %x and %x, want one and none", found[0].Refresh, found[1].Refresh)
		}
	}},
}

func (p *remoteProbe) leaseRefresh(keys ...string) []dewar.Found[string] {
	found := make([]dewar.Found[string], len(keys))
	p.tier.LeaseRefresh(p.t.Context(), keys, found)
	return found
}

// refreshGranted takes the refresh lease of key, which is free.
func (p *remoteProbe) refreshGranted(key string) dewar.Found[string] {
	p.t.Helper()
	f := p.leaseRefresh(key)[0]
	if f.State == dewar.RemoteFailed || f.Refresh == (dewar.Fence{}) {
		p.t.Fatalf("no refresh lease: state %d, error %v", f.State, f.Err)
	}
	return f
}

func (p *remoteProbe) refreshTaken(key string) {
	p.t.Helper()
	if f := p.leaseRefresh(key)[0]; f.State == dewar.RemoteFailed || f.Refresh != (dewar.Fence{}) {
		p.t.Fatalf("state %d, error %v, refresh lease %x; want that it is taken", f.State, f.Err, f.Refresh)
	}
}

func (p *remoteProbe) releaseRefresh(key string, fence dewar.Fence) error {
	fills := []dewar.Fill[string]{{Key: key, Fence: fence, Refresh: true}}
	p.tier.Release(p.t.Context(), fills)
	return fills[0].Err
}

func (p *remoteProbe) renew(key string, fence dewar.Fence) error {
	fills := []dewar.Fill[string]{{Key: key, Fence: fence}}
	p.tier.Renew(p.t.Context(), fills)
	return fills[0].Err
}

func (p *remoteProbe) renewRefresh(key string, fence dewar.Fence) error {
	fills := []dewar.Fill[string]{{Key: key, Fence: fence, Refresh: true}}
	p.tier.Renew(p.t.Context(), fills)
	return fills[0].Err
}

func (p *remoteProbe) wantAllOK(fills []dewar.Fill[string]) {
	p.t.Helper()
	for i := range fills {
		if fills[i].Err != nil {
			p.t.Fatalf("key %d (%.30q): %v", i, fills[i].Key, fills[i].Err)
		}
	}
}
