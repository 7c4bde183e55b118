package dewartest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// ErrFault is why operations fail that one of the [Faults] befell.
var ErrFault = errors.New("dewartest: a fault")

// Faults says how often what goes wrong by itself, see Chaos.Seed: each rate is
// a probability, from 0 to 1. Of the first three at most one befalls an
// operation; the others come on top, each on its own.
type Faults struct {
	Refuse float64 // the operation fails and is not carried out
	Lose   float64 // it is carried out, and fails all the same
	Late   float64 // it fails, and is carried out within Spread after that

	// Slow makes it take up to Spread longer, part of it before it is carried
	// out, part of it after. If its context ends before, it is carried out all
	// the same: a command that the client gave up on may run later.
	Slow float64

	// Twice makes an Unlink or Announce be carried out once more within Spread
	// after it was: clients may repeat these.
	Twice float64

	// Pause makes an operation stall its process first, for PauseFor to half
	// as much again; see Chaos.Pause.
	Pause float64

	Lag  float64 // an announcement is heard up to Spread later, and with it what follows
	Miss float64 // an announcement is missed, which is found before the next, or within a second

	Spread   time.Duration // default 200ms
	PauseFor time.Duration // default 5s: longer than a lease
}

// breath is how long each operation and announcement takes at most, so that no
// two of a fleet happen at the same instant.
const breath = 100 * time.Microsecond

// outcome is one of those that exclude each other.
type outcome uint8

const (
	carriedOut outcome = iota
	refused
	answerLost
	carriedOutLate
)

// fate is what befalls one operation.
type fate struct {
	outcome       outcome
	before, after time.Duration // how long it takes
	late          time.Duration // with carriedOutLate: how late
	again         time.Duration // 0, or after how long it is carried out once more
	pause         time.Duration // 0, or for how long it stalls the process
	resume        time.Duration // how long after a pause it goes on
}

// dice decides fates. It is guarded by line.mu.
type dice struct {
	seed   uint64
	faults Faults
	asked  map[uint64]uint64 // how often what was asked, by hash
}

func newDice(seed uint64, f Faults) *dice {
	f.Spread = cmp.Or(f.Spread, 200*time.Millisecond)
	f.PauseFor = cmp.Or(f.PauseFor, 5*time.Second)
	return &dice{seed: seed, faults: f, asked: make(map[uint64]uint64)}
}

// roll returns the random numbers for the nth time that what is asked of keys.
func (d *dice) roll(what string, n uint64, keys []string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	for _, key := range keys {
		h.Write(binary.AppendUvarint(nil, uint64(len(key))))
		h.Write([]byte(key))
	}
	sum := h.Sum64()
	n += d.asked[sum]
	d.asked[sum]++
	return rand.New(rand.NewPCG(d.seed^sum, n))
}

// within returns a duration in (0, d].
func within(r *rand.Rand, d time.Duration) time.Duration {
	return 1 + time.Duration(r.Float64()*float64(d-1))
}

// operation decides. Every number is drawn whether it is needed or not, so that
// one rate changes nothing for the others.
func (d *dice) operation(op string, keys []string) fate {
	r := d.roll(op, 0, keys)
	f := &d.faults
	var to fate
	switch p := r.Float64(); {
	case p < f.Refuse:
		to.outcome = refused
	case p < f.Refuse+f.Lose:
		to.outcome = answerLost
	case p < f.Refuse+f.Lose+f.Late:
		to.outcome = carriedOutLate
	}
	slow, split := within(r, f.Spread), r.Float64()
	to.before, to.after = within(r, breath), within(r, breath)
	if r.Float64() < f.Slow {
		to.before += time.Duration(split * float64(slow))
		to.after += time.Duration((1 - split) * float64(slow))
	}
	to.late = within(r, f.Spread)
	again := within(r, f.Spread)
	if r.Float64() < f.Twice && (op == "Unlink" || op == "Announce") {
		to.again = again
	}
	pause := f.PauseFor + within(r, f.PauseFor/2+1)
	if r.Float64() < f.Pause {
		to.pause = pause
	}
	to.resume = within(r, breath)
	return to
}

// hearing decides by how much later n is heard, and whether at all.
func (d *dice) hearing(n *notice) (lag time.Duration, lost bool) {
	place := n.announced.Place
	r := d.roll("hear", place.Time+place.Seq+n.epoch, n.announced.Keys)
	lag = within(r, breath)
	more := within(r, d.faults.Spread)
	if r.Float64() < d.faults.Lag {
		lag += more
	}
	return lag, r.Float64() < d.faults.Miss
}
