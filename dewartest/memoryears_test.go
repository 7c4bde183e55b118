package dewartest_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// diary writes down what it is told.
type diary struct {
	mu    sync.Mutex // guards lines
	lines []string
	each  func(line string) // if not nil, called after each
}

func (d *diary) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	d.mu.Lock()
	d.lines = append(d.lines, line)
	d.mu.Unlock()
	if d.each != nil {
		d.each(line)
	}
}

func (d *diary) Announced(a dewar.Announcement) {
	who := "other"
	if a.Own {
		who = "own"
	}
	if a.Elsewhere {
		who = "elsewhere"
	}
	d.note("%s %d %q at %d", who, a.Kind, a.Keys, a.Place.Time)
}

func (d *diary) AnnouncedAll(adopt func()) {
	adopt()
	d.note("all")
}

func (d *diary) Missed(adopt func()) {
	if adopt != nil {
		adopt()
	}
	d.note("missed")
}

func (d *diary) Deaf(max time.Duration) { d.note("deaf %v", max) }
func (d *diary) Hearing()               { d.note("hearing") }

// take returns what was written since it was last called.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// want compares, in a bubble, what was told since the last time.
func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got := d.take(); !slices.Equal(got, lines) {
		t.Errorf("told %q, want %q", got, lines)
	}
}

// listener is a process that notes what it hears.
type listener struct {
	dewar.RemoteTier[string]
	diary
	chaos *dewartest.Chaos[string]
	t     *testing.T
}

func listen(t *testing.T, srv *dewartest.Remote[string], change ...func(*dewar.RemoteOptions)) *listener {
	t.Helper()
	l := &listener{chaos: &dewartest.Chaos[string]{Remote: srv}, t: t}
	o := remoteOptions
	o.Events = &l.diary
	for _, c := range change {
		c(&o)
	}
	l.RemoteTier = openRemote(t, l.chaos, o)
	t.Cleanup(func() { l.Close() })
	return l
}

func (l *listener) announce(keys ...string) {
	l.t.Helper()
	errs := make([]error, len(keys))
	l.Announce(l.t.Context(), dewar.AnnounceInvalidate, keys, make([]dewar.Place, len(keys)), errs)
	for _, err := range errs {
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *listener) nextEpoch() {
	l.t.Helper()
	if err := l.NextEpoch(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

func TestLagDelaysWhatIsHeardInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		b.chaos.Lag(time.Second)
		a.announce("k")
		b.chaos.Lag(0)
		a.announce("l")
		a.want(t, `own 1 ["k"] at 1`, `own 1 ["l"] at 2`)
		b.want(t)
		time.Sleep(time.Second)
		b.want(t, `other 1 ["k"] at 1`, `other 1 ["l"] at 2`)
	})
}

func TestWhatIsMissedIsFoundBeforeWhatComesAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		b.chaos.Miss(true)
		a.announce("k")
		time.Sleep(time.Minute)
		b.want(t)
		b.chaos.Miss(false)
		a.announce("l")
		b.want(t, "missed", `other 1 ["l"] at 2`)
		b.chaos.Miss(true)
		b.chaos.Miss(false)
		b.want(t)
		if got := b.Stats().Gaps; got != 1 {
			t.Errorf("%d gaps, want 1", got)
		}
	})
}

func TestANewEpochThatWasMissedIsAdoptedOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		if err := store(t, a, "k", lease(t, a, "k"), time.Hour); err != nil {
			t.Fatal(err)
		}
		b.chaos.Miss(true)
		a.nextEpoch()
		synctest.Wait()
		if state(t, a, "k") != dewar.RemoteAbsent || state(t, b, "k") != dewar.RemoteValue || srv.Has("videos", "k") {
			t.Error("not: gone for who moved and the server, there for who has not heard")
		}
		b.chaos.Miss(false)
		b.want(t, "missed", "all")
		if state(t, b, "k") != dewar.RemoteAbsent {
			t.Error("there in the new epoch")
		}
		a.want(t)
	})
}

func TestADeafTierSaysSoAndCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		b.chaos.Deaf(true, time.Second)
		time.Sleep(2*time.Second - 1)
		b.want(t)
		if s := b.Stats(); s.Deaf || s.SilentFor != 2*time.Second-1 {
			t.Errorf("deaf %v, silent for %v", s.Deaf, s.SilentFor)
		}
		time.Sleep(time.Nanosecond)
		b.want(t, "deaf 1s")
		if !b.Stats().Deaf {
			t.Error("not deaf in Stats")
		}
		a.announce("k")
		b.want(t)
		b.chaos.Deaf(false, 0)
		b.want(t, `other 1 ["k"] at 1`, "hearing")

		b.chaos.Deaf(true, 0)
		b.chaos.Miss(true)
		time.Sleep(time.Hour)
		a.announce("l")
		b.chaos.Miss(false)
		b.want(t, "deaf 0s")
		b.chaos.Deaf(false, 0)
		b.want(t, "missed", "hearing")

		b.chaos.Deaf(true, 0)
		time.Sleep(time.Second)
		b.chaos.Deaf(false, 0)
		b.want(t)
	})
}

func TestFailoverBringsBackWhatTheLastChangesReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		for _, k := range []string{"kept", "deleted"} {
			if err := store(t, a, k, lease(t, a, k), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		a.Unlink(t.Context(), []string{"deleted"}, make([]error, 1))
		lease(t, a, "leased")
		b.chaos.Lag(time.Second)
		a.announce("deleted")
		a.want(t, `own 1 ["deleted"] at 1`)
		srv.Failover("videos", 2)
		a.want(t, "missed")
		if state(t, b, "deleted") != dewar.RemoteValue || state(t, b, "kept") != dewar.RemoteValue || state(t, b, "leased") != dewar.RemoteAbsent {
			t.Error("the last two changes are not undone for who has not noticed")
		}
		if state(t, a, "deleted") != dewar.RemoteAbsent || state(t, a, "kept") != dewar.RemoteAbsent {
			t.Error("who has noticed does not use a new epoch")
		}
		time.Sleep(time.Second)
		b.want(t, "missed")
		if state(t, b, "deleted") != dewar.RemoteAbsent {
			t.Error("there after the failover was noticed")
		}
	})
}

func TestCloseWaitsForTheEventThatIsBeingTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := dewartest.NewRemote[string]()
		a, b := listen(t, srv), listen(t, srv)
		gate := make(chan struct{})
		b.each = func(string) { <-gate }
		a.announce("k")
		a.announce("l")
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			b.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait")
		default:
		}
		close(gate)
		<-closed
		a.announce("m")
		b.want(t, `other 1 ["k"] at 1`)
	})
}
