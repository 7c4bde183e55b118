package dewar_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// This file is what the tests of several processes around one remote tier are
// built of: an origin with versions, gates that hold single operations, and
// processes.

// fleetName is the cache name of all processes.
const fleetName = "fleet"

// ledger is an origin. Each key has a version; a load answers the one that was
// committed when the load began. Gates named "load" hold loads.
type ledger struct {
	mu       sync.Mutex // guards what follows
	versions map[string]int
	loads    map[string]int
	fails    error // of all loads, while not nil
}

func newLedger() *ledger {
	return &ledger{versions: make(map[string]int), loads: make(map[string]int)}
}

func valueAt(key string, version int) string { return fmt.Sprintf("%s@%d", key, version) }

func (l *ledger) commit(key string) (version int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.versions[key]++
	return l.versions[key]
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fails = err
}

func (l *ledger) loadsOf(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loads[key]
}

// total is how many loads there have been.
func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, loads := range l.loads {
		n += loads
	}
	return n
}

func (l *ledger) load(key string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads[key]++
	return valueAt(key, l.versions[key]), l.fails
}

// gate holds one operation: before it is carried out, or after it was and
// before its answer is told.
type gate struct {
	steps   []string // the first of them: "Read", "Read answered", ...
	arrived chan struct{}
	opened  chan struct{}
}

// open lets the operation go on.
func (g *gate) open() { close(g.opened) }

// await waits until the operation is held.
func (g *gate) await(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case <-g.arrived:
	default:
		t.Fatalf("nothing is held at %v", g.steps)
	}
}

// steps is a log of what one process does, and the gates on the way.
type steps struct {
	mu    sync.Mutex // guards what follows
	log   []string
	gates []*gate
	fails map[string]error // step -> what it fails with
}

// hold makes the next operation that takes any of these steps wait there:
// "load", "Read", "Lease", "Seize", "Fill", "Release", "Unlink", "Expire", or
// one of these and " answered".
func (s *steps) hold(any ...string) *gate {
	g := &gate{steps: any, arrived: make(chan struct{}), opened: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates = append(s.gates, g)
	return g
}

// fail makes step fail from now on; nil ends that.
func (s *steps) fail(step string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails == nil {
		s.fails = make(map[string]error)
	}
	s.fails[step] = err
}

// atKeys is at, for an operation on keys; one without any is no step.
func (s *steps) atKeys(step string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return s.at(step)
}

func (s *steps) at(step string) error {
	s.mu.Lock()
	s.log = append(s.log, step)
	err := s.fails[step]
	i := slices.IndexFunc(s.gates, func(g *gate) bool { return slices.Contains(g.steps, step) })
	if i < 0 {
		s.mu.Unlock()
		return err
	}
	g := s.gates[i]
	s.gates = slices.Delete(s.gates, i, i+1)
	s.mu.Unlock()
	close(g.arrived)
	<-g.opened
	return err
}

// count is how often a step was taken.
func (s *steps) count(step string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.log {
		if l == step {
			n++
		}
	}
	return n
}

func (s *steps) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

func (s *steps) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, ", ")
}

// process is one cache of a fleet.
type process struct {
	*dewar.Cache[string, string]
	*steps
	t     *testing.T
	srv   *dewartest.Remote[string]
	chaos *dewartest.Chaos[string]
}

type fleetConfig = dewar.Config[string, string]

// startProcess opens a cache on the fleet's remote tier and origin, without
// randomness, and closes it at the end of the test.
func startProcess(t *testing.T, srv *dewartest.Remote[string], origin *ledger, change ...func(*fleetConfig)) *process {
	t.Helper()
	p := &process{steps: &steps{}, t: t, srv: srv}
	p.chaos = &dewartest.Chaos[string]{
		Remote:    srv,
		Intercept: func(op string, keys []string) error { return p.atKeys(op, keys) },
		Answer:    func(op string, keys []string) error { return p.atKeys(op+" answered", keys) },
	}
	cfg := fleetConfig{
		Name: fleetName, TTL: time.Minute, NegativeTTL: time.Minute, Jitter: -1,
		Warm: dewar.Warm{Ahead: -1}, Remote: p.chaos,
		Load: func(_ context.Context, k string) (string, error) {
			v, err := origin.load(k)
			if gateErr := p.at("load"); gateErr != nil {
				return "", gateErr
			}
			return v, err
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	p.Cache = dewartest.New(t, cfg)
	return p
}

func staleFor(d time.Duration) func(*fleetConfig) {
	return func(cfg *fleetConfig) { cfg.Stale.IfError = d }
}

// get is a Get that must succeed.
func (p *process) get(key string, opts ...dewar.ReadOption) string {
	p.t.Helper()
	v, err := p.Get(p.t.Context(), key, opts...)
	if err != nil {
		p.t.Fatalf("Get(%q): %v; steps: %v", key, err, p.steps)
	}
	return v
}

func (p *process) want(key, want string, opts ...dewar.ReadOption) {
	p.t.Helper()
	if v := p.get(key, opts...); v != want {
		p.t.Errorf("Get(%q) = %s, want %s; steps: %v", key, v, want, p.steps)
	}
}

// wantNotCached asserts that neither tier serves key to this process, once all
// that goes on in the background has ended, or is held.
func (p *process) wantNotCached(key string) {
	p.t.Helper()
	synctest.Wait()
	if r, err := p.GetResult(p.t.Context(), key, dewar.CacheOnly()); err == nil {
		p.t.Errorf("%q is cached: %s, %v, %s; steps: %v", key, r.Value, r.Status, r.Tier, p.steps)
	}
}

// wait is a Wait that must not report anything.
func (p *process) wait() {
	p.t.Helper()
	if err := p.Wait(p.t.Context()); err != nil {
		p.t.Errorf("Wait: %v", err)
	}
}

// must fails on the error of a write.
func (p *process) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%v; steps: %v", err, p.steps)
	}
}

// wantRemote asserts what is in the remote tier, once all that goes on in the
// background has ended, or is held; "" is nothing.
func wantRemote(t *testing.T, srv *dewartest.Remote[string], key, want string) {
	t.Helper()
	synctest.Wait()
	wantRemoteNow(t, srv, key, want)
}

// wantRemoteNow is wantRemote that waits for nothing.
func wantRemoteNow(t *testing.T, srv *dewartest.Remote[string], key, want string) {
	t.Helper()
	e, ok := srv.Entry(fleetName, key)
	if got := e.Value; got != want || ok != (want != "") {
		t.Errorf("the remote tier has %q for %q (an entry: %v), want %q", got, key, ok, want)
	}
}

// answer is what a read or write on a goroutine of its own will end with.
type answer struct {
	value string
	err   error
}

func begin(do func() (string, error)) <-chan answer {
	ch := make(chan answer, 1)
	go func() { // waited for by whoever receives, and by the bubble
		v, err := do()
		ch <- answer{v, err}
	}()
	return ch
}

func (p *process) beginGet(key string, opts ...dewar.ReadOption) <-chan answer {
	return begin(func() (string, error) { return p.Get(p.t.Context(), key, opts...) })
}

func beginWrite(do func() error) <-chan answer {
	return begin(func() (string, error) { return "", do() })
}

// The two engines, small enough for a test that opens many caches.
var (
	smallLocal    = memory.Otter[string]{MaxEntries: 10_000}
	ristrettoTier = memory.Config[string]{MaxEntries: 10_000}
)
