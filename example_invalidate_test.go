package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// Change the origin first, then invalidate: whoever reads after Invalidate has
// returned sees the change. ErrInvalidationPending is no failure of the
// request: this process is done, and the deletion of the remote copy is
// repeated until the remote tier confirms it.
func ExampleCache_Invalidate() {
	database := map[string]string{"u1": "Ada"}
	names, err := dewar.New(dewar.Config[string, string]{
		Name:   "names",
		TTL:    time.Minute,
		Local:  memory.Config[string]{MaxEntries: 100_000},
		Remote: dewartest.NewRemote[string](), // redistier.Config[string]{Client: rdb}
		Load:   func(_ context.Context, id string) (string, error) { return database[id], nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer names.Close()

	rename := func(ctx context.Context, id, name string) error {
		database[id] = name // and commit
		err := names.Invalidate(ctx, id)
		if errors.Is(err, dewar.ErrInvalidationPending) {
			return nil
		}
		return err
	}

	ctx := context.Background()
	name, _ := names.Get(ctx, "u1")
	fmt.Println(name)
	if err := rename(ctx, "u1", "Grace"); err != nil {
		log.Fatal(err)
	}
	name, _ = names.Get(ctx, "u1")
	fmt.Println(name)
	// Output:
	// Ada
	// Grace
}
