package dewar_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

func TestAKeyIsPendingWhileTheInvalidationOfAllIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := setScene(t)
		w.chaos.Down(true)
		_ = w.InvalidateAll(t.Context())
		if in, _ := w.Inspect(t.Context(), "a"); !in.Pending {
			t.Errorf("%+v", in)
		}
		w.chaos.Down(false)
		time.Sleep(5 * time.Second)
		if in, err := w.Inspect(t.Context(), "a"); in.Pending || err != nil {
			t.Errorf("%+v, %v", in, err)
		}
	})
}

func TestAnOperationOnAStringThatIsNoKeysIsRefused(t *testing.T) {
	c, err := dewar.New(dewar.Config[int, string]{
		Name: "numbers", TTL: time.Minute, Local: memory.Config[string]{MaxEntries: 100},
		Load: func(_ context.Context, k int) (string, error) { return strconv.Itoa(k), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, ok := range map[string]bool{"7": true, "-7": true, "007": false, "+7": false, "seven": false, "": false} {
		if err := c.Operate(t.Context(), dewar.OpRefresh, key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}
