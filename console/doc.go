// Package console serves a live page of what caches do, in the manner of
// net/http/pprof:
//
//	http.Handle("/debug/dewar/", console.Handler(videos, users))
//
// The page shows, for each cache, graphs of its reads, of what answered them,
// of the origin's calls and errors, of latency, of how old stale answers are,
// of the bucket, and of what waits to be written, and the state of its breaker,
// bus and dial. It finds a key in the tiers, and lists the keys that are read
// most and served stale for longest where Config.Track lets it. It loads
// nothing from elsewhere, and runs under a strict Content-Security-Policy.
//
// # Who may see it
//
// Keys are personal data, and the handler authenticates nobody: it must stand
// behind the owner's own authentication. A port that only operators reach is
// not enough by itself, since any page that an operator opens may reach it from
// there (DNS rebinding): have the server check the request's Host as well. It
// never shows values.
//
// It is read-only, unless it is built with [Actions]: then the page has buttons
// that invalidate, expire, refresh and pin a key, and that turn the dial.
//
// # Mounting
//
// All paths are relative, so it works below any prefix, whether or not that is
// stripped. The paths below it:
//
//	api/caches               the caches, their counters since New, and their gauges
//	api/inspect?cache=&key=  what is known of a key
//	api/keys?cache=          the hottest and the oldest stale keys
//	api/events               the live part, as server-sent events
//	api/token, api/action    with Actions only
//
// A key that is not valid UTF-8 is given as key64 in place of key, in URL-safe
// base64 without padding, and told that way as well. One of more than 4 KiB is
// told by how it begins, and cannot be asked for.
//
// # What it costs
//
// Nothing while nobody looks. While somebody does, one goroutine takes Stats of
// every cache once a second for all who look, and keeps the last five minutes,
// a few hundred bytes a second and cache. At most 64 streams are served at
// once. Server.Shutdown ends them. A cache whose own tier does not tell its
// Stats within half a second is shown as one that does not answer.
package console
