package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
)

// TestARollingDeployKeepsNoOldValue has processes of two schemas, each with a
// copy of its own in Redis. Whichever changes the origin, no copy is old.
func TestARollingDeployKeepsNoOldValue(t *testing.T) {
	t.Parallel()
	o := options{Redis: kit.StartServer(t).Addr, IfError: time.Hour}
	origin := newOrigin()
	url := origin.serve(t)
	var processes []*member
	all := make(map[string]process)
	for _, schema := range []string{"before", "after"} {
		o.Schema = schema
		m := startMember(t, o, url)
		processes = append(processes, m)
		all["the process of schema "+schema] = m
		all["Redis, schema "+schema] = remoteOnly(t, o, origin)
	}
	for name, change := range map[string]func(p process, v kit.Value) error{
		"Invalidate":    func(p process, v kit.Value) error { return p.invalidate(v.Key) },
		"InvalidateAll": func(p process, v kit.Value) error { return p.invalidateAll() },
		"Set":           func(p process, v kit.Value) error { return p.set(map[string]kit.Value{v.Key: v}) },
	} {
		for i, p := range processes {
			key := fmt.Sprint(name, " by ", i)
			for _, q := range processes {
				mustRead(t, q, key, 1)
			}
			kit.Eventually(t, "every schema has a copy", func() bool { return checkHeld(t, all, key, 1) == len(all) })
			next := origin.commit(key)
			if err := change(p, next); err != nil {
				t.Fatal(key, ": ", err)
			}
			noneOlderWithin(t, heardWithin, all, key, next.Version)
			for range 20 {
				checkHeld(t, all, key, next.Version)
				for _, q := range all {
					mustRead(t, q, key, next.Version)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
}
