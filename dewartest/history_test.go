package dewartest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

// past is a history under construction, in which the value is its version.
type past struct {
	*dewartest.History[string, int64]
}

func newPast(*testing.T) past {
	return past{dewartest.NewHistory[string](func(v int64) int64 { return v })}
}

// read is a read that takes no time.
func (p past) read(process string, version int64) { p.Read(process, "k")(version, nil) }

func TestHistoryFindsWhatNoCacheMayAnswer(t *testing.T) {
	const bound = time.Second
	for name, c := range map[string]struct {
		happens func(p past)
		want    []string
	}{
		"reads of what there is": {func(p past) {
			p.Commit("k", 1)
			p.read("a", 1)
			p.Commit("k", 2)
			p.read("a", 1)
			p.Write("a", "k")(nil)
			p.read("a", 2)
			time.Sleep(2 * bound)
			p.read("b", 2)
		}, nil},
		"an own write is not seen": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			p.Write("a", "k")(nil)
			p.read("a", 1)
		}, []string{"key k: a read version 1, 0s after a had written at least 2"}},
		"an own write is pending": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			p.Write("a", "k")(fmt.Errorf("remote: %w", dewar.ErrInvalidationPending))
			p.read("a", 1)
			time.Sleep(2 * bound)
			p.read("b", 1)
		}, []string{"key k: a read version 1, 0s after a had written at least 2"}},
		"an own write has failed": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			p.Write("a", "k")(errors.New("closed"))
			p.read("a", 1)
		}, nil},
		"a read overlaps the write": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			end := p.Write("a", "k")
			answer := p.Read("a", "k")
			end(nil)
			time.Sleep(2 * bound)
			answer(1, nil)
		}, nil},
		"a commit overlaps the write": {func(p past) {
			p.Commit("k", 1)
			end := p.Write("a", "k")
			p.Commit("k", 2)
			end(nil)
			p.read("a", 1)
		}, nil},
		"another process, at its bound and past it": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			p.Write("a", "k")(nil)
			time.Sleep(bound)
			p.read("b", 1)
			time.Sleep(time.Nanosecond)
			p.read("b", 1)
		}, []string{"key k: b read version 1, 1.000000001s after a had written at least 2"}},
		"another key": {func(p past) {
			p.Commit("k", 1)
			p.Commit("l", 7)
			p.Commit("k", 2)
			p.Write("a", "l")(nil)
			p.read("a", 1)
		}, nil},
		"all keys": {func(p past) {
			p.Commit("k", 1)
			p.Commit("k", 2)
			p.WriteAll("a")(nil)
			p.read("a", 1)
		}, []string{"key k: a read version 1, 0s after a had written at least 2"}},
		"an earlier write demands more than a later one": {func(p past) {
			p.Commit("k", 1)
			early := p.Write("a", "k")
			p.Commit("k", 2)
			p.Write("a", "k")(nil)
			early(nil)
			p.read("a", 1)
		}, []string{"key k: a read version 1, 0s after a had written at least 2"}},
		"never committed, and not yet": {func(p past) {
			p.Commit("k", 1)
			p.read("a", 2)
			p.Commit("k", 2)
			p.Commit("l", 3)
			p.read("b", 3)
		}, []string{
			"key k: a read version 2, which was not committed",
			"key k: b read version 3, which was not committed",
		}},
		"committed while it was read": {func(p past) {
			answer := p.Read("a", "k")
			p.Commit("k", 1)
			answer(1, nil)
		}, nil},
		"errors are no answers": {func(p past) {
			p.Commit("k", 1)
			p.Read("a", "k")(0, dewar.ErrNotFound)
		}, nil},
		"a batch": {func(p past) {
			p.Commit("k", 1)
			p.Commit("l", 1)
			p.Commit("k", 2)
			p.Write("a", "k", "l")(nil)
			p.ReadMany("a")(map[string]int64{"k": 1, "l": 1}, errors.New("m failed"))
		}, []string{"key k: a read version 1, 0s after a had written at least 2"}},
		"a version that does not grow": {func(p past) {
			p.Commit("k", 2)
			p.Commit("k", 2)
		}, []string{"key k: version 2 was committed after a version that is not lower"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPast(t)
				c.happens(p)
				for range 2 { // Check changes nothing
					var got []string
					for _, v := range p.Check(bound) {
						got = append(got, v.String())
					}
					if !slices.Equal(got, c.want) {
						t.Errorf("found %q, want %q", got, c.want)
					}
				}
			})
		})
	}
}
