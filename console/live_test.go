package console

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// hear reads what a listener is told, up to so many events.
func hear(t *testing.T, l *listener, n int) (names []string, last sample) {
	t.Helper()
	for range n {
		e, ok := <-l.events
		if !ok {
			break
		}
		name, data, _ := strings.Cut(string(e), "\ndata: ")
		names = append(names, strings.TrimPrefix(name, "event: "))
		if names[len(names)-1] == "sample" {
			last = sample{}
			mustDecode(t, data, &last)
		}
	}
	return names, last
}

func mustJoin(t *testing.T, l *live) (*listener, [][]byte) {
	t.Helper()
	one, history, err := l.join(nil)
	if err != nil {
		t.Fatal(err)
	}
	return one, history
}

func liveOf(parts ...Part) *live { return Handler(parts...).(*handler).live }

// goroutines returns the stacks of those that run in a function.
func goroutines(function string) (stacks []string) {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, function) {
			stacks = append(stacks, g)
		}
	}
	return stacks
}

const looking = "console.(*live).run"

// inBubble is goroutines without those outside of the test's bubble: the server
// of a test before may not quite have ended.
func inBubble(function string) []string {
	return slices.DeleteFunc(goroutines(function), func(g string) bool {
		state, _, _ := strings.Cut(g, "\n")
		return !strings.Contains(state, "synctest bubble")
	})
}

func TestNobodyLooksUnlessSomebodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveOf(newFake("videos"))
		time.Sleep(time.Minute)
		first, _ := mustJoin(t, l)
		second, _ := mustJoin(t, l)
		synctest.Wait()
		if n := len(inBubble(looking)); n != 1 {
			t.Errorf("%d goroutines look for two listeners", n)
		}
		hear(t, first, 3)
		l.leave(first)
		if names, _ := hear(t, second, 5); len(names) != 5 {
			t.Error("the second hears no more when the first has left:", names)
		}
		l.leave(second)
		l.leave(second) // once more does nothing
		synctest.Wait()
		if left := inBubble(looking); len(left) > 0 {
			t.Error("a goroutine is left:\n", left[0])
		}
		third, _ := mustJoin(t, l)
		if names, _ := hear(t, third, 2); len(names) != 2 {
			t.Error("one that comes later hears", names)
		}
		l.leave(third)
	})
}

func TestASampleASecondAndTheDialsWhenTheyTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("videos")
		l := liveOf(f)
		one, _ := mustJoin(t, l)
		defer l.leave(one)
		begun := time.Now()
		names, _ := hear(t, one, 4)
		if took := time.Since(begun); took != 3*time.Second || strings.Join(names, " ") != "sample dials sample sample" {
			t.Errorf("%v in %v", names, took)
		}
		f.dial.Set(dewar.Protect)
		if names, _ := hear(t, one, 3); strings.Join(names, " ") != "sample dials sample" {
			t.Error("after the dial was turned:", names)
		}
	})
}

func TestSamplesAreRatesSinceTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("videos")
		f.stats.LocalHits, f.stats.Loads = 1e9, 1e6
		f.stats.StaleAge.Count, f.stats.StaleAge.Buckets[100] = 1e6, 1e6 // long ago
		l := liveOf(f)
		l.every = 2 * time.Second
		one, _ := mustJoin(t, l)
		defer l.leave(one)
		synctest.Wait()
		bucket := 0
		for dewar.HistogramBound(bucket) < 0.010 {
			bucket++
		}
		f.change(func() {
			s := &f.stats
			s.LocalHits, s.RemoteHits, s.Loaded, s.Stale, s.Negative, s.Failed = 1e9+2000, 200, 20, 10, 4, 2
			s.Loads, s.LoadErrors = 1e6+30, 3
			s.Overloaded, s.BreakerRefused, s.DefconRefused = 2, 4, 8
			s.WritesFailed, s.WritesDropped = 6, 8
			s.LoadTime.Count, s.LoadTime.Buckets[bucket] = 30, 30
			s.Flights, s.OldestFlight, s.Bucket = 3, 1500*time.Millisecond, 7
			s.HasRemote, s.Remote.Deaf, s.Remote.SilentFor = true, true, 12*time.Second
			s.Origin.Breaker, s.Level = dewar.BreakerOpen, dewar.Protect
		})
		_, got := hear(t, one, 1)
		c := got.Caches[0]
		want := cacheSample{
			Gets: 1118, Local: 1000, Remote: 100, Loaded: 10, Stale: 5, Negative: 2, Failed: 1,
			Loads: 15, Errors: 1.5, Refused: 7, Unwritten: 7,
			Load50: rounded(dewar.HistogramBound(bucket)), Load99: rounded(dewar.HistogramBound(bucket)),
			Flights: 3, OldestFlight: 1.5, Bucket: 7,
			Total: 1e9 + 2236, Level: 2, Breaker: "open", Bus: "deaf", Silent: 12,
		}
		if c != want {
			t.Errorf("got  %+v\nwant %+v", c, want)
		}
		if got.At != time.Now().UnixMilli() {
			t.Errorf("it is of %d, at %d", got.At, time.Now().UnixMilli())
		}
		f.change(func() { f.stats.Remote = dewar.RemoteStats{}; f.stats.Closed = true })
		if _, got := hear(t, one, 2); got.Caches[0].Gets != 0 || got.Caches[0].Load99 != 0 || got.Caches[0].Bus != "hearing" || !got.Caches[0].Closed {
			t.Errorf("when nothing happens: %+v", got.Caches[0])
		}
	})
}

func TestAPartThatPanicsIsASampleThatSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, sick := newFake("well"), newFake("sick")
		l := liveOf(well, sick)
		one, _ := mustJoin(t, l)
		defer l.leave(one)
		hear(t, one, 2)
		sick.change(func() { sick.panics = true })
		for range 2 {
			if _, got := hear(t, one, 1); got.Caches[0].Problem != "" || got.Caches[1].Problem != "Stats panicked: no stats today" {
				t.Errorf("%+v", got.Caches)
			}
		}
		sick.change(func() { sick.panics = false })
		hear(t, one, 1) // has nothing to compare with
		if _, got := hear(t, one, 1); got.Caches[1].Problem != "" {
			t.Errorf("when it is well again: %+v", got.Caches[1])
		}
	})
}

func TestWhoComesLaterHasThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveOf(newFake("videos"))
		first, history := mustJoin(t, l)
		if len(history) != 0 {
			t.Error("there was a past before the first:", len(history))
		}
		hear(t, first, 11) // ten samples, and the dials
		second, history := mustJoin(t, l)
		if len(history) != 10 {
			t.Errorf("after 10 s the past is %d samples", len(history))
		}
		var last, next sample
		mustDecode(t, string(history[9]), &last)
		if _, next = hear(t, second, 1); next.At-last.At != 1000 {
			t.Errorf("the first sample comes %d ms after the past", next.At-last.At)
		}
		l.leave(first)
		l.leave(second)

		time.Sleep(time.Minute)
		third, history := mustJoin(t, l)
		if len(history) != 11 {
			t.Errorf("a minute later the past is %d samples", len(history))
		}
		hear(t, third, kept+50)
		fourth, history := mustJoin(t, l)
		if len(history) != kept {
			t.Errorf("of a long time %d samples are kept", len(history))
		}
		l.leave(third)
		l.leave(fourth)
		time.Sleep(time.Hour)
		fifth, history := mustJoin(t, l)
		if len(history) != 0 {
			t.Errorf("an hour later %d samples are still there", len(history))
		}
		l.leave(fifth)
	})
}

func TestASlowListenerIsDroppedAndTheOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveOf(newFake("videos"))
		slow, _ := mustJoin(t, l)
		quick, _ := mustJoin(t, l)
		if names, _ := hear(t, quick, 2*backlog); len(names) != 2*backlog {
			t.Error("the quick one hears", len(names))
		}
		n := 0
		for range slow.events {
			n++
		}
		if n != backlog || !errors.Is(slow.why, errSlow) {
			t.Errorf("the slow one has %d events, and then %v", n, slow.why)
		}
		l.leave(slow)
		l.leave(quick)
		synctest.Wait()
		if left := inBubble(looking); len(left) > 0 {
			t.Error("a goroutine is left:\n", left[0])
		}
	})
}

func TestThereIsRoomForSoManyListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := liveOf(newFake("videos"))
		all := make([]*listener, maxListeners)
		for i := range all {
			all[i], _ = mustJoin(t, l)
		}
		if _, _, err := l.join(nil); !errors.Is(err, errCrowded) || !strings.Contains(err.Error(), strconv.Itoa(maxListeners)) {
			t.Error("one more:", err)
		}
		l.leave(all[0])
		all[0], _ = mustJoin(t, l)
		for _, one := range all {
			l.leave(one)
		}
	})
}

func TestRoundingKeepsFourDigits(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 1234567: 1235000, 0.000123456: 0.0001235, -2.00049: -2} {
		if got := rounded(in); got != want || math.Signbit(got) != math.Signbit(want) {
			t.Errorf("%v: %v, not %v", in, got, want)
		}
	}
}
