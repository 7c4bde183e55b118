package dewar_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// Test a fleet of two processes and a failing remote tier without a server.
// Inside testing/synctest.Test the same works on the bubble's clock, so that a
// test of an hour's expiry takes no time.
func Example_testing() {
	server := dewartest.NewRemote[string]()
	chaos := &dewartest.Chaos[string]{Remote: server}
	open := func(process string) *dewar.Cache[string, string] {
		c, err := dewar.New(dewar.Config[string, string]{
			Name:   "videos",
			TTL:    time.Hour,
			Local:  memory.Config[string]{MaxEntries: 100},
			Remote: chaos,
			Load: func(_ context.Context, k string) (string, error) {
				return k + " loaded by " + process, nil
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	a, b := open("a"), open("b")
	defer a.Close()
	defer b.Close()

	ctx := context.Background()
	v, _ := a.Get(ctx, "v1")
	fmt.Println(v)
	a.Wait(ctx) // until a has written it to the server
	v, _ = b.Get(ctx, "v1")
	fmt.Println(v)

	chaos.Down(true)
	v, err := b.Get(ctx, "v2")
	fmt.Println(v, err)
	fmt.Println("written:", server.Len())
	// Output:
	// v1 loaded by a
	// v1 loaded by a
	// v2 loaded by b <nil>
	// written: 1
}
