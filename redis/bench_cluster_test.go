package redistier

import (
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// BenchmarkClusterRead500 compares the tier with what one would write by hand:
// the keys sorted by node, a pipeline of GETs to each node, all at once. Values
// are decoded in both.
func BenchmarkClusterRead500(b *testing.B) {
	cluster := startCluster(b)
	client := cluster.client(b)
	opened, err := Config[video]{Client: client}.OpenRemote(testOptions)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { opened.Close() })
	t := opened.(*tier[video])
	waitFor(b, "the table of slots", func() bool { return t.nodes.table.Load() != nil })
	keys := benchKeys(500)
	byNode := make(map[*redis.Client][]string)
	for i, key := range keys {
		t.put(b, key, aVideo(i))
		enc, err := t.codec.Append(nil, aVideo(i))
		if err != nil {
			b.Fatal(err)
		}
		raw := "raw:" + key
		if err := client.Set(b.Context(), raw, enc, time.Hour).Err(); err != nil {
			b.Fatal(err)
		}
		node, err := client.MasterForKey(b.Context(), raw)
		if err != nil {
			b.Fatal(err)
		}
		byNode[node] = append(byNode[node], raw)
	}
	b.Run("goredis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			for node, raws := range byNode {
				wg.Go(func() { // waited for below
					pipe := node.Pipeline()
					cmds := make([]*redis.StringCmd, len(raws))
					for i, raw := range raws {
						cmds[i] = pipe.Get(b.Context(), raw)
					}
					if _, err := pipe.Exec(b.Context()); err != nil {
						b.Error(err)
					}
					for _, cmd := range cmds {
						if _, err := t.codec.Decode(asBytes(cmd.Val())); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}
	})
	b.Run("tier", func(b *testing.B) {
		b.ReportAllocs()
		found := make([]dewar.Found[video], len(keys))
		for b.Loop() {
			t.Read(b.Context(), keys, found)
			for i := range found {
				if found[i].State != dewar.RemoteValue {
					b.Fatal(found[i])
				}
			}
		}
	})
}
