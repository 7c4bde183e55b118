package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// Look at why each key of a batch failed.
func ExampleBatchError() {
	errTimeout := errors.New("shard timed out")
	users, err := dewar.New(dewar.Config[int, string]{
		Name:  "users",
		TTL:   time.Minute,
		Local: memory.Config[string]{MaxEntries: 100_000},
		Load: func(_ context.Context, id int) (string, error) {
			if id%2 == 1 {
				return "", errTimeout
			}
			return fmt.Sprint("user ", id), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer users.Close()

	found, err := users.GetMany(context.Background(), []int{3, 2, 1})
	fmt.Println(found)
	fmt.Println(errors.Is(err, errTimeout))
	if failed, ok := errors.AsType[*dewar.BatchError[int]](err); ok {
		for _, e := range failed.Errs { // in the order of the request
			fmt.Println(e.Key, e.Err)
		}
		fmt.Println(failed.For(2))
	}
	// Output:
	// map[2:user 2]
	// true
	// 3 shard timed out
	// 1 shard timed out
	// <nil>
}
