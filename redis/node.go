package redistier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// node says which server answers, and which history it has. The zero node is
// not known.
type node struct {
	run  string // of the process: another after every start
	repl string // of its history of writes: another after a promotion
	heir bool   // the history goes on from another server's, or an earlier start's
}

// id is what the epoch's script remembers; "": not known.
func (n node) id() string {
	if !n.known() {
		return ""
	}
	sum := sha256.Sum256([]byte(n.run + " " + n.repl))
	return hex.EncodeToString(sum[:8])
}

func (n node) known() bool { return n.run != "" && n.repl != "" }

func parseNode(info string) (n node) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "run_id":
			n.run = value
		case "master_replid":
			n.repl = value
		case "master_replid2":
			n.heir = strings.Trim(value, "0") != ""
		}
	}
	return n
}

// nodeOf asks the server that has the stream who it is. A server that does not
// tell, because INFO is forbidden, is the zero node and no error.
func (f *follower) nodeOf(ctx context.Context) (node, error) {
	var client redis.Cmdable = f.w.client
	if c, ok := f.w.client.(interface {
		MasterForKey(context.Context, string) (*redis.Client, error)
	}); ok {
		master, err := c.MasterForKey(ctx, f.stream)
		if err != nil {
			return node{}, err
		}
		client = master
	}
	info, err := client.Info(ctx, "server", "replication").Result()
	if _, told := errors.AsType[redis.Error](err); told && !passing(err) {
		return node{}, nil
	}
	return parseNode(info), err
}

// passing reports whether Redis refused err's command for now, not for good.
func passing(err error) bool {
	for _, prefix := range []string{"LOADING", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

const (
	nodesEvery   = 10 * time.Second       // how often the nodes of a Cluster are asked who they are
	nodesAtLeast = 500 * time.Millisecond // how often when they are suspected
)

// suspectNodes makes the bus ask the nodes of a Cluster who they are when it
// next comes round, within a second.
func (f *follower) suspectNodes() {
	if h := f.hub.Load(); h != nil && !h.suspected.Load() {
		h.suspected.Store(true)
	}
}

// checkNodes looks for nodes of a Cluster that are not what they were. The
// stream tells of its own shard only; on the others, deletions may be lost
// with a failover while every announcement survives.
func (h *hub) checkNodes(fs []*follower) {
	c, ok := h.client.(interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	})
	since := time.Duration(dewar.Clock() - h.nodesAt)
	if !ok || since < nodesAtLeast || since < nodesEvery && !h.suspected.Load() {
		return
	}
	h.suspected.Store(false)
	h.nodesAt = dewar.Clock()
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	var mu sync.Mutex // mu guards seen
	seen := make(map[string]node)
	// A node that does not answer is the one it was until it does.
	_ = c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
		info, err := client.Info(ctx, "server", "replication").Result()
		if n := parseNode(info); err == nil && n.known() {
			mu.Lock()
			defer mu.Unlock()
			seen[client.Options().Addr] = n
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	first := h.nodes == nil
	if first {
		h.nodes = make(map[string]node)
	}
	for addr, now := range seen {
		if !first && replaced(h.nodes[addr], now) {
			for _, f := range fs {
				if err := f.moveForLoss(ctx, now); err != nil {
					h.suspected.Store(true)
					return // this node and those not looked at yet stay as they were
				}
			}
		}
		h.nodes[addr] = now
	}
	h.looked.Add(1)
}

// replaced reports whether what a node holds may be older than what its
// address, known as was, had answered. A node that joins empty has nothing
// old; one that merely has no replicas any more begins a new history by itself.
func replaced(was, now node) bool {
	switch {
	case was == (node{}):
		return now.heir
	case was.run != now.run:
		return true
	}
	return was.repl != now.repl && now.heir
}
