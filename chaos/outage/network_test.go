package outage

import (
	"context"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/redis/go-redis/v9"
)

func heal(_ *testing.T, s *scene) { s.network.Heal() }

// networks are outages of the first cache's way to the server.
var networks = []outage{
	{
		name:  "black hole",
		begin: func(t *testing.T, s *scene) { s.network.Swallow(t) },
		end:   heal,
		shuts: true,
	},
	{
		name: "reset storms",
		begin: func(t *testing.T, s *scene) {
			s.network.Fail(t, kit.FromServer, "reset_peer", map[string]any{"timeout": 0})
		},
		end:   heal,
		shuts: true,
	},
	{
		name: "one kilobyte a second",
		begin: func(t *testing.T, s *scene) {
			s.network.Fail(t, kit.ToServer, "bandwidth", map[string]any{"rate": 1})
			s.network.Fail(t, kit.FromServer, "bandwidth", map[string]any{"rate": 1})
		},
		end: heal,
	},
	{
		name: "replies cut mid-frame",
		begin: func(t *testing.T, s *scene) {
			s.network.Fail(t, kit.FromServer, "limit_data", map[string]any{"bytes": 450})
		},
		end: heal,
	},
	{
		name: "flapping once a second",
		begin: func(t *testing.T, s *scene) {
			s.loop(t, 500*time.Millisecond, func(context.Context) {
				s.network.Cut()
				time.Sleep(500 * time.Millisecond)
				s.network.Mend(t)
			})
		},
		end:   func(_ *testing.T, s *scene) { s.undo() },
		lasts: 4 * time.Second,
	},
	{
		name: "pool exhausted",
		pool: 3,
		begin: func(t *testing.T, s *scene) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			var held []*redis.Conn
			for range 3 { // the bus's own as well, when it next gives it back
				conn := s.client.(*redis.Client).Conn()
				if err := conn.Ping(ctx).Err(); err != nil {
					t.Fatal(err)
				}
				held = append(held, conn)
			}
			s.undo = func() {
				for _, conn := range held {
					conn.Close()
				}
			}
		},
		end:   func(_ *testing.T, s *scene) { s.undo() },
		shuts: true,
	},
}
