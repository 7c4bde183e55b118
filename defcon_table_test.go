package dewar_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// This file checks the table at [dewar.Policy], cell by cell.

var levels = []dewar.Level{dewar.Normal, dewar.Elevated, dewar.Degraded, dewar.Protect, dewar.Lockdown}

// The origin takes a second and the bucket gathers for a while, so that when an
// answer and a load come tells which way they took.
const (
	cellLoad   = time.Second
	cellGather = 50 * time.Millisecond
)

// cell is what a read of "k" meets, and what is to become of it.
type cell struct {
	level  dewar.Level
	age    string // of what is cached: one of cellAges
	stale  dewar.Stale
	remote string // "", "and local", "only"
}

var cellAges = []string{"fresh", "due", "pinned due", "stale", "miss", "remote fresh", "remote stale"}

func (c cell) String() string {
	window := "IfError"
	if c.stale.WhileRevalidate > 0 {
		window = "WhileRevalidate"
	}
	return fmt.Sprintf("%v, %s, %s, remote %s", c.level, c.age, window, c.remote)
}

// exists reports whether a cache can be in that state.
func (c cell) exists() bool {
	return c.remote != "" || c.age != "remote fresh" && c.age != "remote stale"
}

// cellOutcome is what a cell is to do.
type cellOutcome struct {
	status dewar.Status
	err    error         // of the read
	why    error         // in the Result
	took   time.Duration // until the answer
	loads  int           // caused by the read
	began  time.Duration // of the load, after the read
}

func (c cell) wants() cellOutcome {
	hit := cellOutcome{status: dewar.StatusHit}
	reloaded := hit
	reloaded.loads, reloaded.began = 1, cellGather
	loaded := cellOutcome{status: dewar.StatusLoaded, took: cellLoad, loads: 1}
	switch c.age {
	case "due":
		if c.level == dewar.Normal {
			return reloaded
		}
		return hit
	case "fresh", "pinned due", "remote fresh": // a pin needs no read
		return hit
	case "miss":
		if c.level == dewar.Lockdown {
			return cellOutcome{err: dewar.ErrDefcon}
		}
		return loaded
	}
	served := cellOutcome{status: dewar.StatusStale}
	switch c.level {
	case dewar.Normal:
		if c.stale.WhileRevalidate == 0 {
			return loaded
		}
		served.loads, served.began = 1, cellGather
	case dewar.Elevated:
		served.loads = 1
	case dewar.Degraded:
		served.loads, served.began = 1, cellGather
	default:
		served.why = dewar.ErrDefcon
	}
	return served
}

// tier is where the answer comes from.
func (c cell) tier(status dewar.Status) string {
	switch {
	case status == dewar.StatusLoaded:
		return dewar.TierOrigin
	case status != 0 && (c.remote == "only" || c.age == "remote fresh" || c.age == "remote stale"):
		return dewar.TierRemote
	case status != 0:
		return dewar.TierLocal
	}
	return ""
}

// cellReads are the ways to read one key.
func cellReads() map[string]func(t *testing.T, c *cache, k string, opts ...dewar.ReadOption) (dewar.Result[string], error) {
	return map[string]func(*testing.T, *cache, string, ...dewar.ReadOption) (dewar.Result[string], error){
		"Get": func(t *testing.T, c *cache, k string, opts ...dewar.ReadOption) (dewar.Result[string], error) {
			return c.GetResult(t.Context(), k, opts...)
		},
		"GetMany": func(t *testing.T, c *cache, k string, opts ...dewar.ReadOption) (dewar.Result[string], error) {
			rs, err := c.GetManyResults(t.Context(), []string{k}, opts...)
			if batch, ok := errors.AsType[*dewar.BatchError[string]](err); ok {
				err = batch.For(k)
			}
			return rs[k], err
		},
	}
}

// open brings a cache into the state of the cell, with the dial turned before
// "k" comes due.
func (c cell) open(t *testing.T) (*cache, *origin) {
	o := newOrigin(cellLoad)
	cfg := warming(o)
	cfg.Stale, cfg.Warm.Gather, cfg.Defcon = c.stale, cellGather, new(dewar.Defcon)
	if c.remote != "" {
		srv := newServer()
		cfg.Remote = srv
		if c.remote == "only" {
			cfg.Local = nil
		}
		if c.age == "remote fresh" || c.age == "remote stale" {
			other := cfg
			other.Defcon, other.LoadMany = nil, newOrigin(cellLoad).loadMany
			mustGet(t, open(t, other), "k", "k#1")
		}
	}
	cached := open(t, cfg)
	switch c.age {
	case "fresh", "due", "stale":
		mustGet(t, cached, "k", "k#1")
	case "pinned due":
		cached.KeepWarm("k")
	}
	time.Sleep(10 * time.Second)
	cfg.Defcon.Set(c.level)
	switch c.age {
	case "due", "pinned due":
		time.Sleep(80 * time.Second)
	case "stale", "remote stale":
		time.Sleep(cfg.TTL)
	}
	return cached, o
}

func TestEveryCellOfTheTable(t *testing.T) {
	for _, window := range []dewar.Stale{{IfError: time.Hour}, {WhileRevalidate: time.Hour}} {
		for _, remote := range []string{"", "and local", "only"} {
			for _, age := range cellAges {
				for _, level := range levels {
					c := cell{level, age, window, remote}
					for how, read := range cellReads() {
						if !c.exists() {
							continue
						}
						t.Run(fmt.Sprint(how, ", ", c), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) { c.check(t, read) })
						})
					}
				}
			}
		}
	}
}

func (c cell) check(t *testing.T, read func(*testing.T, *cache, string, ...dewar.ReadOption) (dewar.Result[string], error)) {
	cached, o := c.open(t)
	want := c.wants()
	before, begun := len(o.asked()), time.Now()
	if refreshed := c.age == "pinned due" && c.level >= dewar.Elevated; refreshed != (before == 2) {
		t.Errorf("%d loads before the read", before) // the pin's own, the first included
	}
	r, err := read(t, cached, "k")
	if took := time.Since(begun); took != want.took {
		t.Errorf("answered after %v; want %v", took, want.took)
	}
	if r.Status != want.status || r.Tier != c.tier(want.status) || !errors.Is(err, want.err) || !errors.Is(r.Err, want.why) ||
		(want.err == nil) != (err == nil) || (want.why == nil) != (r.Err == nil) {
		t.Errorf("%+v, %v; want %+v", r, err, want)
	}
	if (err == nil) != (r.Value != "") {
		t.Errorf("value %q", r.Value)
	}
	time.Sleep(5 * time.Second)
	calls := o.asked()[before:]
	if len(calls) != want.loads {
		t.Fatalf("the read caused %d loads; want %d", len(calls), want.loads)
	}
	if want.loads > 0 {
		if after := calls[0].at.Sub(begun); after != want.began {
			t.Errorf("the load began after %v; want %v", after, want.began)
		}
	}
}
