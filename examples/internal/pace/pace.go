// Package pace is the timing of the example programs: pauses, and requests on
// schedule.
package pace

import (
	"context"
	"sync"
	"time"
)

// Pause sleeps, but no longer than ctx lives.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Steadily does n things on schedule over length, whatever becomes of those
// begun before, so that what is slow is measured under the load that it would
// meet. next prepares the i-th one, in order and before its time has come, and
// returns what is to be done, on a goroutine of its own and told when it began.
// Steadily returns when all are done; no more begin once ctx is.
func Steadily(ctx context.Context, length time.Duration, n int, next func(i int) func(begun time.Time)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	for i := range n {
		do := next(i)
		// Within a millisecond is on time: a timer is no better.
		early := time.Until(began.Add(length / time.Duration(n) * time.Duration(i)))
		if early > time.Millisecond && Pause(ctx, early) != nil || ctx.Err() != nil {
			return
		}
		begun := time.Now()
		wg.Go(func() { do(begun) })
	}
}
