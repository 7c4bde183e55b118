package dewartest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

// fleetContract is about announcements and epochs.
var fleetContract = []remoteCheck{
	{"AllHearWhatIsAnnounced", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		c := a.start()
		want := []dewar.Announcement{
			{Kind: dewar.AnnounceInvalidate, Keys: []string{"k1", "k2"}, Place: a.announce(dewar.AnnounceInvalidate, "k1", "k2")[0]},
			{Kind: dewar.AnnounceSet, Keys: []string{"k3"}, Place: b.announce(dewar.AnnounceSet, "k3")[0]},
			{Kind: dewar.AnnounceExpire, Keys: []string{"k1"}, Place: c.announce(dewar.AnnounceExpire, "k1")[0]},
			{Kind: dewar.AnnounceInvalidate, Keys: []string{"k1"}, Place: a.announce(dewar.AnnounceInvalidate, "k1")[0]},
		}
		a.announce(dewar.AnnounceSet)
		for who, p := range []*remoteProbe{a, b, c} {
			got := p.hears(5)
			for i, announcer := range []int{0, 1, 2, 0} {
				want[i].Own = who == announcer
				if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
					p.t.Fatalf("tier %d heard %+v, want %+v", who, got[i], want[i])
				}
			}
			if len(got) > 4 {
				p.t.Fatalf("tier %d heard of %d keys, want 5", who, 1+len(got))
			}
		}
		b.eventually("4 keys heard of others and 1 announced are counted", func() bool {
			got := b.tier.Stats()
			return got.Heard == 4 && got.Announced == 1
		})
	}},
	{"AllHearInOneOrder", func(p *remoteProbe) {
		first := p.start()
		tiers := []*remoteProbe{first, first.start(), first.start()}
		const each = 40
		var wg sync.WaitGroup
		for who, p := range tiers {
			wg.Go(func() {
				var last dewar.Place
				for i := range each {
					place := p.announce(dewar.AnnounceInvalidate, fmt.Sprint(who, " ", i))[0]
					if !last.Before(place) {
						p.t.Errorf("announced at %v, after %v", place, last)
					}
					last = place
				}
			})
		}
		wg.Wait()
		var want []string
		for who, p := range tiers {
			var keys []string
			var last dewar.Place
			for _, a := range p.hears(each * len(tiers)) {
				if !last.Before(a.Place) {
					p.t.Fatalf("tier %d heard %v after %v", who, a.Place, last)
				}
				last = a.Place
				keys = append(keys, a.Keys...)
			}
			if want == nil {
				want = keys
			}
			if !slices.Equal(keys, want) {
				p.t.Fatalf("tier %d heard %q, another %q", who, keys, want)
			}
		}
	}},
	{"OtherNamesHearNothing", func(p *remoteProbe) {
		elsewhere := *p // without a name yet: it draws another
		a, other := p.start(), elsewhere.start()
		a.announce(dewar.AnnounceInvalidate, "k")
		a.wantNextEpoch()
		other.announce(dewar.AnnounceInvalidate, "of the other name")
		if got := other.hears(1); got[0].Keys[0] != "of the other name" || other.heard.all() != 0 {
			p.t.Fatalf("heard %+v and %d epochs of another name", got, other.heard.all())
		}
	}},
	{"OtherSchemasHearElsewhere", func(p *remoteProbe) {
		a := p.start()
		same := a.start()
		a.schema = "1"
		other := a.start()
		a.announce(dewar.AnnounceSet, "k")
		other.announce(dewar.AnnounceSet, "k")
		for who, p := range []*remoteProbe{a, same, other} {
			for i, got := range p.hears(2) {
				if want := (p == other) != (i == 1); got.Elsewhere != want {
					p.t.Fatalf("tier %d, announcement %d: Elsewhere is %v, want %v", who, i, got.Elsewhere, want)
				}
			}
		}
	}},
	{"AnnouncedKeysComeBackWhole", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		var keys []string
		for _, key := range hostileKeys() {
			if len(key) < 1<<17 {
				keys = append(keys, key)
			}
		}
		keys = append(keys, strings.Repeat("\x00", 100<<10), strings.Repeat("{", 100<<10))
		for i := len(keys); i < 1000; i++ {
			keys = append(keys, fmt.Sprint("key-", i))
		}
		places := a.announce(dewar.AnnounceExpire, keys...)
		want := make(map[string]dewar.Place)
		for i, key := range keys {
			want[key] = places[i]
		}
		for _, p := range []*remoteProbe{a, b} {
			got := make(map[string]dewar.Place)
			for _, heard := range p.hears(len(keys)) {
				if heard.Kind != dewar.AnnounceExpire {
					p.t.Fatalf("kind %d", heard.Kind)
				}
				for _, key := range heard.Keys {
					got[key] = heard.Place
				}
			}
			for key, place := range want {
				if got[key] != place {
					p.t.Fatalf("key %.30q of %d bytes heard at %v, announced at %v", key, len(key), got[key], place)
				}
			}
			if len(got) != len(want) {
				p.t.Fatalf("%d keys heard, %d announced", len(got), len(want))
			}
		}
	}},
	{"NextEpochHidesEverything", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		a.schema = "1"
		other := a.start()
		a.put("k", "old")
		a.put("value", "old")
		b.putNegative("negative")
		lease := b.granted("lease")
		seen := b.wantValue("value", "old")
		other.put("k", "of the other schema")
		keys := []string{"k", "value", "negative", "lease"}
		absent := func(p *remoteProbe) bool {
			return !slices.ContainsFunc(p.read(keys...), func(f dewar.Found[string]) bool { return f.State != dewar.RemoteAbsent })
		}
		before := a.tier.Stats().Epoch
		a.wantNextEpoch()
		if !absent(a) {
			p.t.Fatalf("there for who moved to the next epoch, when it had")
		}
		b.fill(filling("lease", lease, "loaded before")) // whether b has heard or not
		for _, p := range []*remoteProbe{b, other} {
			p.eventually("everything is gone for the others", func() bool { return absent(p) })
		}
		b.wantFenced(b.fill(filling("lease", lease, "loaded before")))
		b.wantFenced(b.fill(filling("value", seen.Fence, "loaded before")))
		if !absent(a) || !absent(b) {
			p.t.Fatalf("a load from before the epoch was stored in it")
		}
		a.put("k", "new")
		b.wantValue("k", "new")
		other.wantAbsent("k")
		if got := a.tier.Stats().Epoch; got <= before || got != b.tier.Stats().Epoch {
			p.t.Fatalf("epoch %d after %d, %d at another tier", got, before, b.tier.Stats().Epoch)
		}
		c := b.start()
		c.wantValue("k", "new")
		c.wantAbsent("value")
	}},
	{"NextEpochIsToldToTheOthersOnce", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		c := a.start()
		a.wantNextEpoch()
		b.wantNextEpoch() // also when it has not heard of the one before
		a.announce(dewar.AnnounceInvalidate, "k")
		for who, p := range []*remoteProbe{a, b, c} {
			p.hears(1)
			want := 1
			if p == c {
				want = 2
			}
			if got := p.heard.all(); got != want {
				p.t.Fatalf("tier %d was told of %d epochs before the announcement that came after, want %d", who, got, want)
			}
		}
		a.announce(dewar.AnnounceInvalidate, "l")
		for _, p := range []*remoteProbe{a, b, c} {
			p.hears(2)
		}
		if a.heard.all()+b.heard.all()+c.heard.all() != 4 {
			p.t.Fatalf("an epoch was told twice")
		}
	}},
	{"CloseWaitsForTheEventBeingTold", func(p *remoteProbe) {
		a := p.start()
		b := a.start()
		told, gate := make(chan struct{}), make(chan struct{})
		var once sync.Once
		b.heard.hold(func() {
			once.Do(func() { close(told) })
			<-gate
		})
		a.announce(dewar.AnnounceInvalidate, "k")
		open := time.AfterFunc(patience, func() { close(gate) }) // if nothing is told
		<-told
		closed := make(chan struct{})
		go func() { // ends with Close, which is waited for below
			b.tier.Close()
			close(closed)
		}()
		select {
		case <-closed:
			p.t.Errorf("Close returned while an event was being told")
		case <-time.After(50 * time.Millisecond):
		}
		if open.Stop() {
			close(gate)
		}
		select {
		case <-closed:
		case <-time.After(patience):
			p.t.Fatalf("Close does not return")
		}
	}},
	{"NothingIsToldAfterClose", func(p *remoteProbe) {
		a := p.start()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					a.tier.Announce(p.t.Context(), dewar.AnnounceSet, []string{fmt.Sprint(i)}, make([]dewar.Place, 1), make([]error, 1))
				}
			}
		})
		for range 5 {
			b := a.start()
			b.hears(1)
			b.wantOK(b.tier.Close())
			b.heard.end()
		}
		heard := len(a.hears(1))
		a.hears(heard + 5)
	}},
}

// announce returns where each of keys stands.
func (p *remoteProbe) announce(kind dewar.AnnouncementKind, keys ...string) []dewar.Place {
	p.t.Helper()
	places, errs := make([]dewar.Place, len(keys)), make([]error, len(keys))
	p.tier.Announce(p.t.Context(), kind, keys, places, errs)
	for i, err := range errs {
		if err != nil || places[i] == (dewar.Place{}) {
			p.t.Errorf("key %d (%.30q) announced at %v, error %v", i, keys[i], places[i], err)
		}
	}
	return places
}

func (p *remoteProbe) wantNextEpoch() {
	p.t.Helper()
	if err := p.tier.NextEpoch(p.t.Context()); err != nil {
		p.t.Errorf("NextEpoch: %v", err)
	}
}

// hears waits until p has heard of so many keys, and returns all announcements.
func (p *remoteProbe) hears(keys int) (heard []dewar.Announcement) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("heard of %d keys", keys), func() bool {
		heard = p.heard.announcements()
		n := 0
		for _, a := range heard {
			n += len(a.Keys)
		}
		return n >= keys
	})
	return heard
}
