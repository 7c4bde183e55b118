package dewar_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Guard.LoadsPerSecond.

// callsWithin returns how many calls began in each of n seconds from begun on.
func callsWithin(o *origin, begun time.Time, n int) []int {
	perSecond := make([]int, n)
	for _, call := range o.asked() {
		if at := int(call.at.Sub(begun) / time.Second); at >= 0 && at < n {
			perSecond[at]++
		}
	}
	return perSecond
}

// What is refused must leave no trace in the limit, or a herd would use up the
// turns of those that come after it.
func TestRefusedLoadsUseUpNoTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, seconds = 100, 10
		o := newOrigin(0)
		cfg := localOnly(o)
		cfg.Guard.LoadsPerSecond = perSecond
		c := open(t, cfg)
		begun := time.Now()
		var wg sync.WaitGroup
		for s := range seconds {
			for i := range 20 * perSecond {
				wg.Go(func() {
					if _, err := c.Get(t.Context(), fmt.Sprint(s, "-", i)); err != nil && !errors.Is(err, dewar.ErrOverloaded) {
						t.Error(err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		wg.Wait()
		for s, n := range callsWithin(o, begun, seconds) {
			if n < perSecond || n > perSecond*11/10 {
				t.Errorf("%d calls in second %d", n, s)
			}
		}
	})
}
