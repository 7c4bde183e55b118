package show

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Live writes lines and, on a terminal, one below them that moves.
type Live struct {
	terminal bool
	quit     chan struct{}
	wg       sync.WaitGroup // the goroutine that moves the line

	mu  sync.Mutex // mu guards out
	out io.Writer
}

// NewLive writes to out, and on a terminal every so often what text returns.
func NewLive(out io.Writer, every time.Duration, text func() string) *Live {
	l := &Live{out: out, terminal: isTerminal(out), quit: make(chan struct{})}
	if l.terminal {
		l.wg.Go(func() { l.move(every, text) }) // Stop waits for it
	}
	return l
}

// isTerminal is right for what people redirect to; /dev/null counts as a
// terminal, which harms nobody.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const eraseLine = "\r\x1b[K"

func (l *Live) move(every time.Duration, text func() string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.write(eraseLine + text())
		case <-l.quit:
			return
		}
	}
}

func (l *Live) write(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.out, text)
}

// Terminal reports whether there is a line that moves.
func (l *Live) Terminal() bool { return l.terminal }

// Printf writes a line that stays; format has no line end.
func (l *Live) Printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	if l.terminal {
		line = eraseLine + line
	}
	l.write(line)
}

// Stop ends the line that moves and leaves nothing of it behind.
func (l *Live) Stop() {
	close(l.quit)
	l.wg.Wait()
	if l.terminal {
		l.write(eraseLine)
	}
}
