package dewar

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// This file is for the operator's tools, such as the console: they know keys
// as the tiers do, as strings.

// Name returns Config.Name.
func (c *Cache[K, V]) Name() string { return c.cfg.Name }

// Dial returns Config.Defcon, or the dial that the cache has made itself.
func (c *Cache[K, V]) Dial() *Defcon { return c.dialled.dial }

// LogKey is a key, given as the tiers know it, as log lines have it: see
// Config.LogKeys.
func (c *Cache[K, V]) LogKey(key string) string { return c.cfg.LogKeys.of(key) }

// Inspection is what a cache knows of a key.
type Inspection struct {
	Key    string // as the tiers know it
	Local  *EntryInfo
	Remote *EntryInfo // nil also where there is no remote tier
	Source Source     // who brought Local, where Config.Track has noted it

	RemoteState string // "absent", "value", "leased" (being loaded), "foreign", "failed"; "" without a remote tier

	Loading  bool          // a flight is under way
	Pinned   bool          // KeepWarm
	Due      bool          // waiting in the bucket, or being refreshed from it
	Pending  bool          // a write of the key, or of all keys, is not confirmed by the remote tier
	Resting  time.Duration // for how long the origin is not asked, since it failed
	RestsFor error         // how it failed
}

// EntryInfo tells of an entry of a tier.
type EntryInfo struct {
	Age      string        // "fresh", "due" (local tier only), "stale" or "dead"
	Negative bool          // the origin has no such key
	Loaded   time.Time     // when the load that produced it began
	Due      time.Time     // from here on a read makes it due; local tier only, zero for negative entries
	Fresh    time.Time     // fresh before
	Dead     time.Time     // of no use from here on
	Took     time.Duration // its load took; remote tier only
	Size     int64         // local: its cost; remote: its bytes. 0 where the tier does not tell
}

// sizer is a tier that knows how large an entry is.
type sizer[V any] interface {
	CostOf(key string, e *Entry[V]) int64
}

// remoteSizer is a remote tier that knows how many bytes are under a key.
type remoteSizer interface {
	SizeOf(ctx context.Context, key string) (int64, error)
}

// Inspect tells what is known of a key, given as the tiers know it (Config.Key,
// or the string or integer itself). It reads both tiers and changes nothing.
// The error is ErrClosed, or the remote tier's: what else is known is told all
// the same.
func (c *Cache[K, V]) Inspect(ctx context.Context, key string) (Inspection, error) {
	in := Inspection{Key: key, Pinned: c.pins.has(key), Due: c.bucket.has(key)}
	if c.closed.Load() {
		return in, ErrClosed
	}
	now := Clock()
	if e := c.local.Get(key); e != nil {
		in.Local = c.entryInfo(e, now)
		if t, ok := c.local.(sizer[V]); ok {
			in.Local.Size = t.CostOf(key, e)
		}
	}
	c.table.inspect(key, now, &in)
	if c.track != nil && in.Local != nil {
		in.Source = c.track.sourceOf(key)
	}
	if c.remote == nil {
		return in, nil
	}
	found := make([]Found[V], 1)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Flight.Timeout)
	defer cancel()
	c.remote.Read(ctx, []string{key}, found)
	in.RemoteState = found[0].State.String()
	if found[0].State != RemoteValue {
		return in, found[0].Err
	}
	in.Remote = c.entryInfo(&found[0].Entry, Clock())
	in.Remote.Due, in.Remote.Took = time.Time{}, found[0].Took // each process is to find it due at a time of its own
	if t, ok := c.remote.(remoteSizer); ok {
		in.Remote.Size, _ = t.SizeOf(ctx, key) // it may be gone by now
	}
	return in, nil
}

func (c *Cache[K, V]) entryInfo(e *Entry[V], now int64) *EntryInfo {
	wall := time.Now()
	at := func(t int64) time.Time { return wall.Add(time.Duration(t - now)) }
	info := &EntryInfo{
		Negative: e.Negative(), Loaded: at(e.Loaded), Fresh: at(e.Fresh), Dead: at(deadAt(&c.rules, e)),
	}
	if !info.Negative {
		info.Due = at(e.Due)
	}
	switch {
	case dead(&c.rules, e, now):
		info.Age = "dead"
	case now >= e.Fresh:
		info.Age = "stale"
	case now >= e.Due && !info.Negative: // never a remote one: its Due is its Fresh
		info.Age = "due"
	default:
		info.Age = "fresh"
	}
	return info
}

// inspect tells what the table knows of a key.
func (t *table[K, V]) inspect(key string, now int64, in *Inspection) {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[key]
	in.Loading = f != nil && !f.settled
	in.Pending = t.markedLocked(s, key)
	if fail := s.failing[key]; fail.until > now {
		in.Resting, in.RestsFor = time.Duration(fail.until-now), fail.err
	}
}

// Operation is what an operator may do to a key.
type Operation string

const (
	OpInvalidate Operation = "invalidate"
	OpExpire     Operation = "expire"
	OpRefresh    Operation = "refresh"
	OpKeepWarm   Operation = "pin"
	OpLetGo      Operation = "unpin"
)

// ErrNoKey: an operation needs the key itself, and the string is no key's, or
// there is no Config.ParseKey to make a key of it.
var ErrNoKey = errors.New("dewar: no key can be made of this string")

// Operate does to a key, given as the tiers know it, what the method of that
// name does. The errors are that method's, ErrClosed, and ErrNoKey.
func (c *Cache[K, V]) Operate(ctx context.Context, op Operation, key string) error {
	if c.closed.Load() {
		return ErrClosed // KeepWarm and LetGo have no error to say so
	}
	k, err := c.keys.parse(key, c.cfg.ParseKey)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoKey, err)
	case c.keys.str(k) != key: // "007": it would be done to "7"
		return fmt.Errorf("%w: %.80q is not how the tiers know one", ErrNoKey, key)
	}
	switch op {
	case OpInvalidate:
		return c.Invalidate(ctx, k)
	case OpExpire:
		return c.Expire(ctx, k)
	case OpRefresh:
		return c.Refresh(ctx, k)
	case OpKeepWarm:
		c.KeepWarm(k)
	case OpLetGo:
		c.LetGo(k)
	default:
		return fmt.Errorf("dewar: %q is no operation", string(op))
	}
	return nil
}
