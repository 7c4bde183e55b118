// Package dewarstatsd pushes what caches do to a StatsD agent over UDP, every
// ten seconds or so.
//
//	pusher, err := dewarstatsd.Start(dewarstatsd.Config{Addr: "localhost:8125"}, videos, ads)
//	defer pusher.Close()
//
// Names are those of docs/METRICS.md. What only grows is pushed as the count
// since the last push, what goes up and down as a gauge, and of each histogram
// the count and the 50th, 95th and 99th percentile of what came since the last
// push. Labels become tags in DogStatsD's form, or, with Config.Plain, parts of
// the name. A key is never told.
//
// It goes through github.com/DataDog/datadog-go, the one StatsD client for Go
// that is still released; without tags what it sends is plain StatsD. An agent
// that is not there disturbs nobody.
package dewarstatsd
