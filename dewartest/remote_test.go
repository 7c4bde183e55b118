package dewartest_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func openRemote(t *testing.T, opener dewar.RemoteOpener[string], o dewar.RemoteOptions) dewar.RemoteTier[string] {
	t.Helper()
	tier, err := opener.OpenRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	return tier
}

var remoteOptions = dewar.RemoteOptions{
	Name: "videos", Schema: "0", LeaseFor: 3 * time.Second, Logger: slog.New(slog.DiscardHandler),
}

func TestMemoryRemoteKeepsTheContract(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	dewartest.RemoteTier(t, func(t *testing.T, o dewar.RemoteOptions) dewar.RemoteTier[string] {
		return openRemote(t, srv, o)
	})
}

func TestIdleChaosKeepsTheContract(t *testing.T) {
	chaos := &dewartest.Chaos[string]{
		Remote:    dewartest.NewRemote[string](),
		Intercept: func(string, []string) error { return nil },
		Answer:    func(string, []string) error { return nil },
	}
	dewartest.RemoteTier(t, func(t *testing.T, o dewar.RemoteOptions) dewar.RemoteTier[string] {
		return openRemote(t, chaos, o)
	})
}

// lease takes the lease of key, which must be absent.
func lease(t *testing.T, tier dewar.RemoteTier[string], key string) dewar.Fence {
	t.Helper()
	found := make([]dewar.Found[string], 1)
	tier.Lease(t.Context(), []string{key}, found)
	if found[0].State != dewar.RemoteGranted {
		t.Fatalf("state %d, error %v", found[0].State, found[0].Err)
	}
	return found[0].Fence
}

// store fills key over fence, dead after d.
func store(t *testing.T, tier dewar.RemoteTier[string], key string, fence dewar.Fence, d time.Duration) error {
	t.Helper()
	now := dewar.Clock()
	dead := now + int64(d)
	fills := []dewar.Fill[string]{{
		Key: key, Fence: fence, Dead: dead,
		Entry: dewar.Entry[string]{Value: "v", Loaded: now, Due: dead, Fresh: dead},
	}}
	tier.Fill(t.Context(), fills)
	return fills[0].Err
}

func state(t *testing.T, tier dewar.RemoteTier[string], key string) dewar.RemoteState {
	t.Helper()
	found := make([]dewar.Found[string], 1)
	tier.Read(t.Context(), []string{key}, found)
	return found[0].State
}

func TestMemoryRemoteExpiresToTheNanosecondOfASynctestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		tier := openRemote(t, srv, remoteOptions)
		if err := store(t, tier, "k", lease(t, tier, "k"), time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - 1)
		if state(t, tier, "k") != dewar.RemoteValue {
			t.Error("gone 1 ns early")
		}
		time.Sleep(time.Nanosecond)
		if state(t, tier, "k") != dewar.RemoteAbsent {
			t.Error("there at its hard expiry")
		}

		fence := lease(t, tier, "k")
		time.Sleep(remoteOptions.LeaseFor - 1)
		if !srv.Leased("videos", "k") {
			t.Error("the lease ended 1 ns early")
		}
		time.Sleep(time.Nanosecond)
		if srv.Leased("videos", "k") {
			t.Error("the lease outlived LeaseFor")
		}
		if err := store(t, tier, "k", fence, time.Hour); !errors.Is(err, dewar.ErrFenced) {
			t.Errorf("fill over a lease that expired: %v", err)
		}
	})
}

func TestMemoryRemoteShowsWhatItHolds(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	tier := openRemote(t, srv, remoteOptions)
	fence := lease(t, tier, "k")
	if srv.Has("videos", "k") || !srv.Leased("videos", "k") || srv.Len() != 0 {
		t.Error("a lease counts as a value")
	}
	if err := store(t, tier, "k", fence, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !srv.Has("videos", "k") || srv.Leased("videos", "k") || srv.Len() != 1 || srv.Has("other", "k") || srv.Has("videos", "other") {
		t.Error("the value is not seen where it is")
	}
	if e, ok := srv.Entry("videos", "k"); !ok || e.Value != "v" {
		t.Errorf("entry %+v, %v", e, ok)
	}
	want := dewartest.RemoteCounts{Lease: dewartest.OpCount{Calls: 1, Keys: 1}, Fill: dewartest.OpCount{Calls: 1, Keys: 1}}
	if got := srv.Counts(); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	srv.ResetCounts()
	tier.Read(t.Context(), []string{"a", "b"}, make([]dewar.Found[string], 2))
	if got := srv.Counts(); got != (dewartest.RemoteCounts{Read: dewartest.OpCount{Calls: 1, Keys: 2}}) {
		t.Errorf("counts %+v", got)
	}
	srv.Drop("videos", "k")
	if srv.Has("videos", "k") {
		t.Error("there after Drop")
	}
	if err := store(t, tier, "k", lease(t, tier, "k"), time.Hour); err != nil {
		t.Fatal(err)
	}
	srv.Clear()
	if srv.Len() != 0 {
		t.Error("there after Clear")
	}
}

func TestMemoryRemoteRenewsNoValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := openRemote(t, dewartest.NewRemote[string](), remoteOptions)
		if err := store(t, tier, "k", lease(t, tier, "k"), time.Hour); err != nil {
			t.Fatal(err)
		}
		found := make([]dewar.Found[string], 1)
		tier.Read(t.Context(), []string{"k"}, found)
		fills := []dewar.Fill[string]{{Key: "k", Fence: found[0].Fence}}
		tier.Renew(t.Context(), fills)
		if !errors.Is(fills[0].Err, dewar.ErrFenced) {
			t.Errorf("error %v", fills[0].Err)
		}
		time.Sleep(time.Hour - 1)
		if state(t, tier, "k") != dewar.RemoteValue {
			t.Error("its life was cut short")
		}
	})
}

