package console

import (
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
)

// taken is what a look at a cache has found.
type taken struct {
	stats   dewar.Stats
	problem string
}

// lookWithin is how long the Stats of a user's own tier may take: one cache that
// is stuck is not to keep the others from being seen.
const lookWithin = 500 * time.Millisecond

// look is one call of Stats, which all share who look meanwhile.
type look struct {
	done  chan struct{} // closed once found is written
	found taken
}

// lookAt takes the Stats of caches.
func lookAt(caches []*cache) []taken {
	looks := make([]*look, len(caches))
	for i, c := range caches {
		looks[i] = c.look()
	}
	late := time.NewTimer(lookWithin)
	defer late.Stop()
	all := make([]taken, len(caches))
	over := false
	for i, l := range looks {
		if !over {
			select {
			case <-l.done:
			case <-late.C:
				over = true
			}
		}
		select {
		case <-l.done:
			all[i] = l.found
		default:
			all[i].problem = "Stats does not answer"
		}
	}
	return all
}

// look begins a look, unless one is under way. It ends when Stats returns; a
// cache has one at most.
func (c *cache) look() *look {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looking != nil {
		return c.looking
	}
	l := &look{done: make(chan struct{})}
	c.looking = l
	go func() {
		l.found = c.take()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.looking = nil
		close(l.done)
	}()
	return l
}

// take takes a cache's Stats. It runs on a goroutine that no net/http guards,
// and a page must not take the program down with it.
func (c *cache) take() (t taken) {
	defer func() {
		if p := recover(); p != nil {
			t.problem = fmt.Sprintf("Stats panicked: %.200v", p)
		}
	}()
	t.stats = c.Stats()
	return t
}
