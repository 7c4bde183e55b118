package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
)

// told is a system that only hears of changes.
type told struct {
	system
	err []error // of each change; nil when there are none left
}

func (s *told) changed(context.Context, []string) (err error) {
	if len(s.err) > 0 {
		err, s.err = s.err[0], s.err[1:]
	}
	return err
}

func TestOldTitlesAreCountedFromWhenTheNextEditionIsOut(t *testing.T) {
	const deaf = 2
	p := newPress([]string{"a", "b"}, newOrigin([]string{"a", "b"}), deaf+1)
	early := time.Now().Add(-time.Hour)
	p.publish(t.Context(), &told{}, false) // 2
	second := time.Now()
	p.publish(t.Context(), &told{}, true) // 3
	third := time.Now()
	p.back = third.Add(time.Minute)

	for process := range deaf + 1 {
		p.proofread(process, early, []int64{1, 1})                   // nothing was out
		p.proofread(process, second, []int64{2, 2})                  // as new as can be
		p.proofread(process, third.Add(2*time.Minute), []int64{3})   // likewise
		p.proofread(process, third.Add(2*time.Minute), []int64(nil)) // no titles
	}
	if p.OwnOld+p.OthersOld+p.DeafOld+p.BackOld != 0 {
		t.Errorf("old though they were not: %+v", p.pressResult)
	}
	p.proofread(0, third.Add(time.Second), []int64{2, 3, 2})
	p.proofread(1, third.Add(3*time.Second), []int64{2})
	p.proofread(deaf, third, []int64{1}) // could have heard of the second
	p.proofread(deaf, third.Add(time.Second), []int64{2, 2, 2})
	p.proofread(deaf, third.Add(time.Minute+5*time.Second), []int64{2})
	got := p.pressResult
	if got.OwnOld != 2 || got.OthersOld != 2 || got.DeafOld != 3 || got.BackOld != 1 {
		t.Errorf("counted %+v", got)
	}
	if got.OwnLast < 1000 || got.OthersLast < 3000 || got.BackLast != 5000 {
		t.Errorf("last ones %+v", got)
	}
}

func TestAnEditionThatIsPendingIsOutElsewhereWhenConfirmed(t *testing.T) {
	p := newPress([]string{"a"}, newOrigin([]string{"a"}), 2)
	pending := fmt.Errorf("x: %w", dewar.ErrInvalidationPending)
	before := time.Now()
	p.publish(t.Context(), &told{err: []error{pending, pending}}, false)
	if out := p.out[0]; !out.here.After(before) || !out.everywhere.After(out.here) {
		t.Errorf("out here at %v, everywhere at %v", out.here, out.everywhere)
	}
	if p.Pending != 1 || p.Failed != "" {
		t.Errorf("result %+v", p.pressResult)
	}
	p.publish(t.Context(), &told{err: []error{errors.New("no")}}, false)
	if p.Failed != "no" || p.Editions != 2 {
		t.Errorf("result %+v", p.pressResult)
	}
}
