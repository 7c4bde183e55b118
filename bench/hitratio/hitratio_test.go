package main

import (
	"flag"
	"math"
	"testing"
)

var testAccesses = flag.Int("accesses", 600_000, "replay so many accesses of each recorded trace; 0: all")

// The bars: above ristretto that waits after every Set, and no more than so
// many points below otter. Both engines meet them on every trace.
const (
	pointsBelowOtter = 3.0
	noise            = 0.5 // sampling is random, and ristretto works beside us
)

func TestHitRatioMeetsTheBars(t *testing.T) {
	traces, missing := allTraces(*testAccesses)
	if missing != nil {
		t.Log("recorded traces skipped:", missing)
	}
	for _, trace := range traces {
		t.Run(trace.name, func(t *testing.T) {
			for _, share := range shares {
				capacity := int(share * float64(len(trace.keys)))
				ratios := map[string]float64{}
				for _, c := range contenders {
					ratios[c.name] = math.Round(1000*replay(trace, c.open(capacity))) / 10
				}
				t.Logf("%.0f %% of the keys: %v", 100*share, ratios)
				for _, engine := range []string{"dewar", "dewar on otter"} {
					if ratios[engine] < ratios["ristretto with Wait"]-noise {
						t.Errorf("%.0f %% of the keys: %s is below ristretto with Wait: %v", 100*share, engine, ratios)
					}
					if ratios[engine] < ratios["otter"]-pointsBelowOtter-noise {
						t.Errorf("%.0f %% of the keys: %s is more than %.0f points below otter: %v", 100*share, engine, pointsBelowOtter, ratios)
					}
				}
			}
		})
	}
}

func TestOptimum(t *testing.T) {
	// Capacity 2; a and b stay, c is never worth its place.
	trace := &trace{keys: []string{"a", "b", "c"}, accesses: []int32{0, 1, 2, 0, 1, 2, 0, 1}}
	// a b c(replaces c itself is allowed: bypass) a+ b+ c a+ b+
	if got := trace.optimum(2); got != 4.0/8 {
		t.Errorf("optimum = %v, want 4 hits of 8", got)
	}
}
