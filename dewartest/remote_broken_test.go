package dewartest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// wrongTier is a tier of which single methods are replaced.
type wrongTier struct {
	dewar.RemoteTier[string]
	leaseRefresh func(context.Context, []string, []dewar.Found[string])
	renew        func(context.Context, []dewar.Fill[string])
	release      func(context.Context, []dewar.Fill[string])
	unlink       func(context.Context, []string, []error)
	announce     func(context.Context, dewar.AnnouncementKind, []string, []dewar.Place, []error)
	nextEpoch    func(context.Context) error
	close        func() error
}

func (w *wrongTier) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[string]) {
	if w.leaseRefresh != nil {
		w.leaseRefresh(ctx, keys, found)
		return
	}
	w.RemoteTier.LeaseRefresh(ctx, keys, found)
}

func (w *wrongTier) Renew(ctx context.Context, fills []dewar.Fill[string]) {
	if w.renew != nil {
		w.renew(ctx, fills)
		return
	}
	w.RemoteTier.Renew(ctx, fills)
}

func (w *wrongTier) Release(ctx context.Context, fills []dewar.Fill[string]) {
	if w.release != nil {
		w.release(ctx, fills)
		return
	}
	w.RemoteTier.Release(ctx, fills)
}

func (w *wrongTier) Unlink(ctx context.Context, keys []string, errs []error) {
	if w.unlink != nil {
		w.unlink(ctx, keys, errs)
		return
	}
	w.RemoteTier.Unlink(ctx, keys, errs)
}

func (w *wrongTier) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	if w.announce != nil {
		w.announce(ctx, kind, keys, places, errs)
		return
	}
	w.RemoteTier.Announce(ctx, kind, keys, places, errs)
}

func (w *wrongTier) NextEpoch(ctx context.Context) error {
	if w.nextEpoch != nil {
		return w.nextEpoch(ctx)
	}
	return w.RemoteTier.NextEpoch(ctx)
}

func (w *wrongTier) Close() error {
	if w.close != nil {
		return w.close()
	}
	return w.RemoteTier.Close()
}

// wrongEvents changes what is announced on its way.
type wrongEvents struct {
	dewar.RemoteEvents
	announced func(dewar.Announcement)
	all       func(adopt func())
}

func (w *wrongEvents) Announced(a dewar.Announcement) {
	if w.announced != nil {
		w.announced(a)
		return
	}
	w.RemoteEvents.Announced(a)
}

func (w *wrongEvents) AnnouncedAll(adopt func()) {
	if w.all != nil {
		w.all(adopt)
		return
	}
	w.RemoteEvents.AnnouncedAll(adopt)
}

// wrongly opens a tier that breakIt has got at; both arguments are to be changed.
func wrongly(breakIt func(*wrongTier, *wrongEvents)) func(*Remote[string], dewar.RemoteOptions) dewar.RemoteTier[string] {
	return func(srv *Remote[string], o dewar.RemoteOptions) dewar.RemoteTier[string] {
		w, e := &wrongTier{}, &wrongEvents{RemoteEvents: o.Events}
		o.Events = e
		w.RemoteTier, _ = srv.OpenRemote(o)
		breakIt(w, e)
		return w
	}
}

// hearing returns a break of what is announced.
func hearing(change func(a *dewar.Announcement)) func(*Remote[string], dewar.RemoteOptions) dewar.RemoteTier[string] {
	return wrongly(func(_ *wrongTier, e *wrongEvents) {
		tell := e.RemoteEvents.Announced
		e.announced = func(a dewar.Announcement) {
			change(&a)
			tell(a)
		}
	})
}

