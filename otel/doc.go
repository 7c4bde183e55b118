// Package dewarotel tells OpenTelemetry what caches do.
//
//	cfg.Trace = dewarotel.Trace(tracerProvider) // spans; dewar.JoinTraces adds hooks of your own
//
//	registration, err := dewarotel.Observe(meterProvider, videos, ads)   // counters and gauges
//	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(
//		dewarotel.Histograms(videos, ads))) // histograms
//
// A call of the origin is a span, dewar.load, a child of the span of the reader
// who caused it and linked to those of the readers who waited for it. A read
// that the hit path did not answer is an event, dewar.read, of the reader's own
// span. Metrics have the names of docs/METRICS.md in OpenTelemetry's form:
// dewar_gets_total is dewar.gets, dewar_load_seconds is dewar.load.duration.
// Keys are counted and never named.
//
// There are no observable histograms, and counting again what is counted
// already would cost every load. So histograms come from a metric.Producer,
// which gives the SDK the exact buckets, as exponential histograms of scale 2.
// They are cumulative, whatever temporality the reader has: what a Producer
// gives is not converted. For a backend that takes only deltas, the collector's
// cumulativetodelta processor does it.
//
// A cache in two registrations is counted twice: Unregister the first before
// Observe gets a longer list. Origins are told apart by name.
package dewarotel
