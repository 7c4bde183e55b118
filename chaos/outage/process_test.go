package outage

import (
	"context"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
)

// processes are outages of the server's process.
var processes = []outage{
	{
		name:  "stopped by SIGSTOP",
		begin: func(t *testing.T, s *scene) { s.server.Pause(t) },
		end:   func(t *testing.T, s *scene) { s.server.Resume(t) },
		shuts: true,
	},
	{
		name:  "killed and started again empty",
		begin: func(t *testing.T, s *scene) { s.server.Kill() },
		end:   func(t *testing.T, s *scene) { s.server.Restart(t) },
		shuts: true,
	},
	{
		name:  "started again and loading",
		serve: []string{"--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"},
		begin: func(t *testing.T, s *scene) {
			kit.Do(t, s.admin, "debug", "populate", 4000, "ballast", 100)
			kit.Do(t, s.admin, "save")
			s.server.Kill()
			s.server.Launch(t, "--key-load-delay", "1000") // microseconds for each key
		},
		end: func(t *testing.T, s *scene) {
			kit.Eventually(t, "it has loaded", func() bool { return s.admin.Ping(context.Background()).Err() == nil })
		},
		shuts: true,
	},
	{
		name: "a busy script",
		begin: func(t *testing.T, s *scene) {
			kit.Do(t, s.admin, "config", "set", "busy-reply-threshold", 50)
			rdb := s.server.Admin(t)
			done := make(chan struct{})
			go func() { // waited for by the end
				defer close(done)
				_ = rdb.Eval(context.Background(), "while true do end", nil).Err()
			}()
			s.undo = func() { <-done }
		},
		end: func(t *testing.T, s *scene) {
			kit.Do(t, s.admin, "script", "kill")
			s.undo()
		},
		shuts: true,
	},
	{
		name: "SCRIPT FLUSH in a loop",
		begin: func(t *testing.T, s *scene) {
			s.loop(t, time.Millisecond, func(ctx context.Context) { _ = s.admin.ScriptFlush(ctx).Err() })
		},
		end:   func(_ *testing.T, s *scene) { s.undo() },
		works: true,
	},
}

// loop does what again and again until undo.
func (s *scene) loop(t *testing.T, pause time.Duration, what func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // waited for by undo
		defer close(done)
		for ctx.Err() == nil {
			what(ctx)
			time.Sleep(pause)
		}
	}()
	s.undo = func() { cancel(); <-done }
	t.Cleanup(s.undo)
}
