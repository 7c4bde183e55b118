package redistier_test

import (
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/dewarcache/dewar"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// Two processes share a dial. Somebody turns it in the one, and the other
// follows within a second. Here both are in one program.
func ExampleSharedDefcon() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	defer rdb.Close()
	share := func() (*dewar.Defcon, *redistier.FleetDefcon) {
		dial := new(dewar.Defcon) // dewar.Config.Defcon of the process's caches
		fleet, err := redistier.SharedDefcon(dial, redistier.DefconConfig{Client: rdb})
		if err != nil {
			panic(err)
		}
		return dial, fleet
	}
	one, fleetOfOne := share()
	defer fleetOfOne.Close()
	other, fleetOfOther := share()
	defer fleetOfOther.Close()

	err = one.Turn(dewar.Turn{To: dewar.Degraded, Who: "anna", Why: "ad break"})
	fmt.Println(one.Level(), err)
	for other.Level() != dewar.Degraded {
		time.Sleep(10 * time.Millisecond)
	}
	turn := other.LastTurn()
	fmt.Printf("%v, by %s: %s (via %s)\n", turn.To, turn.Who, turn.Why, turn.Via)
	// Output:
	// degraded <nil>
	// degraded, by anna: ad break (via fleet)
}
