package redistier_test

import (
	"fmt"

	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// A client with the options that a cache in front of an origin wants. What is
// set already and does no harm stays.
func ExampleHarden() {
	opt := redistier.Harden(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}, PoolSize: 20})
	rdb := redis.NewUniversalClient(opt)
	defer rdb.Close()
	fmt.Println(opt.ContextTimeoutEnabled, opt.PoolSize)
	fmt.Println(redistier.Config[string]{Client: rdb}.Validate())
	// Output:
	// true 20
	// <nil>
}
