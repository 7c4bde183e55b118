package dewar_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Remember for a while that a key does not exist, so that requests for it do
// not reach the database. NotFound says which of the loader's errors mean that.
func ExampleCache_Get_notFound() {
	users, err := dewar.New(dewar.Config[int64, string]{
		Name:        "users",
		TTL:         time.Minute,
		NegativeTTL: 10 * time.Second,
		NotFound:    func(err error) bool { return errors.Is(err, sql.ErrNoRows) },
		Local:       memory.Config[string]{MaxEntries: 100_000},
		Load: func(_ context.Context, id int64) (string, error) {
			fmt.Println("asked the database for", id)
			return "", fmt.Errorf("user %d: %w", id, sql.ErrNoRows)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer users.Close()

	ctx := context.Background()
	for range 3 {
		_, err := users.Get(ctx, 42)
		fmt.Println(errors.Is(err, dewar.ErrNotFound))
	}
	// Output:
	// asked the database for 42
	// true
	// true
	// true
}
