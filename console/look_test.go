package console

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// stuck is a cache whose Stats does not return while it is on.
type stuck struct {
	*fake
	on   atomic.Bool
	free chan struct{}
}

func newStuck(name string) *stuck { return &stuck{fake: newFake(name), free: make(chan struct{})} }

func (s *stuck) Stats() dewar.Stats {
	if s.on.Load() {
		<-s.free
	}
	return s.fake.Stats()
}

func TestACacheThatIsStuckKeepsNoOtherFromBeingSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, sick := newFake("well"), newStuck("sick")
		h := Handler(well, sick).(*handler)
		one, _ := mustJoin(t, h.live)
		defer h.live.leave(one)
		hear(t, one, 2)
		sick.on.Store(true)
		well.change(func() { well.stats.LocalHits += 1000 })
		begun := time.Now()
		_, s := hear(t, one, 1)
		if took := time.Since(begun); took > 2*time.Second || s.Caches[0].Gets < 600 || s.Caches[0].Problem != "" {
			t.Errorf("after %v: %+v", took, s.Caches[0])
		}
		if !strings.Contains(s.Caches[1].Problem, "does not answer") {
			t.Errorf("the one that is stuck: %+v", s.Caches[1])
		}
		all := decoded[catalogue](t, ask(h, "GET", "/api/caches", ""), http.StatusOK)
		if all.Caches[0].Stats == nil || all.Caches[1].Problem == "" {
			t.Errorf("%+v", all.Caches)
		}
		hear(t, one, 20)
		if n := len(inBubble("console.(*cache).look")); n != 1 {
			t.Errorf("%d goroutines wait for it", n)
		}
		sick.on.Store(false)
		close(sick.free)
		hear(t, one, 2) // a look at it, and one to compare it with
		if _, s := hear(t, one, 1); s.Caches[1].Problem != "" {
			t.Errorf("once it goes on: %+v", s.Caches[1])
		}
	})
}

// A ticker keeps a tick for who is late, so the look after a slow one would come
// at once, and what is seen then would count as that of a whole interval.
func TestRatesAreRightAfterASlowLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &slowly{fake: newFake("videos")}
		l := liveOf(f)
		l.every = 100 * time.Millisecond
		one, _ := mustJoin(t, l)
		defer l.leave(one)
		hear(t, one, 2)
		f.took.Store(int64(250 * time.Millisecond))
		for range 5 {
			_, s := hear(t, one, 1)
			if c := s.Caches[0]; c.Gets > 20 {
				t.Errorf("one read every 100 ms is told as %v a second", c.Gets)
			}
			f.took.Store(0)
		}
		time.Sleep(time.Second)
	})
}

// slowly has one read more at each look.
type slowly struct {
	*fake
	looks atomic.Uint64
	took  atomic.Int64
}

func (s *slowly) Stats() dewar.Stats {
	time.Sleep(time.Duration(s.took.Load()))
	return dewar.Stats{LocalHits: s.looks.Add(1)}
}

func TestWhatShrinksCountsAsBegunAnew(t *testing.T) {
	var before, after taken
	before.stats.LocalHits, before.stats.Loads = 1e6, 1e5
	before.stats.LoadTime.Count, before.stats.LoadTime.Buckets[40] = 1000, 1000
	after.stats.LocalHits, after.stats.Loads = 10, 1
	after.stats.LoadTime.Count, after.stats.LoadTime.Buckets[20] = 1, 1
	c := between(&before, &after, time.Second)
	if c.Gets != 10 || c.Loads != 1 {
		t.Errorf("%v reads and %v loads a second", c.Gets, c.Loads)
	}
	if want := rounded(dewar.HistogramBound(20)); c.Load99 != want {
		t.Errorf("a load takes %v, where the only one took %v", c.Load99, want)
	}
}

func TestTheLevelOfACacheIsItsDialsAlsoWhereItCannotBeLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick := newFake("sick")
		sick.panics = true
		sick.dial.Set(dewar.Lockdown)
		l := liveOf(sick)
		one, _ := mustJoin(t, l)
		defer l.leave(one)
		if _, s := hear(t, one, 1); s.Caches[0].Level != int(dewar.Lockdown) {
			t.Errorf("its level is told as %d", s.Caches[0].Level)
		}
	})
}

func TestKeysTooLongForTheConsoleAreCutInTheLists(t *testing.T) {
	f := newFake("videos")
	for i := range 3 {
		f.hot = append(f.hot, dewar.HotKey{Key: strings.Repeat("é<", 5<<20) + fmt.Sprint(i), Reads: 1})
	}
	f.hot = append(f.hot, dewar.HotKey{Key: strings.Repeat("k", maxKey), Reads: 1})
	body := read(t, ask(Handler(f), "GET", "/api/keys?cache=videos", ""))
	if len(body) > 32<<10 {
		t.Errorf("api/keys answers %d bytes for three keys", len(body))
	}
	var list keyList
	mustDecode(t, body, &list)
	if k := list.Hot[0]; k.Bytes != 15<<20+1 || !strings.HasPrefix(f.hot[0].Key, k.Key) || len(k.Key) < 200 || k.Key64 != "" {
		t.Errorf("%d bytes, %q", k.Bytes, k.Key)
	}
	if k := list.Hot[3]; k.Bytes != 0 || k.Key != f.hot[3].Key {
		t.Errorf("one that is short enough: %d bytes, %q", k.Bytes, k.Key)
	}
}
