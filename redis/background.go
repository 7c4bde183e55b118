package redistier

import (
	"context"
	"sync"
)

// background runs what nobody waits for but Close.
type background struct {
	ctx    context.Context // ends with stop
	cancel context.CancelFunc

	mu      sync.Mutex // mu guards stopped, and that nothing starts after it
	stopped bool
	wg      sync.WaitGroup
}

func newBackground() *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel}
}

// start runs f on a goroutine of its own, which stop waits for. It reports
// false when it is too late for that.
func (b *background) start(f func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.wg.Go(func() { f(b.ctx) })
	return true
}

// stop ends what runs and waits for it.
func (b *background) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
}
