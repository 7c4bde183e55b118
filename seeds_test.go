package dewar_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

var (
	seeds    = flag.Uint64("seeds", 20, "how many fleets under faults TestFleetsKeepTheirPromisesUnderFaults plays")
	seedFrom = flag.Uint64("seed", 1, "the first seed; a failing one replays with -seed=N -seeds=1")
)

// version is a value of the fleets below: all that matters of it.
type version int64

// play is one fleet under faults, all of it from one seed.
type play struct {
	t       *testing.T
	seed    uint64
	srv     *dewartest.Remote[version]
	history *dewartest.History[string, version]
	caches  []*dewar.Cache[string, version]
	chaos   []*dewartest.Chaos[version]

	mu       sync.Mutex // guards what follows
	versions map[string]version
	loading  *rand.Rand
}

const (
	playProcesses = 3
	playFor       = 30 * time.Second
)

// playKeys are keys that every process invalidates, and one for each process
// that only this process writes, and sets at times: who sets a key while
// another process writes it is promised no more than that it settles.
var playKeys = []string{"shared0", "shared1", "shared2", "own0", "own1", "own2"}

// settled is within what another process must have heard of a write: two of the
// longest pauses, one after the other, and what finding a gap takes.
const settled = 20 * time.Second

func (p *play) rand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(p.seed, stream)) }

func (p *play) commit(k string) version {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.versions[k]++
	p.history.Commit(k, p.versions[k])
	return p.versions[k]
}

// load is the origin: slow at times, failing at others.
func (p *play) load(ctx context.Context, k string) (version, error) {
	p.mu.Lock()
	v := p.versions[k]
	took := time.Duration(p.loading.Int64N(int64(50 * time.Millisecond)))
	if p.loading.IntN(20) == 0 {
		took = time.Duration(p.loading.Int64N(int64(5 * time.Second)))
	}
	failing := p.loading.IntN(20) == 0
	p.mu.Unlock()
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if failing {
		return 0, errOrigin
	}
	return v, nil
}

func (p *play) open() {
	r := p.rand(0)
	stale := dewar.Stale{}
	if r.IntN(2) == 0 {
		stale = dewar.Stale{IfError: time.Minute, SoftTimeout: 100 * time.Millisecond}
	}
	faults := dewartest.Faults{
		Refuse: 0.02, Lose: 0.02, Late: 0.02, Slow: 0.05, Twice: 0.05, Pause: 0.002, Lag: 0.1, Miss: 0.02,
	}
	for i := range playProcesses {
		chaos := &dewartest.Chaos[version]{Remote: p.srv}
		cfg := dewar.Config[string, version]{
			Name: "play", TTL: 10 * time.Second, Stale: stale, Remote: chaos,
			Warm: dewar.Warm{Ahead: 0.7}, Load: p.load,
		}
		if r.IntN(4) == 0 {
			cfg.LocalTTL = time.Second
		}
		if r.IntN(3) == 0 {
			cfg.Schema = "2"
		}
		p.chaos = append(p.chaos, chaos)
		cache := dewartest.New(p.t, cfg)
		p.caches = append(p.caches, cache)
		chaos.Seed(p.seed*1000+uint64(i), faults)
	}
}

// reader reads with pauses of a few milliseconds.
func (p *play) reader(i int, r *rand.Rand, until time.Time) {
	name, cache := fmt.Sprint("process ", i), p.caches[i]
	for time.Now().Before(until) {
		time.Sleep(time.Duration(1+r.IntN(40_000)) * time.Microsecond)
		k := playKeys[r.IntN(len(playKeys))]
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		switch r.IntN(12) {
		case 0:
			answer := p.history.ReadMany(name)
			answer(cache.GetMany(ctx, playKeys))
		case 1:
			answer := p.history.Read(name, k)
			answer(cache.Get(ctx, k, dewar.Reload()))
		case 2:
			answer := p.history.Read(name, k)
			answer(cache.Get(ctx, k, dewar.CacheOnly()))
		default:
			answer := p.history.Read(name, k)
			answer(cache.Get(ctx, k))
		}
		cancel()
	}
}

// writer changes the origin, and tells its cache.
func (p *play) writer(i int, r *rand.Rand, until time.Time) {
	name, cache := fmt.Sprint("process ", i), p.caches[i]
	for time.Now().Before(until) {
		time.Sleep(time.Duration(1+r.IntN(500_000)) * time.Microsecond)
		k, own := fmt.Sprint("shared", r.IntN(3)), r.IntN(3) == 0
		if own {
			k = fmt.Sprint("own", i)
		}
		v := p.commit(k)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(3000))*time.Millisecond)
		switch n := r.IntN(10); {
		case own && n < 5:
			end := p.history.Write(name, k)
			end(cache.Set(ctx, k, v))
		case n == 5:
			if err := cache.Expire(ctx, k); err != nil && !errors.Is(err, dewar.ErrInvalidationPending) {
				p.t.Error(err)
			}
		case n == 6 && r.IntN(5) == 0:
			end := p.history.WriteAll(name)
			end(cache.InvalidateAll(ctx))
		default:
			end := p.history.Write(name, k)
			end(cache.Invalidate(ctx, k))
		}
		cancel()
	}
}

func (p *play) run() {
	p.srv = dewartest.NewRemote[version]()
	p.history = dewartest.NewHistory[string](func(v version) int64 { return int64(v) })
	p.versions, p.loading = make(map[string]version), p.rand(1)
	for _, k := range playKeys {
		p.commit(k)
	}
	p.open()
	until := time.Now().Add(playFor)
	var wg sync.WaitGroup
	for i := range p.caches {
		wg.Go(func() { p.reader(i, p.rand(uint64(10+i)), until) })
		wg.Go(func() { p.reader(i, p.rand(uint64(20+i)), until) })
		wg.Go(func() { p.writer(i, p.rand(uint64(30+i)), until) })
	}
	wg.Wait()
	for _, c := range p.chaos {
		c.Seed(0, dewartest.Faults{})
	}
	time.Sleep(2 * settled) // what is pending is confirmed, what is late is over
	for i, cache := range p.caches {
		if n := cache.Stats().PendingInvalidations; n != 0 {
			p.t.Errorf("process %d: %d invalidations pending", i, n)
		}
		for k, want := range p.versions {
			for {
				v, err := cache.Get(context.Background(), k, dewar.NoStale())
				if errors.Is(err, errOrigin) {
					continue
				}
				if v != want || err != nil {
					p.t.Errorf("process %d ends with %s at version %d, %v; want %d", i, k, v, err, want)
				}
				break
			}
		}
		_ = cache.Wait(context.Background()) // or Close would report what faults have lost
	}
	violations := p.history.Check(settled)
	for _, v := range violations[:min(len(violations), 10)] {
		p.t.Error(v)
	}
}

// Every seed is a fleet of three processes, two schemas at times, under
// refused, lost, late, slow and repeated operations, pauses longer than a
// lease, and announcements that are late or missed.
func TestFleetsKeepTheirPromisesUnderFaults(t *testing.T) {
	for seed := *seedFrom; seed < *seedFrom+*seeds; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { (&play{t: t, seed: seed}).run() })
		})
	}
}
