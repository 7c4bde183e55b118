package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// One dial turns all caches that hold it, from their next read on.
func ExampleDefcon() {
	var dial dewar.Defcon // at Normal; package defconhttp turns it over HTTP
	titles, err := dewar.New(dewar.Config[string, string]{
		Name: "titles", TTL: time.Minute, Stale: dewar.Stale{IfError: time.Hour},
		Defcon: &dial,
		Local:  memory.Config[string]{},
		Load:   func(_ context.Context, id string) (string, error) { return "The title of " + id, nil },
	})
	if err != nil {
		panic(err)
	}
	defer titles.Close()
	ctx := context.Background()
	_, _ = titles.Get(ctx, "id-1")

	_ = dial.Turn(dewar.Turn{To: dewar.Lockdown, Who: "anna", Why: "the catalogue's database moves"})
	fmt.Println(titles.Get(ctx, "id-1"))
	_, err = titles.Get(ctx, "id-2")
	fmt.Println(errors.Is(err, dewar.ErrDefcon), "at", dial.Level())

	dial.Set(dewar.Normal)
	fmt.Println(titles.Get(ctx, "id-2"))
	// Output:
	// The title of id-1 <nil>
	// true at lockdown
	// The title of id-2 <nil>
}
