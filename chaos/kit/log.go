package kit

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Log keeps what is logged.
type Log struct {
	mu    sync.Mutex // mu guards lines
	lines bytes.Buffer
}

// Logger returns a logger that writes to l.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// String returns all lines so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// Has reports whether there is a line of the level with text in it.
func (l *Log) Has(level slog.Level, text string) bool {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, " level="+level.String()+" ") && strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// SilenceClients drops what go-redis itself says of servers that fail.
func SilenceClients() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