func TestMemoryRemoteOutlivesItsTiers(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	a := openRemote(t, srv, remoteOptions)
	if err := store(t, a, "k", lease(t, a, "k"), time.Hour); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if got := state(t, a, "k"); got != dewar.RemoteFailed {
		t.Errorf("a closed tier answers with state %d", got)
	}
	if got := state(t, openRemote(t, srv, remoteOptions), "k"); got != dewar.RemoteValue {
		t.Errorf("state %d in the next process", got)
	}
}

func TestRemoteDoublesNameWhatIsMissing(t *testing.T) {
	for name, opener := range map[string]dewar.RemoteOpener[string]{
		"zero Remote":    &dewartest.Remote[string]{},
		"zero Chaos":     &dewartest.Chaos[string]{},
		"Chaos of Chaos": &dewartest.Chaos[string]{Remote: &dewartest.Chaos[string]{}},
	} {
		if opener.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
		if _, err := opener.OpenRemote(remoteOptions); err == nil {
			t.Errorf("%s: opens", name)
		}
	}
	if _, err := dewartest.NewRemote[string]().OpenRemote(dewar.RemoteOptions{Name: "n"}); err == nil {
		t.Error("opens without LeaseFor")
	}
}

func TestChaosDownFailsEverythingAtOnce(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	chaos := &dewartest.Chaos[string]{Remote: srv}
	tier := openRemote(t, chaos, remoteOptions)
	fence := lease(t, tier, "k")
	chaos.Down(true)
	if err := store(t, tier, "k", fence, time.Hour); !errors.Is(err, dewartest.ErrDown) {
		t.Errorf("fill: %v", err)
	}
	if got := state(t, tier, "k"); got != dewar.RemoteFailed {
		t.Errorf("state %d", got)
	}
	errs := make([]error, 2)
	tier.Unlink(t.Context(), []string{"k", "l"}, errs)
	if !errors.Is(errs[0], dewartest.ErrDown) || !errors.Is(errs[1], dewartest.ErrDown) {
		t.Errorf("unlink: %v", errs)
	}
	if !srv.Leased("videos", "k") {
		t.Error("the deletion was carried out")
	}
	chaos.Down(false)
	if err := store(t, tier, "k", fence, time.Hour); err != nil {
		t.Errorf("fill after it came back: %v", err)
	}
}

func TestChaosDelayHonoursTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chaos := &dewartest.Chaos[string]{Remote: dewartest.NewRemote[string]()}
		tier := openRemote(t, chaos, remoteOptions)
		chaos.Delay(time.Second)
		began := time.Now()
		if got := state(t, tier, "k"); got != dewar.RemoteAbsent || time.Since(began) != time.Second {
			t.Errorf("state %d after %v", got, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began = time.Now()
		found := make([]dewar.Found[string], 1)
		tier.Read(ctx, []string{"k"}, found)
		if !errors.Is(found[0].Err, context.DeadlineExceeded) || time.Since(began) != 10*time.Millisecond {
			t.Errorf("error %v after %v", found[0].Err, time.Since(began))
		}
	})
}

func TestChaosInterceptHoldsAFillAtAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		gate := make(chan error)
		var seen []string
		chaos := &dewartest.Chaos[string]{Remote: srv, Intercept: func(op string, keys []string) error {
			seen = append(seen, op)
			if op == "Fill" && slices.Equal(keys, []string{"k"}) {
				return <-gate
			}
			return nil
		}}
		tier := openRemote(t, chaos, remoteOptions)
		fence := lease(t, tier, "k")
		result := make(chan error)
		go func() { result <- store(t, tier, "k", fence, time.Hour) }()
		synctest.Wait()
		if srv.Has("videos", "k") {
			t.Error("the fill passed the gate")
		}
		gate <- nil
		if err := <-result; err != nil || !srv.Has("videos", "k") {
			t.Errorf("after the gate opened: %v", err)
		}
		refusal := errors.New("refused")
		go func() { result <- store(t, tier, "k", fence, time.Hour) }()
		gate <- refusal
		if err := <-result; !errors.Is(err, refusal) {
			t.Errorf("error %v", err)
		}
		if want := []string{"Lease", "Fill", "Fill"}; !slices.Equal(seen, want) {
			t.Errorf("saw %v, want %v", seen, want)
		}
	})
}

func TestChaosAnswerLosesTheReplyOfWhatWasDone(t *testing.T) {
	srv := dewartest.NewRemote[string]()
	lost := errors.New("connection reset")
	chaos := &dewartest.Chaos[string]{Remote: srv, Answer: func(op string, _ []string) error {
		if op == "Fill" {
			return lost
		}
		return nil
	}}
	tier := openRemote(t, chaos, remoteOptions)
	if err := store(t, tier, "k", lease(t, tier, "k"), time.Hour); !errors.Is(err, lost) {
		t.Errorf("error %v", err)
	}
	if !srv.Has("videos", "k") {
		t.Error("the fill was not carried out")
	}
}
