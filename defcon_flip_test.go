package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// flipped is a cache whose dial is turned all the time, and what its origin saw.
type flipped struct {
	*cache
	dial     *dewar.Defcon
	versions [8]atomic.Int64 // of the keys, in the origin
	done     [8]atomic.Int64 // the version that the last finished Invalidate was for

	mu       sync.Mutex // mu guards lockedAt
	lockedAt time.Time  // since when the level is 1; zero: it is not
	late     atomic.Int64
}

func newFlipped(t *testing.T) *flipped {
	f := &flipped{dial: new(dewar.Defcon)}
	cfg := localOnly(newOrigin(0))
	cfg.Defcon, cfg.Origin = f.dial, dewar.NewOrigin("flipped", dewar.Guard{})
	cfg.TTL, cfg.Stale = 200*time.Millisecond, dewar.Stale{IfError: time.Hour, RetryAfter: 10 * time.Millisecond}
	answer := func(k string) string {
		f.mu.Lock()
		if !f.lockedAt.IsZero() && time.Since(f.lockedAt) > time.Millisecond { // it had passed the dial before
			f.late.Add(1)
		}
		f.mu.Unlock()
		return fmt.Sprint(k, "#", f.versions[index(k)].Load())
	}
	cfg.Load = func(_ context.Context, k string) (string, error) {
		v := answer(k)
		time.Sleep(time.Millisecond)
		return v, nil
	}
	cfg.LoadMany = func(_ context.Context, ks []string) (map[string]string, error) {
		m := make(map[string]string)
		for _, k := range ks {
			m[k] = answer(k)
		}
		time.Sleep(time.Millisecond)
		return m, nil
	}
	f.cache = open(t, cfg)
	return f
}

func index(k string) int { i, _ := strconv.Atoi(k); return i }

// turn turns the dial; the moment is noted so that calls that begin at Lockdown
// are seen.
func (f *flipped) turn(l dewar.Level) {
	f.mu.Lock()
	if f.lockedAt = (time.Time{}); l != dewar.Lockdown {
		f.mu.Unlock()
		f.dial.Set(l)
		return
	}
	f.mu.Unlock()
	f.dial.Set(l)
	f.mu.Lock()
	f.lockedAt = time.Now()
	f.mu.Unlock()
}

// check tells what is wrong with an answer to a read that began when the last
// finished invalidation was for version least.
func (f *flipped) check(t *testing.T, k, v string, err error, least int64) {
	if err != nil {
		if !errors.Is(err, dewar.ErrDefcon) {
			t.Error(err)
		}
		return // invalidated, and not loaded again at this level
	}
	_, version, _ := strings.Cut(v, "#")
	if n, err := strconv.ParseInt(version, 10, 64); err != nil || n < least {
		t.Errorf("%s is %q; version %d was invalidated for before", k, v, least)
	}
}

func (f *flipped) read(t *testing.T) {
	k := strconv.Itoa(rand.IntN(8))
	if rand.IntN(2) == 0 {
		least := f.done[index(k)].Load()
		v, err := f.Get(t.Context(), k)
		f.check(t, k, v, err, least)
		return
	}
	ks := []string{"0", "3", "5"}
	var least [8]int64
	for _, k := range ks {
		least[index(k)] = f.done[index(k)].Load()
	}
	vs, err := f.GetMany(t.Context(), ks)
	var batch *dewar.BatchError[string]
	if err != nil && !errors.As(err, &batch) {
		t.Error(err)
		return
	}
	for _, k := range ks {
		if v, ok := vs[k]; ok {
			f.check(t, k, v, nil, least[index(k)])
		} else {
			f.check(t, k, "", batch.For(k), 0)
		}
	}
}

// write changes a key in the origin, and invalidates it.
func (f *flipped) write(t *testing.T) {
	k := strconv.Itoa(rand.IntN(4)) // the others are never without a value
	n := f.versions[index(k)].Add(1)
	if err := f.Invalidate(t.Context(), k); err != nil {
		t.Error(err)
	}
	f.done[index(k)].Store(n)
}

// play flips a hundred times a second among readers and one writer.
func (f *flipped) play(t *testing.T, readers int, pause, length time.Duration) {
	for i := range 8 {
		mustGet(t, f.cache, strconv.Itoa(i), fmt.Sprint(i, "#0"))
	}
	until := time.Now().Add(length)
	var wg sync.WaitGroup
	during := func(pause time.Duration, do func()) {
		wg.Go(func() {
			for time.Now().Before(until) {
				do()
				time.Sleep(pause)
			}
		})
	}
	for range readers {
		during(pause, func() { f.read(t) })
	}
	during(pause, func() { // always with a value at hand
		if v, err := f.Get(t.Context(), "7"); err != nil || v != "7#0" {
			t.Errorf("%q, %v", v, err)
		}
	})
	during(7*time.Millisecond, func() { f.write(t) })
	l := dewar.Normal
	during(10*time.Millisecond, func() {
		l = 1 + (l+dewar.Level(rand.IntN(4)))%5 // any but l
		f.turn(l)
	})
	wg.Wait()
	if n := f.late.Load(); n > 0 {
		t.Errorf("%d calls of the origin began at Lockdown", n)
	}
	f.turn(dewar.Normal)
	time.Sleep(300 * time.Millisecond)
	for i := range 8 {
		if v, err := f.Get(t.Context(), strconv.Itoa(i), dewar.NoStale()); err != nil || v != fmt.Sprint(i, "#", f.versions[i].Load()) {
			t.Errorf("afterwards %d is %q, %v", i, v, err)
		}
	}
}

func TestTwentySecondsOfFlippingKeepEveryPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which finds goroutines that are left
		newFlipped(t).play(t, 20, 3*time.Millisecond, 20*time.Second)
	})
}

func TestFlippingAmongReadersThatReallyRunAtOnce(t *testing.T) {
	newFlipped(t).play(t, 8, 50*time.Microsecond, 500*time.Millisecond)
}
