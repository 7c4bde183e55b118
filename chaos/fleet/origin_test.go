package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar/chaos/kit"
	"github.com/dewarcache/dewar/dewartest"
)

// origin has every key, at version 1 until something is committed. It counts
// what it is asked, and can be slow, held up, or down.
type origin struct {
	history *dewartest.History[string, kit.Value] // nil: none

	mu       sync.Mutex // mu guards these
	versions map[string]int64
	loads    map[string][]time.Time // when they began
	takes    time.Duration
	upTo     time.Duration // more than takes, by chance
	down     bool
	gates    map[string]*gate
}

// gate holds up the answers to loads of a key that have begun.
type gate struct {
	arrived  chan struct{} // closed by the first
	arriving sync.Once
	opened   chan struct{}
	opening  sync.Once
}

func newOrigin() *origin {
	return &origin{versions: make(map[string]int64), loads: make(map[string][]time.Time), gates: make(map[string]*gate)}
}

var errDown = errors.New("the origin is down")

// load is the loader of caches in this process. The version is that of when it
// begins.
func (o *origin) load(ctx context.Context, key string) (kit.Value, error) {
	o.mu.Lock()
	o.loads[key] = append(o.loads[key], time.Now())
	v, takes, down, gate := kit.Value{Key: key, Version: o.versionLocked(key)}, o.takes, o.down, o.gates[key]
	if o.upTo > 0 {
		takes += rand.N(o.upTo)
	}
	o.mu.Unlock()
	if down {
		return kit.Value{}, errDown
	}
	if gate != nil {
		gate.arriving.Do(func() { close(gate.arrived) })
		select {
		case <-gate.opened:
		case <-ctx.Done():
			return kit.Value{}, context.Cause(ctx)
		}
	}
	select {
	case <-time.After(takes):
		return v, nil
	case <-ctx.Done():
		return kit.Value{}, context.Cause(ctx)
	}
}

// versionLocked returns the version of key, and commits the first.
func (o *origin) versionLocked(key string) int64 {
	if o.versions[key] == 0 {
		o.commitLocked(key)
	}
	return o.versions[key]
}

func (o *origin) commitLocked(key string) kit.Value {
	o.versions[key]++
	v := kit.Value{Key: key, Version: o.versions[key]}
	if o.history != nil {
		o.history.Commit(key, v)
	}
	return v
}

// commit moves key to its next version.
func (o *origin) commit(key string) kit.Value {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.versionLocked(key)
	return o.commitLocked(key)
}

func (o *origin) version(key string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.versionLocked(key)
}

// loaded returns how often keys were asked for.
func (o *origin) loaded(keys ...string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		n += len(o.loads[key])
	}
	return n
}

// loadTimes returns when loads of key began.
func (o *origin) loadTimes(key string) []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.loads[key])
}

// slow makes loads that begin from now on take that long, and by chance up to
// so much more.
func (o *origin) slow(takes, upTo time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.takes, o.upTo = takes, upTo
}

// fail makes loads that begin from now on fail, or succeed again.
func (o *origin) fail(down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = down
}

// hold makes loads of key that begin from now on wait for the gate to open.
func (o *origin) hold(tb testing.TB, key string) *gate {
	g := &gate{arrived: make(chan struct{}), opened: make(chan struct{})}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gates[key] = g
	tb.Cleanup(g.open)
	return g
}

// pass makes loads of key that begin from now on wait for no gate.
func (o *origin) pass(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.gates, key)
}

// await waits for the first load.
func (g *gate) await(tb testing.TB) {
	tb.Helper()
	select {
	case <-g.arrived:
	case <-time.After(patience):
		tb.Fatal("nobody asks the origin")
	}
}

// open lets go who waits.
func (g *gate) open() { g.opening.Do(func() { close(g.opened) }) }

// serve is the origin for processes of their own. It returns the URL.
func (o *origin) serve(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: o}
	served := make(chan struct{})
	go func() { // waited for by the Cleanup
		defer close(served)
		_ = srv.Serve(l)
	}()
	tb.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return "http://" + l.Addr().String() + "/"
}

// ServeHTTP implements http.Handler.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := o.load(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}
