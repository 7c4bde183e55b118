package redisd

import (
	"errors"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embedded is a Redis in this process.
type embedded struct {
	addr string
	quit chan struct{}
	wg   sync.WaitGroup // the goroutine that moves its clock

	mu   sync.Mutex // mu guards mini
	mini *miniredis.Miniredis
}

func startEmbedded() (*embedded, error) {
	mini, err := miniredis.Run()
	if err != nil {
		return nil, err
	}
	e := &embedded{addr: mini.Addr(), quit: make(chan struct{}), mini: mini}
	e.wg.Go(e.runClock) // stop waits for it
	return e, nil
}

// runClock makes the keys expire: time stands still in the server by itself.
// (Its ClockTTL would go through all keys at each command.)
func (e *embedded) runClock() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case now := <-tick.C:
			e.server().FastForward(now.Sub(last))
			last = now
		case <-e.quit:
			return
		}
	}
}

func (e *embedded) server() *miniredis.Miniredis {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mini
}

func (e *embedded) crash() { e.server().Close() }

// replace starts another server: one that was closed stays closed to commands
// that block, also when it is started again.
func (e *embedded) replace() error {
	mini := miniredis.NewMiniRedis()
	if err := startAt(mini, e.addr); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mini = mini
	return nil
}

// startAt tries for a while: somebody may have got the address in between for
// an outgoing connection.
func startAt(mini *miniredis.Miniredis, addr string) (err error) {
	for until := time.Now().Add(pingFor); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if err = mini.StartAddr(addr); err == nil {
			return nil
		}
	}
	return errors.Join(errors.New("embedded Redis: its address is taken"), err)
}

func (e *embedded) stop() {
	close(e.quit)
	e.wg.Wait()
	e.server().Close()
}
