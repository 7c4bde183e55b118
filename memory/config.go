package memory

import (
	"errors"
	"fmt"
	"math"

	"github.com/dewarcache/dewar"
)

// defaultEntries is the capacity when neither MaxEntries nor MaxCost is set.
const defaultEntries = 100_000

// Config describes the ristretto engine: our own index answers every read,
// ristretto decides which entries stay. It implements [dewar.LocalOpener].
type Config[V any] struct {
	// MaxEntries bounds how many entries are kept, negative ones included.
	// Defaults to 100,000 when MaxCost is not set either. With MaxCost both
	// bounds hold: an entry then counts as at least MaxCost/MaxEntries.
	MaxEntries int

	// MaxCost bounds the sum of the entries' costs, in the unit of Cost (bytes,
	// say). It needs Cost. Defaults to no such bound.
	MaxCost int64

	// Cost returns what keeping v under key costs. It runs once for each entry
	// stored, while the key is locked: it must be quick and not use the cache.
	// A result below 1 counts as 1, and so does a negative entry, for which
	// Cost is not called. An entry that costs more than MaxCost is not kept,
	// nor is one for which Cost panics. It needs MaxCost.
	Cost func(key string, v V) int64
}

// Validate returns every problem of c, joined, or nil.
func (c Config[V]) Validate() error { return limits[V](c).validate("memory.Config") }

// OpenLocal opens the tier. Of the memory that it takes besides keys and values
// (some 180 bytes an entry when full) 45 bytes an entry of MaxEntries are taken
// at once, so MaxEntries should be no larger than meant. With MaxCost that is
// about 12 MB at most, and the rest follows the entries.
func (c Config[V]) OpenLocal(string) (dewar.LocalTier[V], error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return openTier(limits[V](c))
}

// Otter describes the otter engine: the same contract on otter v2, which keeps
// entries by W-TinyLFU. The package comment says when to choose which. It
// implements [dewar.LocalOpener].
type Otter[V any] struct {
	MaxEntries int                         // as in Config
	MaxCost    int64                       // as in Config
	Cost       func(key string, v V) int64 // as in Config
}

// Validate returns every problem of o, joined, or nil.
func (o Otter[V]) Validate() error { return limits[V](o).validate("memory.Otter") }

// OpenLocal opens the tier.
func (o Otter[V]) OpenLocal(string) (dewar.LocalTier[V], error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return openOtter(limits[V](o))
}

// limits is what both engines are configured with. Its fields are those of
// Config and Otter, so that each converts to it.
type limits[V any] struct {
	MaxEntries int
	MaxCost    int64
	Cost       func(key string, v V) int64
}

func (l limits[V]) validate(name string) error {
	var errs []error
	problem := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(name+": "+format, args...))
	}
	if l.MaxEntries < 0 {
		problem("MaxEntries is negative (%d)", l.MaxEntries)
	}
	if int64(l.MaxEntries) > math.MaxUint32 {
		problem("MaxEntries is over 4,294,967,295 (%d)", l.MaxEntries)
	}
	if l.MaxCost < 0 {
		problem("MaxCost is negative (%d)", l.MaxCost)
	}
	if l.MaxCost > 0 && l.Cost == nil {
		problem("MaxCost needs Cost, which is nil")
	}
	if l.Cost != nil && l.MaxCost == 0 {
		problem("Cost needs MaxCost, which is 0")
	}
	return errors.Join(errs...)
}

// capacity returns the bound in units of cost; without Cost each entry has 1.
func (l limits[V]) capacity() int64 {
	switch {
	case l.MaxCost > 0:
		return l.MaxCost
	case l.MaxEntries > 0:
		return int64(l.MaxEntries)
	}
	return defaultEntries
}

// costOf returns what e costs, at least 1. It calls user code.
func (l limits[V]) costOf(key string, e *dewar.Entry[V]) (cost int64) {
	defer func() {
		if recover() != nil { // on a goroutine that is nobody's: it would end the process
			cost = tooDear
		}
	}()
	least := int64(1)
	if l.MaxEntries > 0 && l.MaxCost > 0 {
		// So that MaxEntries entries take all of MaxCost: the one bound holds
		// the other.
		least = max(1, (l.MaxCost+int64(l.MaxEntries)-1)/int64(l.MaxEntries))
	}
	if l.Cost == nil || e.Negative() {
		return least
	}
	return max(least, l.Cost(key, e.Value))
}

// tooDear is the cost of what Cost could not say the cost of.
const tooDear = math.MaxInt64
