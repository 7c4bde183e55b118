package dewarotel

import (
	"context"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of the instrumentation.
const scope = "github.com/dewarcache/dewar/otel"

// Trace returns hooks that make spans of loads and events of reads, for
// Config.Trace. A failed load is told by the type of its error: the text may
// name keys.
func Trace(provider trace.TracerProvider) *dewar.Trace {
	tracer := provider.Tracer(scope)
	return &dewar.Trace{
		Load: func(ctx context.Context, info dewar.LoadInfo) (context.Context, func(dewar.LoadInfo)) {
			ctx, span := tracer.Start(ctx, "dewar.load", trace.WithAttributes(
				attribute.String("dewar.cache.name", info.Cache),
				attribute.String("dewar.origin.name", info.Origin),
				attribute.String("dewar.tier", dewar.TierOrigin),
				attribute.Int("dewar.keys", info.Keys),
				attribute.Bool("dewar.background", info.Background),
				attribute.Bool("dewar.repeated", info.Repeated),
			))
			return ctx, func(info dewar.LoadInfo) {
				for _, waiter := range info.Waiters {
					if c := trace.SpanContextFromContext(waiter); c.IsValid() {
						span.AddLink(trace.Link{SpanContext: c})
					}
				}
				outcome := "loaded"
				if info.Err != nil {
					outcome = "error"
					span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", info.Err)))
					span.SetStatus(codes.Error, "")
				}
				span.SetAttributes(attribute.String("dewar.outcome", outcome), attribute.Int("dewar.waiters", len(info.Waiters)))
				span.End()
			}
		},
		ReadDone: func(ctx context.Context, info dewar.ReadInfo) {
			span := trace.SpanFromContext(ctx)
			if !span.IsRecording() {
				return
			}
			attributes := []attribute.KeyValue{
				attribute.String("dewar.cache.name", info.Cache),
				attribute.Int("dewar.keys", info.Keys),
				seconds("dewar.age", info.OldestAge), seconds("dewar.duration", info.Took),
			}
			for _, count := range []struct {
				name string
				n    int
			}{
				{"dewar.keys.hit", info.Hits},
				{"dewar.keys.loaded", info.Loaded},
				{"dewar.keys.stale", info.Stale},
				{"dewar.keys.negative", info.Negative},
				{"dewar.keys.failed", info.Failed},
				{"dewar.keys.remote", info.Remote},
				{"dewar.keys.collapsed", info.Collapsed},
			} {
				if count.n > 0 {
					attributes = append(attributes, attribute.Int(count.name, count.n))
				}
			}
			span.AddEvent("dewar.read", trace.WithAttributes(attributes...))
		},
	}
}

func seconds(name string, d time.Duration) attribute.KeyValue {
	return attribute.Float64(name, d.Seconds())
}
