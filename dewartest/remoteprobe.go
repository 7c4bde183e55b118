package dewartest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
)

// remoteNames makes the name of each subtest's cache its own.
var remoteNames atomic.Int64

// remoteT is what a check needs of a test: a *testing.T, or a recorder when the
// checks themselves are tested.
type remoteT interface {
	checker
	Fatalf(format string, args ...any)
	Cleanup(func())
	Context() context.Context
}

// remoteProbe is what the checks talk to a tier through.
type remoteProbe struct {
	t      remoteT
	open   func(dewar.RemoteOptions) dewar.RemoteTier[string]
	lease  time.Duration // LeaseFor of the tiers to be opened
	schema string        // of the tiers to be opened; "": "0"
	name   string        // of the cache, drawn by the first tier
	tier   dewar.RemoteTier[string]
	heard  *listening
}

// patience is how long the checks wait for what comes by itself.
const patience = 5 * time.Second

// start opens one more tier on the same name, and waits until it is ready.
func (p *remoteProbe) start() *remoteProbe {
	p.t.Helper()
	if p.name == "" {
		p.name = fmt.Sprintf("suite-%d-%d", time.Now().UnixNano(), remoteNames.Add(1))
	}
	started := *p
	p = &started
	p.heard = &listening{t: p.t}
	p.tier = p.open(dewar.RemoteOptions{
		Name: p.name, Schema: cmp.Or(p.schema, "0"), LeaseFor: p.lease,
		Logger: slog.New(slog.DiscardHandler), Events: p.heard,
	})
	p.t.Cleanup(func() { p.tier.Close() })
	p.eventually("the tier is ready", func() bool { return p.read("ready")[0].State != dewar.RemoteFailed })
	return p
}

// eventually waits until it is so.
func (p *remoteProbe) eventually(what string, so func() bool) {
	p.t.Helper()
	for until := time.Now().Add(patience); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			p.t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

func (p *remoteProbe) read(keys ...string) []dewar.Found[string] {
	found := make([]dewar.Found[string], len(keys))
	p.tier.Read(p.t.Context(), keys, found)
	return found
}

func (p *remoteProbe) takeLease(keys ...string) []dewar.Found[string] {
	found := make([]dewar.Found[string], len(keys))
	p.tier.Lease(p.t.Context(), keys, found)
	return found
}

func (p *remoteProbe) seize(key string) dewar.Found[string] {
	found := make([]dewar.Found[string], 1)
	p.tier.Seize(p.t.Context(), []string{key}, found)
	return found[0]
}

// granted takes the lease of an absent key.
func (p *remoteProbe) granted(key string) dewar.Fence {
	p.t.Helper()
	f := p.takeLease(key)[0]
	p.wantState(f, dewar.RemoteGranted)
	if f.Fence == (dewar.Fence{}) {
		p.t.Fatalf("a granted lease has the zero Fence")
	}
	return f.Fence
}

// filling returns a fill whose value is fresh for a minute and kept for two.
func filling(key string, fence dewar.Fence, value string) dewar.Fill[string] {
	now := dewar.Clock()
	fresh := now + int64(time.Minute)
	return dewar.Fill[string]{
		Key: key, Fence: fence, Dead: now + int64(2*time.Minute),
		Entry: dewar.Entry[string]{Value: value, Loaded: now, Due: fresh, Fresh: fresh},
	}
}

func (p *remoteProbe) fill(f dewar.Fill[string]) error {
	fills := []dewar.Fill[string]{f}
	p.tier.Fill(p.t.Context(), fills)
	return fills[0].Err
}

func (p *remoteProbe) release(key string, fence dewar.Fence) error {
	fills := []dewar.Fill[string]{{Key: key, Fence: fence}}
	p.tier.Release(p.t.Context(), fills)
	return fills[0].Err
}

func (p *remoteProbe) unlink(keys ...string) {
	p.t.Helper()
	errs := make([]error, len(keys))
	p.tier.Unlink(p.t.Context(), keys, errs)
	p.wantOK(errors.Join(errs...))
}

func (p *remoteProbe) expire(keep time.Duration, keys ...string) {
	p.t.Helper()
	errs := make([]error, len(keys))
	p.tier.Expire(p.t.Context(), keys, keep, errs)
	p.wantOK(errors.Join(errs...))
}

// put stores value under key, which is absent.
func (p *remoteProbe) put(key, value string) {
	p.t.Helper()
	p.wantOK(p.fill(filling(key, p.granted(key), value)))
}

func (p *remoteProbe) wantOK(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("error %v", err)
	}
}

