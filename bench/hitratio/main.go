// Command hitratio replays access traces against dewar's local tiers, plain
// ristretto and plain otter, and prints a table of hit ratios.
//
//	go run ./hitratio            # a prefix of the long traces
//	go run ./hitratio -accesses 0 # all of them
//
// The recorded traces are read from the folder named by DEWAR_TRACES, by
// default shared/data beside the project; without them only Zipf is shown.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

// shares are the capacities, as shares of a trace's distinct keys.
var shares = []float64{0.01, 0.05, 0.10}

func main() {
	accesses := flag.Int("accesses", 1_000_000, "replay so many accesses of each recorded trace; 0: all")
	optimum := flag.Bool("optimum", false, "add a column for the optimum (Belady)")
	flag.Parse()

	traces, missing := allTraces(*accesses)
	if missing != nil {
		fmt.Fprintln(os.Stderr, "recorded traces skipped:", missing)
	}
	fmt.Print("| trace | capacity |")
	for _, c := range contenders {
		fmt.Printf(" %s |", c.name)
	}
	if *optimum {
		fmt.Print(" optimum |")
	}
	fmt.Print("\n|---|---:|")
	for range contenders {
		fmt.Print("---:|")
	}
	if *optimum {
		fmt.Print("---:|")
	}
	fmt.Println()
	for _, t := range traces {
		for _, share := range shares {
			capacity := int(share * float64(len(t.keys)))
			fmt.Printf("| %s | %d (%.0f %%) |", t.name, capacity, 100*share)
			for _, c := range contenders {
				fmt.Printf(" %.1f |", 100*replay(t, c.open(capacity)))
			}
			if *optimum {
				fmt.Printf(" %.1f |", 100*t.optimum(capacity))
			}
			fmt.Println()
		}
	}
}

// allTraces returns the recorded traces, cut to so many accesses, then Zipf.
// missing says which recorded traces could not be read.
func allTraces(accesses int) (traces []*trace, missing error) {
	for _, name := range recorded {
		t, err := readTrace(name, accesses)
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		traces = append(traces, t)
	}
	for _, s := range []float64{0.9, 0.99, 1.1} {
		traces = append(traces, zipf(s, 100_000, 500_000))
	}
	return traces, missing
}
