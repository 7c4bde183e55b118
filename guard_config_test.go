package dewar_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
)

// Guard, Breaker, Retry and Origin in a Config.

func TestTheLongestDurationsOfAGuardMeanForEver(t *testing.T) {
	for name, g := range map[string]dewar.Guard{
		"Window":       {Breaker: dewar.Breaker{MinRequests: 3, Window: math.MaxInt64, OpenFor: time.Hour}},
		"OpenFor":      {Breaker: dewar.Breaker{MinRequests: 3, OpenFor: math.MaxInt64}},
		"SlowerThan":   {Breaker: dewar.Breaker{MinRequests: 3, OpenFor: time.Hour, SlowerThan: math.MaxInt64}},
		"QueueTimeout": {QueueTimeout: math.MaxInt64, LoadsPerSecond: 1000, Breaker: dewar.Breaker{MinRequests: 3, OpenFor: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for range 10 { // OpenFor is spread
					o := newOrigin(0)
					cfg := localOnly(o)
					cfg.Guard = g
					c := open(t, cfg)
					if err := preload(c, []string{"preloaded"}); err != nil {
						t.Error(err)
					}
					o.fail(errOrigin)
					mustFail(t, c, "a", errOrigin)
					time.Sleep(time.Second)
					mustFail(t, c, "b", errOrigin)
					time.Sleep(10 * time.Minute)
					mustFail(t, c, "c", dewar.ErrBreakerOpen)
				}
			})
		})
	}
	t.Run("Retry.Pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0)
			cfg := repeating(o)
			cfg.Guard.Retry.Pause = math.MaxInt64
			c := open(t, cfg)
			o.fail(errOrigin)
			for _, k := range keys(10) {
				mustFail(t, c, k, dewar.ErrTimeout) // in the pause
				mustCount(t, o, k, 1)
			}
		})
	})
}
var _ context.Context
var _ = fmt.Sprint
var _ = strings.Fields
