package latency

import (
	"testing"
	"time"
)

func TestPercentilesAreExactToThreePercent(t *testing.T) {
	var h Histogram
	for i := range 100_000 {
		h.Add(time.Duration(i+1) * time.Microsecond)
	}
	for _, p := range []float64{0.00001, 0.5, 0.99, 0.999, 1} {
		want := p * 100_000
		got := float64(h.Percentile(p)) / float64(time.Microsecond)
		if got < want || got > want*1.04 {
			t.Errorf("p%v is %v, want %v", 100*p, got, want)
		}
	}
	for d := time.Duration(1); d > 0; d = d*3 + 1 {
		if end := bucketEnd(bucketOf(d)); end < d || float64(end) > float64(d)*1.04 {
			t.Errorf("%v is in a bucket that ends at %v", d, end)
		}
	}
}
