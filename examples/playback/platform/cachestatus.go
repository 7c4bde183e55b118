package platform

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// cacheStatus is the Cache-Status of an answer (RFC 9211): a member for each
// cache that was asked. A member has hit or fwd, never both:
//
//	dewar-metadata; hit; ttl=12                          no load was waited for
//	dewar-streams; hit; ttl=-7; detail=breaker-open      stale, and nobody was asked
//	dewar-ads; fwd=miss; fwd-status=200; ttl=4; stored   nothing was there
//	dewar-artwork; fwd=partial; fwd-status=200; ...      something was: an answer is about many keys
//	dewar-streams; fwd=stale; fwd-status=503; ttl=-3     the load failed, what is stale stands in
//
// With several keys ttl is the least of theirs. key is told when there is one.
func cacheStatus(readings []reading) string {
	members := make([]string, len(readings))
	for i, r := range readings {
		members[i] = r.member()
	}
	return strings.Join(members, ", ")
}

// bypassed is the Cache-Status of an answer that the legacy service has given.
func bypassed(status int) string {
	return fmt.Sprintf("dewar; fwd=bypass; fwd-status=%d; detail=old-path", status)
}

func (r *reading) member() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dewar-%s", r.cache)
	got := r.got()
	switch {
	case r.forwarded:
		fmt.Fprintf(&b, "; fwd=%s", r.forwardedFor())
		if status := r.forwardStatus(); status != 0 {
			fmt.Fprintf(&b, "; fwd-status=%d", status)
		}
	case got > 0:
		b.WriteString("; hit")
	} // else nothing was there, and nobody was let through to ask
	if got > 0 {
		fmt.Fprintf(&b, "; ttl=%d", wholeSeconds(r.ttl))
	}
	if r.loaded > 0 {
		b.WriteString("; stored")
		if r.collapsed {
			b.WriteString("; collapsed")
		}
	}
	if r.key != "" {
		fmt.Fprintf(&b, "; key=%q", r.key) // of letters that need no escape
	}
	if r.detail != "" {
		fmt.Fprintf(&b, "; detail=%s", r.detail)
	}
	return b.String()
}

// forwardedFor is why a load was waited for.
func (r *reading) forwardedFor() string {
	switch {
	case r.loaded+r.failed == 0:
		return "stale"
	case r.hits+r.stale == 0:
		return "miss"
	}
	return "partial"
}

// forwardStatus is what the service answered, where it did.
func (r *reading) forwardStatus() int {
	if r.loaded > 0 {
		return cmp.Or(r.status, http.StatusOK)
	}
	return r.status
}

// wholeSeconds rounds towards the older: what is stale is at least a second so.
func wholeSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// age is the Age of an answer: that of the oldest value in it, or "" when there
// is none.
func age(readings []reading) string {
	var oldest time.Duration
	got := 0
	for _, r := range readings {
		oldest = max(oldest, r.oldest)
		got += r.got()
	}
	if got == 0 {
		return ""
	}
	return strconv.FormatInt(int64(oldest/time.Second), 10)
}

// got is how many keys were answered.
func (r *reading) got() int { return r.hits + r.stale + r.loaded }
