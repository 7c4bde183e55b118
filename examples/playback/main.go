// Playback is a platform's playback API in front of a legacy service, and the
// night that it has to live through.
//
// The API is package platform, written as one would write it with dewar. What
// it stands in front of is simulated by package legacy, and so are the players.
// Playback plays a night on them, a match with an ad break, an app that crashes,
// services that fail or crawl, an extension, a Redis failover, and the DEFCON
// dial turned down to 1 and back, and ends with a table of what the viewers saw
// and what the legacy services had to bear. It exits with 1 when a claim of the
// table does not hold. With -serve it only serves, for curl, k6 or wrk.
//
// Everything runs in this process, over real HTTP on the loopback interface;
// nothing needs to be installed. Where to look first: platform/platform.go, then
// acts.go.
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
)

// Exit codes.
const (
	exitClaims      = 1   // a claim did not hold
	exitUsage       = 2   // a flag, an address or Redis is no good
	exitInterrupted = 130 // as a shell says it
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		sig := <-signals
		signal.Stop(signals) // another one ends the process at once
		cancel(signalled{sig})
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// signalled is why a run ends early.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// settings are what the flags say.
type settings struct {
	duration time.Duration
	rate     int
	seed     uint64
	redis    string
	json     bool
	report   string // a file; "": none
	serve    bool
	addr     string

	// patience is how long a player waits for an answer. Long, for machines
	// that crawl: the table shows who waited.
	patience time.Duration

	// noStale breaks the platform: nothing stale is ever served.
	noStale bool
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage())
		return 0
	case err != nil:
		show.Error(stderr, "playback", fmt.Errorf("%w (-h explains)", err))
		return exitUsage
	}
	return set.run(ctx, stdout, stderr)
}

// run serves or plays the night, and returns the exit code.
func (set settings) run(ctx context.Context, stdout, stderr io.Writer) int {
	srv, err := redisd.Find(ctx, set.redis)
	switch {
	case err != nil:
	case set.serve:
		err = serve(ctx, set, srv, stdout, stderr)
		if sig, ok := errors.AsType[signalled](context.Cause(ctx)); ok && err == nil && sig.Signal == syscall.SIGTERM {
			return 0 // it was asked to end, and has
		}
	default:
		return set.runNight(ctx, srv, stdout, stderr)
	}
	return exitOf(ctx, err, stderr)
}

func (set settings) runNight(ctx context.Context, srv redisd.Server, stdout, stderr io.Writer) int {
	out := stdout
	if set.json {
		out = stderr
	}
	rep, err := playNight(ctx, set, srv, out)
	if err != nil || ctx.Err() != nil {
		return exitOf(ctx, err, stderr)
	}
	if set.report != "" {
		if err := writePage(set.report, rep, rep.recording); err != nil {
			return exitOf(ctx, err, stderr)
		}
	}
	if set.json {
		err = rep.writeJSON(stdout)
	} else {
		err = rep.writeText(stdout)
	}
	if err != nil {
		return exitOf(ctx, err, stderr)
	}
	for _, c := range rep.Claims {
		if !c.Held {
			fmt.Fprintf(stderr, "playback: claim broken: %s: %s\n", c.Claim, c.Detail)
		}
	}
	if !rep.OK {
		return exitClaims
	}
	return 0
}

// exitOf tells why a run has ended without a report.
func exitOf(ctx context.Context, err error, stderr io.Writer) int {
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "playback: interrupted")
		return exitInterrupted
	case err != nil:
		show.Error(stderr, "playback", err)
		return exitUsage
	}
	return 0
}

const (
	defaultDuration = 28 * time.Second
	defaultRate     = 250
	defaultPatience = 20 * time.Second
	defaultAddr     = "127.0.0.1:8080" // of -serve

	// With less, some acts would not have the time or the requests to show
	// what they are about.
	minDuration = 3 * time.Second
	minRate     = 20
	maxRate     = 10_000
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
		return set, fmt.Errorf("-duration must be %v to 1h, not %v", minDuration, set.duration)
	case set.rate < minRate || set.rate > maxRate:
		return set, fmt.Errorf("-rate must be %d to %d, not %d", minRate, maxRate, set.rate)
	case set.serve && (set.json || set.report != ""):
		return set, errors.New("-json and -report are for the report of the night: -serve has none")
	}
	if set.addr == "" {
		if set.addr = "127.0.0.1:0"; set.serve {
			set.addr = defaultAddr
		}
	}
	return set, nil
}

func (set *settings) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("playback", flag.ContinueOnError)
	fs.DurationVar(&set.duration, "duration", defaultDuration, "how long the night takes, roughly; acts and TTLs scale with it")
	fs.IntVar(&set.rate, "rate", defaultRate, "viewers per second, twice that at kick-off and in the ad break")
	fs.Uint64Var(&set.seed, "seed", 1, "seed of what the viewers ask for")
	fs.StringVar(&set.redis, "redis", "", "use the Redis 7.0 or newer at this `address` (host:port) instead of an embedded one, or\na cluster at some of its nodes' (host:port,host:port,...); for the failover it is only\ncut off; its keys have playback-* in their names and expire by themselves")
	fs.BoolVar(&set.json, "json", false, "print the report as one JSON document, and the progress to stderr")
	fs.StringVar(&set.report, "report", "", "write graphs of the night to this `file`, a page of HTML")
	fs.BoolVar(&set.serve, "serve", false, "only serve, until interrupted")
	fs.StringVar(&set.addr, "addr", "", "`address` (host:port) of the API (default a free port of 127.0.0.1; -serve: "+defaultAddr+")")
	return fs
}

func usage() string {
	var b strings.Builder
	b.WriteString(`Playback plays a night on a playback API that stands in front of a legacy service, and
shows what the viewers saw and what the legacy services had to bear. Nothing needs to
be installed.

	go run ./examples/playback [flags]

Flags:
`)
	var set settings
	fs := set.flags()
	fs.SetOutput(&b)
	fs.PrintDefaults()
	b.WriteString("\nThe night:\n")
	for _, a := range acts {
		fmt.Fprintf(&b, "  %-18s  %s\n", a.name, a.story)
	}
	b.WriteString(serveUsage)
	b.WriteString(`
Exit code: 0, or 1 when a claim of the report does not hold, 2 when a flag, an address
or Redis is no good, 130 when interrupted; -serve: 0 after SIGTERM. (go run prints it,
and exits with 1 for each but 0.)
`)
	return b.String()
}