// brokenRemotes names, for each way to break a tier, the checks that must see it.
var brokenRemotes = map[string]struct {
	open   func(*Remote[string], dewar.RemoteOptions) dewar.RemoteTier[string]
	caught []string
}{
	"grants each refresh lease to all": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		n := byte(0)
		w.leaseRefresh = func(ctx context.Context, keys []string, found []dewar.Found[string]) {
			w.RemoteTier.LeaseRefresh(ctx, keys, found)
			for i := range found {
				n++
				found[i].Refresh = dewar.Fence{n}
			}
		}
	}), []string{
		"RefreshLeaseIsGrantedOnce", "ReleasedRefreshLeaseIsFree", "ManyRefreshLeasesKeepTheirOrder",
		"DuplicateKeysShareARefreshLease", "RefreshLeaseIsApartFromItsKey",
	}},
	"does not look": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.leaseRefresh = func(ctx context.Context, keys []string, found []dewar.Found[string]) {
			w.RemoteTier.LeaseRefresh(ctx, keys, found)
			for i := range found {
				found[i] = dewar.Found[string]{State: dewar.RemoteAbsent, Refresh: found[i].Refresh}
			}
		}
	}), []string{"RefreshLeaseComesWithALook", "RefresherFillsOverWhatItSaw", "ManyRefreshLeasesKeepTheirOrder"}},
	"keeps refresh leases under the key": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.leaseRefresh = func(ctx context.Context, keys []string, found []dewar.Found[string]) {
			w.RemoteTier.Lease(ctx, keys, found)
			for i := range found {
				if found[i].State == dewar.RemoteGranted {
					found[i].Refresh = found[i].Fence
				}
			}
		}
	}), []string{"RefreshLeaseIsApartFromItsKey", "RefreshLeasesOfHostileKeysAreApart", "RefreshLeaseComesWithALook"}},
	"ends refresh leases with an Unlink": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		tier := w.RemoteTier.(*memoryTier[string])
		w.unlink = func(ctx context.Context, keys []string, errs []error) {
			w.RemoteTier.Unlink(ctx, keys, errs)
			tier.srv.mu.Lock()
			defer tier.srv.mu.Unlock()
			for k := range tier.srv.items {
				if k.refresh && slices.Contains(keys, k.key) {
					delete(tier.srv.items, k)
				}
			}
		}
	}), []string{"RefreshLeaseIsApartFromItsKey", "RefreshLeasesOfHostileKeysAreApart"}},
	"names a refresh lease ambiguously": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.leaseRefresh = func(ctx context.Context, keys []string, found []dewar.Found[string]) {
			w.RemoteTier.Read(ctx, keys, found)
			for i, key := range keys {
				lease := make([]dewar.Found[string], 1)
				w.RemoteTier.Lease(ctx, []string{key + ":r"}, lease)
				if lease[0].State == dewar.RemoteGranted {
					found[i].Refresh = lease[0].Fence
				}
			}
		}
	}), []string{"RefreshLeasesOfHostileKeysAreApart"}},
	"releases whatever is there": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		tier := w.RemoteTier.(*memoryTier[string])
		w.release = func(_ context.Context, fills []dewar.Fill[string]) {
			tier.srv.mu.Lock()
			defer tier.srv.mu.Unlock()
			for i := range fills {
				delete(tier.srv.items, tier.fillKeyLocked(&fills[i]))
			}
		}
	}), []string{"ReleasedRefreshLeaseIsFree", "RefreshLeaseIsApartFromItsKey", "RefreshLeaseExpires"}},
	"never expires refresh leases": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		tier := w.RemoteTier.(*memoryTier[string])
		w.leaseRefresh = func(ctx context.Context, keys []string, found []dewar.Found[string]) {
			was := tier.leaseFor
			defer func() { tier.leaseFor = was }()
			tier.leaseFor = time.Hour
			tier.LeaseRefresh(ctx, keys, found)
		}
	}), []string{"RefreshLeaseExpires", "RenewOfALostLeaseIsFenced"}},
	"does not renew": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.renew = func(_ context.Context, fills []dewar.Fill[string]) { failFills(fills, nil) }
	}), []string{"RenewKeepsLeasesAlive", "RenewOfALostLeaseIsFenced"}},
	"renews for ever": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		tier := w.RemoteTier.(*memoryTier[string])
		w.renew = func(ctx context.Context, fills []dewar.Fill[string]) {
			was := tier.leaseFor
			defer func() { tier.leaseFor = was }()
			tier.leaseFor = time.Hour
			tier.Renew(ctx, fills)
		}
	}), []string{"RenewedLeaseExpires"}},
	"creates what it renews": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.renew = func(ctx context.Context, fills []dewar.Fill[string]) {
			w.RemoteTier.Renew(ctx, fills)
			for i := range fills {
				if fills[i].Err != nil {
					w.RemoteTier.Lease(ctx, []string{fills[i].Key}, make([]dewar.Found[string], 1))
				}
			}
		}
	}), []string{"RenewOfALostLeaseIsFenced"}},
	"ignores contexts": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.announce = func(_ context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
			w.RemoteTier.Announce(context.Background(), kind, keys, places, errs)
		}
	}), []string{"DoneContextFailsEveryKey"}},
	"announces to nobody": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.announce = func(_ context.Context, _ dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
			for i := range keys {
				places[i], errs[i] = dewar.Place{Time: 1}, nil
			}
		}
	}), []string{"AllHearWhatIsAnnounced", "AllHearInOneOrder", "AnnouncedKeysComeBackWhole"}},
	"tells other places than it answered": {
		hearing(func(a *dewar.Announcement) { a.Place.Seq++ }),
		[]string{"AllHearWhatIsAnnounced", "AnnouncedKeysComeBackWhole"},
	},
	"does not know its own":        {hearing(func(a *dewar.Announcement) { a.Own = false }), []string{"AllHearWhatIsAnnounced"}},
	"takes others' for its own":    {hearing(func(a *dewar.Announcement) { a.Own = true }), []string{"AllHearWhatIsAnnounced"}},
	"forgets the kind":             {hearing(func(a *dewar.Announcement) { a.Kind = dewar.AnnounceInvalidate }), []string{"AllHearWhatIsAnnounced", "AnnouncedKeysComeBackWhole"}},
	"takes all schemas for one":    {hearing(func(a *dewar.Announcement) { a.Elsewhere = false }), []string{"OtherSchemasHearElsewhere"}},
	"takes its schema for another": {hearing(func(a *dewar.Announcement) { a.Elsewhere = true }), []string{"OtherSchemasHearElsewhere", "AllHearWhatIsAnnounced"}},
	"cleans keys":                  {hearing(cleanKeys), []string{"AnnouncedKeysComeBackWhole"}},
	"cuts what is announced":       {hearing(func(a *dewar.Announcement) { a.Keys = a.Keys[:min(len(a.Keys), 30)] }), []string{"AnnouncedKeysComeBackWhole"}},
	"tells several at once": {wrongly(func(w *wrongTier, e *wrongEvents) {
		var telling sync.WaitGroup
		e.announced = func(a dewar.Announcement) {
			telling.Go(func() { e.RemoteEvents.Announced(a) })
		}
		w.close = func() error { defer telling.Wait(); return w.RemoteTier.Close() }
	}), []string{"AllHearInOneOrder"}},
	"has one stream for all names": {func(srv *Remote[string], o dewar.RemoteOptions) dewar.RemoteTier[string] {
		o.Name = "one"
		tier, _ := srv.OpenRemote(o)
		return tier
	}, []string{"OtherNamesHearNothing"}},
	"keeps the epoch": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.nextEpoch = func(context.Context) error { return nil }
	}), []string{"NextEpochHidesEverything", "NextEpochIsToldToTheOthersOnce"}},
	"does not tell of epochs": {wrongly(func(_ *wrongTier, e *wrongEvents) {
		e.all = func(adopt func()) { adopt() }
	}), []string{"NextEpochIsToldToTheOthersOnce"}},
	"tells of epochs twice": {wrongly(func(_ *wrongTier, e *wrongEvents) {
		e.all = func(adopt func()) {
			e.RemoteEvents.AnnouncedAll(adopt)
			e.RemoteEvents.AnnouncedAll(adopt)
		}
	}), []string{"NextEpochIsToldToTheOthersOnce"}},
	"tells its own epochs": {wrongly(func(w *wrongTier, e *wrongEvents) {
		w.nextEpoch = func(ctx context.Context) error {
			defer e.RemoteEvents.AnnouncedAll(func() {})
			return w.RemoteTier.NextEpoch(ctx)
		}
	}), []string{"NextEpochIsToldToTheOthersOnce"}},
	"moves its own schema only": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		tier := w.RemoteTier.(*memoryTier[string])
		w.nextEpoch = func(context.Context) error {
			tier.srv.mu.Lock()
			defer tier.srv.mu.Unlock()
			for k := range tier.srv.items {
				if k.name == tier.name && k.schema == tier.schema {
					delete(tier.srv.items, k)
				}
			}
			return nil
		}
	}), []string{"NextEpochHidesEverything"}},
	"closes without waiting": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.close = func() error { go w.RemoteTier.Close(); return nil }
	}), []string{"CloseWaitsForTheEventBeingTold"}},
	"goes on after Close": {wrongly(func(w *wrongTier, _ *wrongEvents) {
		w.close = func() error { time.AfterFunc(time.Second, func() { w.RemoteTier.Close() }); return nil }
	}), []string{"NothingIsToldAfterClose"}},
}

