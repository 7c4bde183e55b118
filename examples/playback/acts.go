package main

import (
	"context"
	"errors"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/internal/pace"
	"github.com/dewarcache/dewar/examples/playback/legacy"
)

// act is one scene of the night.
type act struct {
	name   string
	story  string
	length float64 // in units of newTimes
	rate   float64 // viewers a second, times -rate
	visit  visit   // what viewers do; the zero value is what they do otherwise

	begin func(*night) // what happens first; nil: nothing
	end   func(*night) // and when the requests are answered; nil: nothing

	// scene is what happens beside the requests; nil: nothing. The act does not
	// end before it.
	scene func(*night, context.Context)
}

// The names of the acts that something is claimed of.
const (
	actWarmUp    = "warm-up"
	actMove      = "move"
	actRetries   = "app crash"
	actNoRetries = "  without retries"
	actStreams   = "stream URLs fail"
	actExtension = "extension"
	actRedis     = "Redis failover"
	actLockdown  = "DEFCON 1"
	actBack      = "DEFCON 5"
)

// acts are played in this order.
var acts = []act{
	{
		name: actWarmUp, length: 1.25, rate: 1,
		story: "everybody is on the old path, while the caches fill",
		begin: func(n *night) { n.stage.platform.SetShadow(shadowShare) },
		scene: func(n *night, ctx context.Context) { n.cold = n.stage.warm(ctx) },
	},
	{
		name: actMove, length: 1.25, rate: 1,
		story: "10, 50, 100 % of the viewers move to the new path; answers are compared",
		scene: (*night).moveOver,
		end:   func(n *night) { n.stage.platform.SetShadow(0) },
	},
	{
		name: "kick-off", length: 1, rate: 2,
		story: "twice the viewers, and a crowd at once for a title that is new",
		scene: (*night).crowd,
	},
	{
		name: "ad break", length: 1, rate: 2, visit: visitAds,
		story: "everybody asks for ads, which rotate",
	},
	{
		name: actRetries, length: 1, rate: 1, visit: visitRestart,
		story: "it restarts everywhere, asks for old titles, and retries; metadata breaks",
		begin: func(n *night) { n.stage.legacy.Break(legacy.Metadata, 0.9, 0) },
	},
	{
		name: actNoRetries, length: 1, rate: 1, visit: visitRestart,
		story: "the same at DEFCON 3, where players are told not to",
		begin: func(n *night) { n.turn(dewar.Degraded, "app crash") },
		end: func(n *night) {
			n.stage.legacy.Heal(legacy.Metadata)
			n.turn(dewar.Normal, "the app is fixed")
		},
	},
	{
		name: actStreams, length: 2.5, rate: 1,
		story: "none can be signed, for longer than their TTL",
		begin: func(n *night) { n.stage.legacy.Break(legacy.Streams, 1, 0) },
		end:   func(n *night) { n.stage.legacy.Heal(legacy.Streams) },
	},
	{
		name: "metadata slow", length: 1.5, rate: 1,
		story: "the metadata store takes 400 ms longer",
		begin: func(n *night) { n.stage.legacy.Break(legacy.Metadata, 0, 400*time.Millisecond) },
		end:   func(n *night) { n.stage.legacy.Heal(legacy.Metadata) },
	},
	{
		name: actExtension, length: 1.5, rate: 1,
		story: "extra time: the whole schedule changes at once, and everybody looks",
		scene: (*night).extend,
	},
	{
		name: actRedis, length: 1.5, rate: 1,
		story: "Redis is gone; half-way an empty one takes its place, and is filled again",
		begin: func(n *night) { n.stage.redis.Crash() },
		scene: (*night).failOver,
	},
	{
		name: "DEFCON 4", length: 0.5, rate: 1, story: "recommendations go",
		begin: func(n *night) {
			n.drill = n.stage.platform.Stats().Features
			n.turn(dewar.Elevated, "drill")
		},
	},
	{
		name: "DEFCON 3", length: 0.5, rate: 1, story: "artwork goes, and players may not retry",
		begin: func(n *night) { n.turn(dewar.Degraded, "drill") },
	},
	{
		name: "DEFCON 2", length: 0.5, rate: 1, story: "nothing more goes: ads are the revenue",
		begin: func(n *night) { n.turn(dewar.Protect, "drill") },
	},
	{
		name: actLockdown, length: 1, rate: 1, story: "ads go; no service is called; everybody still plays",
		begin: (*night).lockDown,
		end:   (*night).lockedDown,
	},
	{
		name: actBack, length: 1, rate: 1, story: "2, 3, 4, 5: all comes back",
		scene: (*night).comeBack,
	},
}

// nightUnits is how long a night is, with what is before and after the acts.
func nightUnits() float64 {
	units := 0.75
	for _, a := range acts {
		units += a.length
	}
	return units
}

// turn turns the dial.
func (n *night) turn(to dewar.Level, why string) {
	_ = n.stage.platform.Dial().Turn(dewar.Turn{To: to, Who: "playback", Why: why})
}

const shadowShare = 0.25 // of the answers are compared with the other path's

// moveOver is the scene in which the percentage grows.
func (n *night) moveOver(ctx context.Context) {
	for _, percent := range []int{10, 50, 100} {
		_ = n.stage.platform.Rollout().Set(percent)
		_ = pace.Pause(ctx, n.length()/3)
	}
}

// crowdSize viewers ask at the same moment for a title that no cache has seen.
const crowdSize = 200

func (n *night) crowd(ctx context.Context) {
	n.players.crowd(ctx, crowdSize, legacy.ArchiveID(archiveCount-1))
}

// extend is the scene in which every title of the schedule ends later. It ends
// when viewers see that of all of them, or a bound that is generous.
func (n *night) extend(ctx context.Context) {
	const patience = 30 * time.Second
	n.extension.Titles = titleCount
	began := time.Now()
	watch := n.watchRefreshes(ctx)
	ends := n.stage.legacy.Extend()
	if err := n.stage.platform.ScheduleChanged(ctx, schedule...); err != nil {
		n.extension.Pending = err.Error() // accepted, and repeated by itself
	}
	for ctx.Err() == nil && time.Since(began) < patience {
		if n.extension.New = n.players.countEnding(ctx, ends); n.extension.New == titleCount {
			break
		}
		_ = pace.Pause(ctx, n.times.unit/20)
	}
	n.extension.TookMS = ms(time.Since(began))
	watch.stop(&n.extension)
}

// failOver brings an empty Redis to where the old one was, and loads again what
// neither that nor, because of it, this process has.
func (n *night) failOver(ctx context.Context) {
	_ = pace.Pause(ctx, n.length()/2)
	if err := n.stage.redis.Replace(); err != nil {
		n.fail(err)
		return
	}
	n.cold = errors.Join(n.cold, n.stage.warm(ctx))
}

// lockDown turns the dial to 1, and waits for the calls that were let through
// before: from then on there are none.
func (n *night) lockDown() {
	n.turn(dewar.Lockdown, "drill")
	for n.callsUnderWay() > 0 {
		time.Sleep(time.Millisecond)
	}
	n.lockdown.before = n.calls()
}

func (n *night) lockedDown() { n.lockdown.Calls = n.calls() - n.lockdown.before }

// comeBack turns the dial up step by step.
func (n *night) comeBack(ctx context.Context) {
	for level := dewar.Protect; level <= dewar.Normal; level++ {
		n.turn(level, "the drill is over")
		_ = pace.Pause(ctx, n.length()/6)
	}
}
