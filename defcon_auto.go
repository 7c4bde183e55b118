package dewar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Rule turns a dial by itself: one level towards 1 while the origin fails, one
// level back when it has been well for a while, never past what was set.
type Rule struct {
	// ErrorShare of the calls of the origins behind the dial's caches, above 0
	// up to 1, counts as failing; so does an open breaker. Defaults to 0.5.
	ErrorShare float64

	// MinLoads is how many calls there must be within For before their share
	// of errors says anything. Defaults to 10.
	MinLoads int

	// For is how long they must fail for each level down. Defaults to 10s.
	For time.Duration

	// Healthy is how long nothing may fail for each level up. Defaults to 1m.
	Healthy time.Duration
}

// looksPerFor is how often the rule looks within Rule.For.
const looksPerFor = 10

// Automate applies a rule until ctx ends, which is the error it returns, or
// tells at once what is wrong with the rule. It counts the calls of the caches
// that are on the dial of this process, and turns this dial only: a fleet's
// processes judge for themselves. It runs on the caller's goroutine.
func (d *Defcon) Automate(ctx context.Context, rule Rule) error {
	var p problems
	p.check(!math.IsNaN(rule.ErrorShare) && rule.ErrorShare >= 0 && rule.ErrorShare <= 1, "ErrorShare must be above 0 and at most 1, not %v", rule.ErrorShare)
	p.check(rule.MinLoads >= 0, "MinLoads must not be negative, but is %d", rule.MinLoads)
	p.notNegative("For", rule.For)
	p.notNegative("Healthy", rule.Healthy)
	if err := errors.Join(p...); err != nil {
		return fmt.Errorf("dewar: Rule: %w", err)
	}
	rule.ErrorShare = cmp.Or(rule.ErrorShare, 0.5)
	rule.MinLoads = cmp.Or(rule.MinLoads, 10)
	rule.For = cmp.Or(rule.For, 10*time.Second)
	rule.Healthy = cmp.Or(rule.Healthy, time.Minute)

	w := watch{rule: rule, dial: d, before: make(map[*member]health), calm: Clock()}
	ticker := time.NewTicker(max(time.Millisecond, rule.For/looksPerFor))
	defer ticker.Stop()
	w.look()
	for {
		select {
		case <-ticker.C:
			w.look()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch is what a rule has seen. Times are on Clock.
type watch struct {
	rule   Rule
	dial   *Defcon
	before map[*member]health     // at the last look
	recent [looksPerFor]loadCount // of the last looks, round
	next   int                    // in recent
	sick   int64                  // since when they fail; 0: they do not
	calm   int64                  // since when they do not
}

type loadCount struct{ loads, failed uint64 }

// look counts what has happened since the last look, and turns the dial if its
// time has come.
func (w *watch) look() {
	now := Clock()
	why, unsure := w.failing()
	if why == "" {
		if w.sick != 0 && !unsure {
			w.sick, w.calm = 0, now
		}
		if now-w.calm >= int64(w.rule.Healthy) {
			w.dial.step(+1, fmt.Sprintf("nothing failed for %v", w.rule.Healthy))
			w.sick, w.calm = 0, now
		}
		return
	}
	if w.sick == 0 {
		w.sick = now
	}
	if w.calm = now; now-w.sick >= int64(w.rule.For) {
		w.dial.step(-1, fmt.Sprintf("%s for %v", why, w.rule.For))
		w.sick = now
	}
}

// failing says what fails, or nothing. It is unsure while a breaker waits for
// its probes to tell whether what failed has ended: there may be none for long.
func (w *watch) failing() (why string, unsure bool) {
	var now loadCount
	open := false
	members := w.dial.heard.all()
	seen := make(map[*member]health, len(members))
	for _, m := range members {
		h := m.health()
		if before, known := w.before[m]; known {
			now.loads += h.loads - before.loads
			now.failed += h.failed - before.failed
		}
		open = open || h.breaker == BreakerOpen
		unsure = unsure || h.breaker == BreakerHalfOpen
		seen[m] = h
	}
	w.before = seen
	w.recent[w.next] = now
	w.next = (w.next + 1) % len(w.recent)
	var sum loadCount
	for _, c := range w.recent {
		sum.loads += c.loads
		sum.failed += c.failed
	}
	switch {
	case open:
		return "a breaker open", false
	case sum.loads >= uint64(w.rule.MinLoads) && float64(sum.failed) >= w.rule.ErrorShare*float64(sum.loads):
		return fmt.Sprintf("%d of %d loads failed", sum.failed, sum.loads), false
	}
	return "", unsure
}

// Follow turns the dial to what a feature flag says until ctx ends, which is
// the error it returns. The flag is asked at once and then every so often, with
// a context that ends with the next time. It turns the dial when what it says
// has changed, so that others may turn it in between; its errors change
// nothing, and are logged when they begin and end. Follow runs on the caller's
// goroutine.
func (d *Defcon) Follow(ctx context.Context, every time.Duration, flag func(context.Context) (Level, error)) error {
	if every <= 0 || flag == nil {
		return errors.New("dewar: Follow needs a flag and an interval above 0")
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	said, failing := Level(0), false
	for {
		level, err := askFlag(ctx, every, flag)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && level != said {
			if err = d.Turn(Turn{To: level, Who: "flag", Via: ViaFlag}); err == nil {
				said = level
			}
		}
		switch {
		case err != nil && !failing:
			d.logger().Warn("dewar: the DEFCON flag cannot be read; the level stays", "defcon", int(d.Level()), "error", err)
		case err == nil && failing:
			d.logger().Info("dewar: the DEFCON flag can be read again", "defcon", int(d.Level()))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// askFlag asks once. A flag that panics has failed.
func askFlag(ctx context.Context, every time.Duration, flag func(context.Context) (Level, error)) (level Level, err error) {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dewar: the flag panicked: %v", p)
		}
	}()
	return flag(ctx)
}
