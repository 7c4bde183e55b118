// Command counting tells what Stats costs a hit: it builds itself twice, with
// the library as it is and with one that counts nothing, runs the two by turns,
// and prints the medians of with/without. The processes are short and many, so
// that what one build's layout happens to be good or bad for evens out; "as it
// is, again" stands beside itself, and tells how far from 1 mere noise leads.
//
//	go run ./counting
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func main() {
	measured := flag.Bool("measured", false, "be one of the processes that are measured")
	rounds := flag.Int("rounds", 41, "turns of each build")
	flag.Parse()
	var err error
	if *measured {
		err = measure()
	} else {
		err = compare(*rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// turn is what one process has measured.
type turn struct {
	Alone    float64 // ns a hit with one goroutine
	Together float64 // ns until each of GOMAXPROCS goroutines has had one
}

// speedUp is how many times as much all processors get done as one.
func (t turn) speedUp() float64 { return t.Alone / t.Together * float64(runtime.GOMAXPROCS(0)) }

// The addition that a hit makes, in stats.go.
const (
	counts  = "c.stripes[stripe].n[which].Add(uint64(n))"
	nothing = "_ = stripe"
)

// compare builds the two and runs them.
func compare(rounds int) error {
	dir, err := os.MkdirTemp("", "counting")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := withoutCounting(dir)
	if err != nil {
		return err
	}
	with, without := filepath.Join(dir, "with"), filepath.Join(dir, "without")
	if err := build(with); err != nil {
		return err
	}
	if err := build(without, "-overlay", overlay); err != nil {
		return err
	}
	turns := make([][]turn, 3)
	for range rounds {
		for i, program := range []string{with, without, with} {
			t, err := run(program)
			if err != nil {
				return err
			}
			turns[i] = append(turns[i], t)
		}
	}
	fmt.Println("| with/without | one goroutine | all processors | speed-up |")
	fmt.Println("|---|---:|---:|---:|")
	for _, row := range []struct {
		name           string
		these, against []turn
	}{
		{"counters", turns[0], turns[1]},
		{"as it is, again (1 but for noise)", turns[0], turns[2]},
	} {
		fmt.Printf("| %s | %.3f | %.3f | %.3f |\n", row.name,
			ratio(row.these, row.against, func(t turn) float64 { return t.Alone }),
			ratio(row.these, row.against, func(t turn) float64 { return t.Together }),
			ratio(row.these, row.against, turn.speedUp))
	}
	return nil
}

// withoutCounting writes an overlay for the go command in which nothing is
// counted.
func withoutCounting(dir string) (overlay string, err error) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/dewarcache/dewar").Output()
	if err != nil {
		return "", fmt.Errorf("run this in the bench module: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(out)), "stats.go")
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if strings.Count(string(source), counts) != 1 {
		return "", errors.New("stats.go no longer has the line that counts: adapt it here")
	}
	changed := filepath.Join(dir, "stats.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), counts, nothing, 1)), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

func build(program string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", program}, flags...), "github.com/dewarcache/dewar/bench/counting")...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

func run(program string) (t turn, err error) {
	cmd := exec.Command(program, "-measured")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(out, &t)
}

// ratio is the median of the rounds' these/against.
func ratio(these, against []turn, of func(turn) float64) float64 {
	rs := make([]float64, len(these))
	for i := range rs {
		rs[i] = of(these[i]) / of(against[i])
	}
	slices.Sort(rs)
	return rs[len(rs)/2]
}

const (
	entries = 1000 // they fit into the processor's caches: what is measured is the path, not the memory
	hits    = 2_000_000
)

// measure times hits, and prints the turn.
func measure() error {
	cache, err := dewar.New(dewar.Config[string, int]{
		Name: "counting", TTL: time.Hour, Local: memory.Config[int]{MaxEntries: 10 * entries},
		Load: func(context.Context, string) (int, error) { return 1, nil },
	})
	if err != nil {
		return err
	}
	defer cache.Close()
	ctx := context.Background()
	keys := make([]string, entries)
	for i := range keys {
		keys[i] = fmt.Sprintf("video:%018d", i)
		if _, err := cache.Get(ctx, keys[i]); err != nil {
			return err
		}
	}
	drawn := make([]string, 1<<14)
	for i := range drawn {
		drawn[i] = keys[rand.IntN(entries)]
	}
	read := func(goroutines int) float64 {
		var wg sync.WaitGroup
		begun := time.Now()
		for g := range goroutines {
			wg.Go(func() {
				for i := range hits {
					if _, err := cache.Get(ctx, drawn[(i+g*777)&(len(drawn)-1)]); err != nil {
						panic(err)
					}
				}
			})
		}
		wg.Wait()
		return float64(time.Since(begun)) / hits
	}
	var t turn
	read(1) // warm
	t.Alone, t.Together = read(1), read(runtime.GOMAXPROCS(0))
	return json.NewEncoder(os.Stdout).Encode(t)
}
