// Compare plays a video platform's readers against dewar, and against what
// one would write without it.
//
// A page of the platform brings twenty to fifty video ids, a player brings
// one. The catalogue behind them is slow, slower still when everybody comes at
// once, and at times it is down. Compare sends the same requests, through the
// same acts (a cold start, an ad break, an outage, ...), to three systems:
// dewar with a memory and a Redis tier, a cache written as get-then-load, and
// no cache at all, each as a fleet of processes on one Redis. It prints what
// the readers saw and what the origin had to bear, and exits with 1 when dewar
// did not do what it promises. (The platform itself, as one would build it, is
// examples/playback.)
//
// Everything is simulated in this process unless -redis names a server. Where
// to look first: systems.go, which holds the dewar.Config, then acts.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dewarcache/dewar/examples/internal/redisd"
	"github.com/dewarcache/dewar/examples/internal/show"
	"github.com/dewarcache/dewar/examples/internal/tape"
)

// Exit codes.
const (
	exitClaims      = 1   // a claim did not hold
	exitUsage       = 2   // a flag, the trace or Redis is no good
	exitInterrupted = 130 // as a shell says it
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are what the flags say.
type settings struct {
	trace     string
	redis     string
	processes int
	duration  time.Duration
	rate      int
	seed      uint64
	json      bool

	// patience is how long a reader waits before it gives up.
	patience time.Duration
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage())
		return 0
	}
	if err != nil {
		return fail(stderr, fmt.Errorf("%w (-h explains)", err))
	}
	return set.run(ctx, stdout, stderr)
}

// run plays, reports, and returns the exit code.
func (set settings) run(ctx context.Context, stdout, stderr io.Writer) int {
	rep, err := play(ctx, set, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "compare: interrupted")
		return exitInterrupted
	case err != nil:
		return fail(stderr, err)
	case set.json:
		err = rep.writeJSON(stdout)
	default:
		err = rep.writeText(stdout)
	}
	if err != nil {
		return fail(stderr, err)
	}
	broken := 0
	for _, c := range rep.Claims {
		if !c.Held {
			fmt.Fprintf(stderr, "compare: claim broken: %s: %s\n", c.Claim, c.Detail)
			broken++
		}
	}
	if broken > 0 {
		return exitClaims
	}
	return 0
}

func fail(stderr io.Writer, err error) int {
	show.Error(stderr, "compare", err)
	return exitUsage
}

// play runs the acts on every system and returns the report.
func play(ctx context.Context, set settings, stdout, stderr io.Writer) (*report, error) {
	accesses, err := tape.Open(set.trace, set.seed)
	if err != nil {
		return nil, err
	}
	srv, err := redisd.Find(ctx, set.redis)
	if err != nil {
		return nil, err
	}
	out := stdout
	if set.json {
		out = stderr
	}
	show := newProgress(out, set, srv, accesses)
	defer show.stop()
	th := theatre{set: set, server: srv, accesses: accesses, show: show}
	results, err := th.playAll(ctx)
	if err != nil {
		return nil, err
	}
	return newReport(set, srv, accesses, results), nil
}

const (
	defaultDuration  = 25 * time.Second
	defaultRate      = 2000
	defaultProcesses = 4
	defaultPatience  = 5 * time.Second // long, for machines that crawl: the report shows who waited

	// With less, some acts would not have the time or the requests to show
	// what they are about.
	minDuration = 2 * time.Second
	minRate     = 100
	maxRate     = 100_000

	maxProcesses = 16
)

func parse(args []string) (settings, error) {
	set := settings{patience: defaultPatience}
	fs := set.flags()
	fs.SetOutput(io.Discard) // what Parse finds wrong is told in one line
	if err := fs.Parse(args); err != nil {
		return set, err
	}
	switch {
	case fs.NArg() > 0:
		return set, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case set.duration < minDuration || set.duration > time.Hour:
		return set, fmt.Errorf("-duration must be 2s to 1h, not %v", set.duration)
	case set.processes < 1 || set.processes > maxProcesses:
		return set, fmt.Errorf("-processes must be 1 to %d, not %d", maxProcesses, set.processes)
	case set.rate < minRate || set.rate > maxRate:
		return set, fmt.Errorf("-rate must be %d to %d, not %d", minRate, maxRate, set.rate)
	}
	return set, nil
}

func (set *settings) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.StringVar(&set.trace, "trace", "", "replay the ids of this recorded trace `file`: gzip of big-endian 32-bit keys;\nwithout it, ids come from a seeded Zipf generator of the same shape")
	fs.StringVar(&set.redis, "redis", "", "use the Redis 7.0 or newer at this `address` (host:port) instead of an embedded one,\nor a cluster at some of its nodes' (host:port,host:port,...);\nits keys have compare-* in their names and expire by themselves: values soon after\nthe run, what tells the processes of changes after a week")
	fs.IntVar(&set.processes, "processes", defaultProcesses, "play each system as `N` processes on one Redis, each with a client and, for dewar, a\nmemory tier of its own; the requests are spread over them")
	fs.DurationVar(&set.duration, "duration", defaultDuration, "how long the whole run takes, roughly; TTLs and acts scale with it")
	fs.IntVar(&set.rate, "rate", defaultRate, "requests per second, twice that in the ad break")
	fs.Uint64Var(&set.seed, "seed", 1, "seed of the requests")
	fs.BoolVar(&set.json, "json", false, "print the report as one JSON document, and the progress to stderr")
	return fs
}

func usage() string {
	var b strings.Builder
	b.WriteString(`Compare plays a video platform's readers against a fleet of processes with dewar
(memory, then Redis, then a simulated origin that is slow, slower under herds, and
fails on command), then against one with a get-then-load cache and one with no
cache, and compares what the readers saw.
Nothing needs to be installed.

	go run ./examples/compare [flags]

Flags:
`)
	var set settings
	fs := set.flags()
	fs.SetOutput(&b)
	fs.PrintDefaults()
	b.WriteString(`
Acts:
`)
	for _, a := range acts {
		fmt.Fprintf(&b, "  %-12s  %s\n", a.name, strings.ReplaceAll(a.story, "\n", "\n"+strings.Repeat(" ", 16)))
	}
	b.WriteString(`
Exit code: 0, or 1 when a claim of the report does not hold, 2 when a flag, the
trace or Redis is no good, 130 when interrupted. (go run prints it, and exits
with 1 for each but 0.)
`)
	return b.String()
}
