package pace

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsSlowDoesNotDelayWhatComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		begun := make([]time.Duration, 10)
		Steadily(t.Context(), time.Second, len(begun), func(i int) func(time.Time) {
			return func(at time.Time) {
				begun[i] = at.Sub(began)
				time.Sleep(time.Minute)
			}
		})
		for i, got := range begun {
			if want := time.Duration(i) * 100 * time.Millisecond; got != want {
				t.Errorf("%d began after %v, want %v", i, got, want)
			}
		}
		if took := time.Since(began); took != time.Minute+900*time.Millisecond {
			t.Errorf("took %v: it did not wait for the last", took)
		}
	})
}

func TestNothingBeginsOnceTheContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		n := 0
		Steadily(ctx, time.Second, 10, func(int) func(time.Time) {
			n++ // prepared before its time has come: the last one never begins
			return func(time.Time) {}
		})
		if n != 4 {
			t.Errorf("%d were prepared", n)
		}
	})
}
