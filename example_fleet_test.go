package dewar_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// Two processes share a remote tier. One changes a title and invalidates it;
// the other forgets its local copy as soon as it hears of that. Here both are
// in one program and the remote tier is one for tests; in production it is
// redistier.Config.
func Example_fleet() {
	title := atomic.Pointer[string]{}
	before, after := "The title", "A better title"
	title.Store(&before)
	fleet := dewartest.NewRemote[string]()
	open := func() *dewar.Cache[string, string] {
		titles, err := dewar.New(dewar.Config[string, string]{
			Name: "titles", TTL: time.Hour,
			Local:  memory.Config[string]{MaxEntries: 1000},
			Remote: fleet,
			Load:   func(context.Context, string) (string, error) { return *title.Load(), nil },
		})
		if err != nil {
			panic(err)
		}
		return titles
	}
	one, other := open(), open()
	defer one.Close()
	defer other.Close()
	ctx := context.Background()
	fmt.Println(other.Get(ctx, "id-1"))

	title.Store(&after) // committed
	fmt.Println(one.Invalidate(ctx, "id-1"))
	fmt.Println(one.Get(ctx, "id-1"))
	for {
		if v, err := other.Get(ctx, "id-1"); v != before {
			fmt.Println(v, err)
			break
		}
		time.Sleep(time.Millisecond) // it hears of it within a moment
	}
	// Output:
	// The title <nil>
	// <nil>
	// A better title <nil>
	// A better title <nil>
}
