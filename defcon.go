package dewar

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrDefcon: the origin is not asked at the present [Level] of Config.Defcon.
var ErrDefcon = errors.New("dewar: not loaded at this DEFCON level")

// Level is how much is traded for survival: 5 is normal operation, and each
// level below asks less of the origin. [Policy] tells what each does.
type Level int

const (
	Lockdown Level = iota + 1 // the origin is never called
	Protect                   // stale is not reloaded, misses load inside a throttle
	Degraded                  // no refresh-ahead, stale is served at once
	Elevated                  // only pinned keys are refreshed ahead
	Normal                    // as configured
)

var levelNames = [...]string{"", "lockdown", "protect", "degraded", "elevated", "normal"}

// String returns "lockdown", "protect", "degraded", "elevated" or "normal".
func (l Level) String() string {
	if !l.valid() {
		return "level " + strconv.Itoa(int(l))
	}
	return levelNames[l]
}

// ParseLevel reads "1" to "5" or a level's name.
func ParseLevel(s string) (Level, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	for l := Lockdown; l <= Normal; l++ {
		if s == levelNames[l] || s == strconv.Itoa(int(l)) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("dewar: %q is no DEFCON level: 1 (lockdown) to 5 (normal)", s)
}

func (l Level) valid() bool { return l >= Lockdown && l <= Normal }

// Defcon is a dial that one or many caches hold (Config.Defcon). The zero value
// is at Normal and ready for use; it must not be copied. All methods are safe
// for concurrent use.
//
// Turning it takes effect on the next read, without a restart. It is turned by
// Set and Turn, over HTTP (package defconhttp), by a feature flag
// ([Defcon.Follow]) and by a rule ([Defcon.Automate]); redistier.SharedDefcon
// makes the dials of a fleet turn together.
type Defcon struct {
	// Levels replaces the policies of some levels, for every cache on the dial
	// that has no exception of its own (Config.Levels). Fields left zero keep
	// their default. New copies it. Defaults to the table at [Policy].
	Levels map[Level]Policy

	// Logger hears of every turn. Defaults to that of the cache that has been
	// on the dial for longest.
	Logger *slog.Logger

	below atomic.Int32 // Normal - level: the zero value is Normal

	mu       sync.Mutex // mu guards these
	set      Level      // what was last set by anybody but the rule; 0: Normal
	last     Turn
	watchers []*func(Turn)

	told  deliveries[Turn]
	heard audience
}

// How a dial was turned, in Turn.Via.
const (
	ViaCode  = "code"
	ViaHTTP  = "http"
	ViaFlag  = "flag"
	ViaRule  = "rule"  // Automate
	ViaFleet = "fleet" // another process
)

// Turn is one turn of a dial.
type Turn struct {
	From, To Level
	Who, Why string    // as told by whoever turned it
	Via      string    // ViaCode, ViaHTTP, ...
	At       time.Time // when
}

// Level returns the present level.
func (d *Defcon) Level() Level { return Normal - Level(d.below.Load()) }

// LevelSet returns what was last set by anybody but the rule of Automate, which
// may hold the level below it.
func (d *Defcon) LevelSet() Level {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.setLocked()
}

// Set turns the dial; the next read sees it. A number that is no level changes
// nothing and is logged.
func (d *Defcon) Set(l Level) {
	if err := d.Turn(Turn{To: l}); err != nil {
		d.logger().Warn("dewar: DEFCON not turned", "error", err)
	}
}

// Turn is Set that also says who turns the dial and why, and that tells when
// t.To is no level. Turning to the present level is told too: a level that the
// rule of Automate has chosen becomes one that was set.
func (d *Defcon) Turn(t Turn) error {
	if !t.To.valid() {
		return fmt.Errorf("dewar: %d is no DEFCON level: 1 (lockdown) to 5 (normal)", int(t.To))
	}
	if t.Via == "" {
		t.Via = ViaCode
	}
	d.mu.Lock()
	d.set = t.To
	d.turnLocked(t)
	d.mu.Unlock()
	d.tell()
	return nil
}

// step turns the dial by one level for the rule, between 1 and what was set.
func (d *Defcon) step(by int, why string) {
	d.mu.Lock()
	to := max(Lockdown, min(d.Level()+Level(by), d.setLocked()))
	if to != d.Level() {
		d.turnLocked(Turn{To: to, Who: "rule", Why: why, Via: ViaRule})
	}
	d.mu.Unlock()
	d.tell()
}

func (d *Defcon) turnLocked(t Turn) {
	t.From, t.At = d.Level(), time.Now()
	d.below.Store(int32(Normal - t.To))
	d.last = t
	d.told.add(t)
}

func (d *Defcon) setLocked() Level {
	if d.set == 0 {
		return Normal
	}
	return d.set
}

// LastTurn returns the last turn; its To is 0 when there was none.
func (d *Defcon) LastTurn() Turn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Watch calls f for every turn from now on, in their order and one at a time,
// on a goroutine that turns the dial; f may use the dial. stop ends it.
func (d *Defcon) Watch(f func(Turn)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers = append(d.watchers, &f)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		var left []*func(Turn)
		for _, w := range d.watchers {
			if w != &f {
				left = append(left, w)
			}
		}
		d.watchers = left
	}
}

// tell delivers the turns that nobody has been told of.
func (d *Defcon) tell() {
	d.told.deliver(func(t Turn) {
		level := slog.LevelInfo
		if t.To < t.From {
			level = slog.LevelWarn
		}
		d.logger().Log(noContext, level, "dewar: DEFCON turned",
			"from", int(t.From), "to", int(t.To), "name", t.To.String(), "who", t.Who, "why", t.Why, "via", t.Via)
		for _, m := range d.heard.all() {
			if m.trace.DefconTurned != nil {
				m.trace.DefconTurned(t)
			}
		}
		d.mu.Lock()
		watchers := d.watchers
		d.mu.Unlock()
		for _, w := range watchers {
			(*w)(t)
		}
	})
}

func (d *Defcon) logger() *slog.Logger {
	if d.Logger != nil {
		return d.Logger
	}
	return d.heard.logger()
}