func cleanKeys(a *dewar.Announcement) {
	for i, key := range a.Keys {
		a.Keys[i] = strings.ToValidUTF8(key, "?")
	}
}

// failing is a test that a check may fail.
type failing struct {
	recorder
	ctx      context.Context
	cleanups []func()
}

func (f *failing) Context() context.Context { return f.ctx }
func (f *failing) Cleanup(do func())        { f.cleanups = append(f.cleanups, do) }

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// failureOf runs a check in a bubble, where its patience costs nothing, and
// returns how it failed.
func failureOf(t *testing.T, check func(*remoteProbe), open func(*Remote[string], dewar.RemoteOptions) dewar.RemoteTier[string]) string {
	f := &failing{}
	synctest.Test(t, func(t *testing.T) {
		f.ctx = context.Background()
		srv := NewRemote[string]()
		done := make(chan struct{})
		go func() {
			defer close(done)
			check(&remoteProbe{t: f, lease: time.Minute, open: func(o dewar.RemoteOptions) dewar.RemoteTier[string] {
				return open(srv, o)
			}})
		}()
		<-done
		for _, do := range slices.Backward(f.cleanups) {
			do()
		}
		time.Sleep(time.Minute)
	})
	return f.failed
}

func TestRemoteTierCatchesBrokenTiers(t *testing.T) {
	checks := make(map[string]func(*remoteProbe))
	for _, c := range slices.Concat(remoteContract, useContract, leaseContract, fleetContract) {
		checks[c.name] = c.check
	}
	for name, broken := range brokenRemotes {
		for _, check := range broken.caught {
			t.Run(name+"/"+check, func(t *testing.T) {
				failed := failureOf(t, checks[check], broken.open)
				if failed == "" {
					t.Error("the check does not see it")
				}
				t.Log(failed)
			})
		}
	}
}

func TestEveryCheckOfTheFleetPartSeesABrokenTier(t *testing.T) {
	seen := make(map[string]bool)
	for _, broken := range brokenRemotes {
		for _, check := range broken.caught {
			seen[check] = true
		}
	}
	for _, c := range slices.Concat(leaseContract, fleetContract) {
		if !seen[c.name] {
			t.Errorf("%s is not known to see anything", c.name)
		}
		sound := func(srv *Remote[string], o dewar.RemoteOptions) dewar.RemoteTier[string] {
			tier, err := srv.OpenRemote(o)
			if err != nil {
				panic(fmt.Sprint(err))
			}
			return tier
		}
		if failed := failureOf(t, c.check, sound); failed != "" {
			t.Errorf("%s: %s", c.name, failed)
		}
	}
}
