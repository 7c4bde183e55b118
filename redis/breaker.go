package redistier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// ErrBreakerOpen is what the error of a key is when its node was not asked,
// because it has been failing: the cache goes on without it at no cost.
var ErrBreakerOpen = errors.New("redistier: not asked, the breaker is open")

// When a breaker opens, and for how long. A node that refuses connections is
// found out by five round trips; one that fails every other time, by twenty.
const (
	tripInRow    = 5
	tripOf       = 20
	tripWindow   = 10 * time.Second
	breakerPause = time.Second // +- 20 %, so that a fleet does not come back at once
)

// breaker keeps commands of one sort, reads or writes, from one node while
// that fails. One probe at a time finds out when it is back.
type breaker struct {
	cb      *gobreaker.TwoStepCircuitBreaker[struct{}]
	refusal error

	// What changed is logged by whoever changed it, after the lock of cb is
	// given back: a log handler may be slow, or use this cache.
	untold atomic.Bool
	told   atomic.Bool // the log knows it as open
	log    *slog.Logger
	attrs  []any
}

func newBreaker(log *slog.Logger, name, addr, sort string) *breaker {
	b := &breaker{
		refusal: fmt.Errorf("%w: %s of %s", ErrBreakerOpen, sort, addr),
		log:     log,
		attrs:   []any{"name", name, "node", addr, "commands", sort},
	}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     tripWindow,
		BucketPeriod: tripWindow / 10,
		Timeout:      time.Duration(float64(breakerPause) * (0.8 + 0.4*rand.Float64())),
		ReadyToTrip: func(c gobreaker.Counts) bool {
			of := c.TotalSuccesses + c.TotalFailures
			return c.ConsecutiveFailures >= tripInRow || of >= tripOf && 2*c.TotalFailures >= of
		},
		IsExcluded: func(err error) bool { return err == errUncounted },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to != gobreaker.StateHalfOpen {
				b.untold.Store(true)
			}
		},
	})
	return b
}

// visit is one round trip that a breaker has let through. It must be ended.
type visit struct {
	b    *breaker
	done func(error)
}

// allow returns the right to one round trip, or the error to tell.
func (b *breaker) allow() (visit, error) {
	done, err := b.cb.Allow()
	if err != nil {
		return visit{}, b.refusal
	}
	return visit{b, done}, nil
}

// end says how it went: nil, errUncounted, or what makes it a failure.
func (v visit) end(verdict error) {
	v.done(verdict)
	if v.b.untold.Load() && v.b.untold.CompareAndSwap(true, false) {
		v.b.tell(verdict)
	}
}

func (b *breaker) tell(verdict error) {
	switch open := b.shut(); {
	case open && b.told.CompareAndSwap(false, true):
		b.log.Warn("dewar: a breaker opened; Redis is left alone for a while", append(b.attrs[:len(b.attrs):len(b.attrs)], "error", verdict)...)
	case !open && b.told.CompareAndSwap(true, false):
		b.log.Info("dewar: a breaker closed; Redis is used again", b.attrs...)
	}
}

// shut reports whether the breaker keeps commands back, all but a probe.
func (b *breaker) shut() bool { return b.cb.State() != gobreaker.StateClosed }

// errUncounted is the verdict on a round trip that says nothing of the node.
var errUncounted = errors.New("not counted")

// nodeFailures are the answers of a node that cannot serve for now.
var nodeFailures = []string{
	"LOADING ", "CLUSTERDOWN ", "MASTERDOWN ", "READONLY ",
	"BUSY ", // a script that does not end
	"ERR max number of clients reached",
}

// blame returns what err says of the node: nil, errUncounted, or err when the
// node failed. ctx is the caller's: who leaves early has not seen it fail.
func blame(ctx context.Context, err error) error {
	if err == nil || err == redis.Nil {
		return nil
	}
	if answer, ok := errors.AsType[redis.Error](err); ok {
		text := answer.Error()
		for _, failure := range nodeFailures {
			if strings.HasPrefix(text, failure) {
				return err
			}
		}
		// It answered. A refusal for want of memory or of a right is about the
		// command: others may well be carried out.
		return nil
	}
	if ctx.Err() != nil {
		return errUncounted
	}
	return err
}

// blameAny is blame for the commands of one round trip.
func blameAny(ctx context.Context, cmds []redis.Cmder) error {
	verdict := error(nil)
	for _, cmd := range cmds {
		switch v := blame(ctx, cmd.Err()); v {
		case nil:
		case errUncounted:
			verdict = v
		default:
			return v
		}
	}
	return verdict
}

// isDenied reports whether Redis refused for want of a right.
func isDenied(err error) bool { return redis.IsAuthError(err) || redis.IsPermissionError(err) }