func (p *remoteProbe) wantFenced(err error) {
	p.t.Helper()
	if !errors.Is(err, dewar.ErrFenced) {
		p.t.Fatalf("error %v, want ErrFenced", err)
	}
}

func (p *remoteProbe) wantState(f dewar.Found[string], want dewar.RemoteState) {
	p.t.Helper()
	if f.State != want {
		p.t.Fatalf("state %d (error %v), want %d", f.State, f.Err, want)
	}
}

// wantValue checks that key has the value, and returns what was found.
func (p *remoteProbe) wantValue(key, want string) dewar.Found[string] {
	p.t.Helper()
	f := p.read(key)[0]
	p.wantState(f, dewar.RemoteValue)
	if f.Entry.Value != want {
		p.t.Fatalf("value %.40q, want %.40q", f.Entry.Value, want)
	}
	if f.Fence == (dewar.Fence{}) {
		p.t.Fatalf("a value has the zero Fence")
	}
	return f
}

func (p *remoteProbe) wantAbsent(key string) {
	p.t.Helper()
	p.wantState(p.read(key)[0], dewar.RemoteAbsent)
}

// putNegative remembers that key, which is absent, does not exist.
func (p *remoteProbe) putNegative(key string) {
	p.t.Helper()
	now := dewar.Clock()
	fresh := now + int64(time.Minute)
	p.wantOK(p.fill(dewar.Fill[string]{
		Key: key, Fence: p.granted(key), Entry: dewar.NegativeEntry[string](now, fresh), Dead: fresh,
	}))
}

// operations returns every operation, by name, as a function that returns the
// error of each key.
func (p *remoteProbe) operations(fence dewar.Fence) map[string]func(context.Context, []string) []error {
	ask := func(do func(context.Context, []string, []dewar.Found[string])) func(context.Context, []string) []error {
		return func(ctx context.Context, keys []string) []error {
			found := make([]dewar.Found[string], len(keys))
			do(ctx, keys, found)
			errs := make([]error, len(keys))
			for i, f := range found {
				if errs[i] = f.Err; (f.State == dewar.RemoteFailed) != (f.Err != nil) {
					p.t.Errorf("state %d with error %v", f.State, f.Err)
				}
			}
			return errs
		}
	}
	write := func(do func(context.Context, []dewar.Fill[string])) func(context.Context, []string) []error {
		return func(ctx context.Context, keys []string) []error {
			fills := make([]dewar.Fill[string], len(keys))
			for i, key := range keys {
				fills[i] = filling(key, fence, "w")
			}
			do(ctx, fills)
			errs := make([]error, len(keys))
			for i := range fills {
				errs[i] = fills[i].Err
			}
			return errs
		}
	}
	return map[string]func(context.Context, []string) []error{
		"Read":    ask(p.tier.Read),
		"Lease":   ask(p.tier.Lease),
		"Seize":   ask(p.tier.Seize),
		"Fill":    write(p.tier.Fill),
		"Release": write(p.tier.Release),
		"Renew":   write(p.tier.Renew),

		"LeaseRefresh": ask(p.tier.LeaseRefresh),
		"Announce": func(ctx context.Context, keys []string) []error {
			errs := make([]error, len(keys))
			p.tier.Announce(ctx, dewar.AnnounceInvalidate, keys, make([]dewar.Place, len(keys)), errs)
			return errs
		},
		"NextEpoch": func(ctx context.Context, keys []string) []error {
			return slices.Repeat([]error{p.tier.NextEpoch(ctx)}, len(keys))
		},
		"Unlink": func(ctx context.Context, keys []string) []error {
			errs := make([]error, len(keys))
			p.tier.Unlink(ctx, keys, errs)
			return errs
		},
		"Expire": func(ctx context.Context, keys []string) []error {
			errs := make([]error, len(keys))
			p.tier.Expire(ctx, keys, time.Minute, errs)
			return errs
		},
	}
}

// hostileKeys returns keys that a careless encoding would confuse.
func hostileKeys() []string {
	big := strings.Repeat("x", 1<<20)
	long := strings.Repeat("y", 300)
	return []string{
		"", " ", "\x00", "\n", "\r\n", "a\r\nb", "\xff\xfe", "\xc3\x28", "é", "e\u0301",
		"{", "}", "{}", "{a}", "%", "%7B", "%7Ba%7D", "%25", "%257B", "{a}b", "a{b}",
		":", "a:b", "a::b", "0:a", "*", "?", "[a-z]", "$", "\"", "'", "a b",
		big, big + "z", long, long + "z", long + "{", strings.Repeat("{", 150), strings.Repeat("%7B", 150),
		strings.Repeat("z", 200), strings.Repeat("z", 201), strings.Repeat("{", 66) + "aa",
	}
}
