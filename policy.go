package dewar

import (
	"cmp"
	"fmt"
	"math"

	"golang.org/x/time/rate"
)

// Policy is what a cache does at one [Level]. The defaults:
//
//	level       Ahead        Stale            Miss
//	5 Normal    AheadAll     StaleConfigured  MissLoads
//	4 Elevated  AheadPinned  StaleAtOnce      MissLoads
//	3 Degraded  AheadNone    StaleFromBucket  MissLoads
//	2 Protect   AheadNone    StaleOnly        MissThrottled
//	1 Lockdown  AheadNone    StaleOnly        MissRefused
//
// Another policy for a level is data: Defcon.Levels for all caches on a dial,
// Config.Levels for one of them. Fields left zero keep their default.
type Policy struct {
	Ahead AheadPolicy
	Stale StalePolicy
	Miss  MissPolicy

	// Throttle, with MissThrottled, is how many calls of the origin a second
	// each cache may make. Defaults to 10.
	Throttle float64
}

// AheadPolicy says which keys are refreshed before they go stale.
type AheadPolicy uint8

const (
	AheadAll    AheadPolicy = iota + 1
	AheadPinned             // those of KeepWarm
	AheadNone
)

// StalePolicy says how a stale value is served, and what reloads it. All but
// StaleConfigured serve it for as long as it is kept: the longer of IfError and
// WhileRevalidate.
type StalePolicy uint8

const (
	StaleConfigured StalePolicy = iota + 1 // as Config.Stale says
	StaleAtOnce                            // at once; its load begins at the same time
	StaleFromBucket                        // at once; reloaded through the bucket of Warm
	StaleOnly                              // at once; not reloaded
)

// MissPolicy says what becomes of a load.
type MissPolicy uint8

const (
	MissLoads     MissPolicy = iota + 1
	MissThrottled            // as many as Policy.Throttle lets pass, ErrDefcon for the rest
	MissRefused              // ErrDefcon
)

// DefaultPolicy returns the default policy of a level.
func DefaultPolicy(l Level) Policy { return defaultPolicies[max(Lockdown, min(l, Normal))] }

const defaultThrottle = 10

var defaultPolicies = [Normal + 1]Policy{
	Normal:   {Ahead: AheadAll, Stale: StaleConfigured, Miss: MissLoads, Throttle: defaultThrottle},
	Elevated: {Ahead: AheadPinned, Stale: StaleAtOnce, Miss: MissLoads, Throttle: defaultThrottle},
	Degraded: {Ahead: AheadNone, Stale: StaleFromBucket, Miss: MissLoads, Throttle: defaultThrottle},
	Protect:  {Ahead: AheadNone, Stale: StaleOnly, Miss: MissThrottled, Throttle: defaultThrottle},
	Lockdown: {Ahead: AheadNone, Stale: StaleOnly, Miss: MissRefused, Throttle: defaultThrottle},
}

// over returns the policy with what is left zero taken from base.
func (p Policy) over(base Policy) Policy {
	return Policy{
		Ahead: cmp.Or(p.Ahead, base.Ahead), Stale: cmp.Or(p.Stale, base.Stale),
		Miss: cmp.Or(p.Miss, base.Miss), Throttle: cmp.Or(p.Throttle, base.Throttle),
	}
}

func checkLevels(p *problems, name string, levels map[Level]Policy) {
	for l, policy := range levels {
		p.check(l.valid(), "%s: %d is no level: 1 (Lockdown) to 5 (Normal)", name, int(l))
		p.check(policy.Ahead <= AheadNone, "%s[%v].Ahead is no AheadPolicy: %d", name, l, policy.Ahead)
		p.check(policy.Stale <= StaleOnly, "%s[%v].Stale is no StalePolicy: %d", name, l, policy.Stale)
		p.check(policy.Miss <= MissRefused, "%s[%v].Miss is no MissPolicy: %d", name, l, policy.Miss)
		p.check(policy.Throttle >= 0 && !math.IsInf(policy.Throttle, 0), "%s[%v].Throttle must be a number above 0 (calls a second), not %v", name, l, policy.Throttle)
	}
}

// dialled is a cache's side of its dial: what each level means for it.
type dialled struct {
	dial     *Defcon
	policies [Normal + 1]levelPolicy
}

// levelPolicy is the policy of one level, ready for use.
type levelPolicy struct {
	Policy
	throttle *rate.Limiter // with MissThrottled
	refusal  error         // ErrDefcon, with the level
}

func newDialled(dial *Defcon, exceptions map[Level]Policy) dialled {
	if dial == nil {
		dial = new(Defcon)
	}
	d := dialled{dial: dial}
	for l := Lockdown; l <= Normal; l++ {
		p := exceptions[l].over(dial.Levels[l].over(defaultPolicies[l]))
		d.policies[l] = levelPolicy{Policy: p, refusal: fmt.Errorf("%w: %d (%v)", ErrDefcon, int(l), l)}
		if p.Miss == MissThrottled {
			d.policies[l].throttle = rate.NewLimiter(rate.Limit(p.Throttle), max(1, int(p.Throttle/10)))
		}
	}
	return d
}

// policy is the present level's.
func (d *dialled) policy() *levelPolicy { return &d.policies[d.dial.Level()] }

// admits reports whether a key may be reloaded for that reason, off the
// readers' path.
func (p *levelPolicy) admits(why dueFor) bool {
	switch why {
	case dueAhead:
		return p.Ahead == AheadAll
	case duePinned:
		return p.Ahead != AheadNone
	}
	return p.Stale != StaleOnly
}

// forbids returns why no load may begin at all, or nil.
func (p *levelPolicy) forbids() error {
	if p.Miss == MissRefused {
		return p.refusal
	}
	return nil
}

// refuses returns why a load that would begin now would not be let through, or
// nil. It takes nothing.
func (p *levelPolicy) refuses() error {
	if p.Miss == MissThrottled && p.throttle.Tokens() < 1 {
		return p.refusal
	}
	return p.forbids()
}

// pass takes the level's permission for one call of the origin.
func (p *levelPolicy) pass() error {
	if p.Miss == MissThrottled && !p.throttle.Allow() {
		return p.refusal
	}
	return p.forbids()
}
