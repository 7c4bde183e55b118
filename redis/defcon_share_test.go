package redistier

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

func TestLevelSetBeforeSharing(t *testing.T) {
	anna := dewar.Turn{To: dewar.Protect, Who: "anna"}
	for name, c := range map[string]struct {
		fleet dewar.Level // 0: none
		first dewar.Turn
		want  dewar.Level // of both
	}{
		"becomes that of a fleet that has none": {0, anna, dewar.Protect},
		"gives way to the fleet's":              {dewar.Elevated, anna, dewar.Elevated},
		"stays its own if it is the rule's":     {0, dewar.Turn{To: dewar.Protect, Who: "anna", Via: dewar.ViaRule}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *pipeRedis) {
				before := joined(t, r.client(t))
				who := "anna"
				if c.fleet != 0 {
					who = "bert"
					before.by(t, c.fleet, who, "")
					time.Sleep(time.Second)
				}
				d := aDial()
				if err := d.Turn(c.first); err != nil {
					t.Fatal(err)
				}
				d.join(t, DefconConfig{Client: r.client(t)})
				time.Sleep(time.Second)
				if c.want == 0 {
					allAt(t, c.first.To, "anna", d)
					allAt(t, dewar.Normal, "", before)
					return
				}
				allAt(t, c.want, who, before, d)
				late := joined(t, r.client(t))
				allAt(t, c.want, who, late)
				// It counts less than any turn that is made now.
				late.by(t, dewar.Normal, "carl", "")
				time.Sleep(time.Second)
				allAt(t, dewar.Normal, "carl", before, d, late)
			})
		})
	}
}

func TestDialsThatWereSetDifferentlyBeforeSharingAgree(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		var dials []*turnable
		for i := range 3 {
			d := aDial()
			d.Set(dewar.Level(1 + i))
			dials = append(dials, d.join(t, DefconConfig{Client: r.client(t)}))
		}
		time.Sleep(time.Second)
		for i, d := range dials {
			if d.Level() != dials[0].Level() {
				t.Errorf("dial %d is at %v, dial 0 at %v", i, d.Level(), dials[0].Level())
			}
		}
	})
}

func TestSharingIsRefusedWithEveryReason(t *testing.T) {
	err := func(dial *dewar.Defcon, cfg DefconConfig) error {
		fleet, err := SharedDefcon(dial, cfg)
		if fleet != nil {
			fleet.Close()
		}
		return err
	}
	ok := newClient(t, "127.0.0.1:1")
	mute := newClient(t, "127.0.0.1:1", func(o *redis.Options) { o.ContextTimeoutEnabled = false })
	all := err(nil, DefconConfig{Client: mute, Name: "a:b", Prefix: "{p}", Timeout: -1})
	if all == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"dial", "ContextTimeoutEnabled: true", "Name", "Prefix", "Timeout"} {
		if !strings.Contains(all.Error(), want) {
			t.Errorf("%v: does not say %q", all, want)
		}
	}
	if err := err(new(dewar.Defcon), DefconConfig{}); err == nil || !strings.Contains(err.Error(), "Client is required") {
		t.Error(err)
	}
	for name, want := range map[string]bool{
		"": true, "videos-1_x.y": true, strings.Repeat("n", 64): true,
		strings.Repeat("n", 65): false, "a b": false, "a/b": false, "é": false,
	} {
		if err := err(new(dewar.Defcon), DefconConfig{Client: ok, Name: name}); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDialFollowsOneFleetAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		d := joined(t, r.client(t))
		other := DefconConfig{Client: r.client(t), Name: "other"}
		if fleet, err := SharedDefcon(d.Defcon, other); err == nil || fleet != nil {
			t.Error("a second fleet may turn it as well")
		}
		if err := d.fleet.Close(); err != nil {
			t.Error(err)
		}
		d.join(t, other)
		elsewhere := aDial().join(t, other)
		elsewhere.by(t, dewar.Protect, "anna", "")
		time.Sleep(time.Second)
		allAt(t, dewar.Protect, "anna", d)
	})
}

func TestFleetsOfOtherNamesAndPrefixesAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *pipeRedis) {
		client := r.client(t)
		var dials []*turnable
		for _, cfg := range []DefconConfig{{}, {Name: "other"}, {Prefix: "other"}} {
			cfg.Client = client
			dials = append(dials, aDial().join(t, cfg))
		}
		for i, d := range dials {
			d.Set(dewar.Level(1 + i))
		}
		time.Sleep(time.Second)
		for i, d := range dials {
			if d.Level() != dewar.Level(1+i) || len(d.heard()) != 1 {
				t.Errorf("dial %d: %+v", i, d.heard())
			}
		}
		keys := r.Keys()
		if want := []string{"{dewar}:defcon:defcon", "{dewar}:defcon:other", "{other}:defcon:defcon"}; !slices.Equal(keys, want) {
			t.Errorf("keys %q", keys)
		}
		for _, key := range keys {
			if r.TTL(key) != 0 {
				t.Errorf("%s lives for %v", key, r.TTL(key))
			}
		}
	})
}
