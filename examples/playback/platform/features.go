package platform

import (
	"sync/atomic"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// This file is what viewers lose at which level of the dial. What the caches do
// at a level is their policies' (caches.go); what is in an answer at all is
// decided here.

// ClientRetries is a feature too: whether players may ask again when an answer
// is incomplete.
const ClientRetries wire.Part = "client retries"

// Features are what there is to lose, in the order in which it goes, and the
// lowest level at which each is there.
var Features = []struct {
	Name  wire.Part
	Until dewar.Level
}{
	{wire.PartRecommendations, dewar.Normal},
	{wire.PartArtwork, dewar.Elevated},
	{ClientRetries, dewar.Elevated},
	{wire.PartAds, dewar.Protect}, // the revenue
	{wire.PartMetadata, dewar.Lockdown},
	{wire.PartStream, dewar.Lockdown}, // never: this is what they came for
}

// On reports whether there is a feature at a level.
func On(feature wire.Part, level dewar.Level) bool {
	for _, f := range Features {
		if f.Name == feature {
			return level >= f.Until
		}
	}
	return false
}

// FeatureCount is what became of the titles for which players asked for a part
// or, for ClientRetries, of the answers that players would have asked for again.
type FeatureCount struct {
	Served  int64 `json:"served"`
	Shed    int64 `json:"shed"`    // left out on purpose
	Missing int64 `json:"missing"` // not to be had
}

// tallies count features at each level.
type tallies struct {
	at [dewar.Normal + 1]map[wire.Part]*tally // the maps are read only
}

type tally struct{ served, shed, missing atomic.Int64 }

func newTallies() *tallies {
	t := new(tallies)
	for l := dewar.Lockdown; l <= dewar.Normal; l++ {
		t.at[l] = make(map[wire.Part]*tally)
		for _, f := range Features {
			t.at[l][f.Name] = new(tally)
		}
	}
	return t
}

// snapshot returns what was counted, by level and feature.
func (t *tallies) snapshot() map[dewar.Level]map[wire.Part]FeatureCount {
	s := make(map[dewar.Level]map[wire.Part]FeatureCount)
	for l := dewar.Lockdown; l <= dewar.Normal; l++ {
		s[l] = make(map[wire.Part]FeatureCount)
		for name, n := range t.at[l] {
			s[l][name] = FeatureCount{n.served.Load(), n.shed.Load(), n.missing.Load()}
		}
	}
	return s
}
