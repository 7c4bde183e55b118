package main

import (
	"context"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/pace"
	"github.com/dewarcache/dewar/examples/playback/platform"
)

// recording records what the caches tell, for the report of -report.
type recording struct {
	platform *platform.Platform
	every    time.Duration
	began    time.Time
	end      context.CancelFunc
	done     chan struct{} // closed when the recording has ended

	frames []frame // written by its goroutine until done is closed

	mu    sync.Mutex // mu guards marks
	marks []mark
}

// frame is what all caches together have counted so far.
type frame struct {
	at time.Duration

	hits, loaded, stale, other, errors float64 // keys read
	loads, failed, refused             float64
	load, wait                         dewar.Histogram
	staleAge                           dewar.Histogram

	bucket, queued, open float64 // at that moment; open: breakers that are
	level                float64
}

// mark is when an act began.
type mark struct {
	at  time.Duration
	act string
}

// framesPerNight is how finely a night is recorded.
const framesPerNight = 280

// record begins a recording.
func record(p *platform.Platform, night time.Duration) *recording {
	ctx, end := context.WithCancel(context.Background())
	t := &recording{platform: p, every: night / framesPerNight, began: time.Now(), end: end, done: make(chan struct{})}
	go func() { // stop waits for it
		defer close(t.done)
		for {
			t.frames = append(t.frames, t.frame())
			if pace.Pause(ctx, t.every) != nil {
				return
			}
		}
	}()
	return t
}

// begins marks an act.
func (t *recording) begins(act string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks = append(t.marks, mark{time.Since(t.began), act})
}

// stop ends the recording.
func (t *recording) stop() {
	t.end()
	<-t.done
}

func (t *recording) frame() (f frame) {
	f.at = time.Since(t.began)
	f.level = float64(t.platform.Dial().Level())
	origins := make(map[string]bool) // those that were counted
	for _, cache := range t.platform.Caches() {
		s := cache.Stats()
		f.hits += float64(s.LocalHits + s.RemoteHits)
		f.loaded += float64(s.Loaded)
		f.stale += float64(s.Stale)
		f.other += float64(s.Negative)
		f.errors += float64(s.Failed)
		f.loads += float64(s.Loads)
		f.failed += float64(s.LoadErrors)
		f.refused += float64(s.Overloaded + s.BreakerRefused + s.DefconRefused)
		f.load, f.wait, f.staleAge = plus(f.load, &s.LoadTime), plus(f.wait, &s.WaitTime), plus(f.staleAge, &s.StaleAge)
		f.bucket += float64(s.Bucket)
		if !origins[s.Origin.Name] {
			origins[s.Origin.Name] = true
			f.queued += float64(s.Origin.Queued)
			if s.Origin.Breaker > dewar.BreakerClosed {
				f.open++
			}
		}
	}
	return f
}

func plus(h dewar.Histogram, other *dewar.Histogram) dewar.Histogram {
	h.Count += other.Count
	h.Sum += other.Sum
	for i, n := range other.Buckets {
		h.Buckets[i] += n
	}
	return h
}
