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

// identity says which server answers, and which history it has: an address
// tells neither. The zero identity is not known.
type identity struct {
	run  string // of the process: another after every start
	repl string // of its history of writes: another after a promotion
	heir bool   // the history goes on from another server's, or an earlier start's
}

// id is what the epoch's script remembers; "": not known.
func (n identity) id() string {
	if !n.known() {
		return ""
	}
	sum := sha256.Sum256([]byte(n.run + " " + n.repl))
	return hex.EncodeToString(sum[:8])
}

func (n identity) known() bool { return n.run != "" && n.repl != "" }

func parseIdentity(info string) (n identity) {
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

// identityOf asks the server that has the stream who it is. A server that does not
// tell, because INFO is forbidden, is the zero identity and no error.
func (f *follower) identityOf(ctx context.Context) (identity, error) {
	primary, err := primaryOf(ctx, f.w.client, f.stream)
	if err != nil {
		return identity{}, err
	}
	info, err := primary.Info(ctx, "server", "replication").Result()
	if _, told := errors.AsType[redis.Error](err); told && !passing(err) {
		return identity{}, nil
	}
	return parseIdentity(info), err
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
	serversEvery   = 10 * time.Second       // how often the nodes of a Cluster are asked who they are
	serversAtLeast = 500 * time.Millisecond // how often when they are suspected
)

// suspectServers makes the bus ask the nodes of a Cluster who they are when it
// next comes round, within a second.
func (f *follower) suspectServers() {
	if h := f.hub.Load(); h != nil && !h.suspected.Load() {
		h.suspected.Store(true)
	}
}

// checkServers looks for nodes of a Cluster that are not what they were. The
// stream tells of its own shard only; on the others, deletions may be lost
// with a failover while every announcement survives.
func (h *hub) checkServers(fs []*follower) {
	c, ok := h.client.(cluster)
	since := time.Duration(dewar.Clock() - h.serversAt)
	if !ok || since < serversAtLeast || since < serversEvery && !h.suspected.Load() {
		return
	}
	h.suspected.Store(false)
	h.serversAt = dewar.Clock()
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout(fs))
	defer cancel()
	var mu sync.Mutex // mu guards seen
	seen := make(map[string]identity)
	// A node that does not answer is the one it was until it does.
	_ = c.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error {
		info, err := client.Info(ctx, "server", "replication").Result()
		if n := parseIdentity(info); err == nil && n.known() {
			mu.Lock()
			defer mu.Unlock()
			seen[client.Options().Addr] = n
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	first := h.servers == nil
	if first {
		h.servers = make(map[string]identity)
	}
	for addr, now := range seen {
		if !first && replaced(h.servers[addr], now) {
			for _, f := range fs {
				if err := f.moveForLoss(ctx, now); err != nil {
					h.suspected.Store(true)
					return // this node and those not looked at yet stay as they were
				}
			}
		}
		h.servers[addr] = now
	}
	h.looked.Add(1)
}

// replaced reports whether what a node holds may be older than what its
// address, known as was, had answered. A node that joins empty has nothing
// old; one that merely has no replicas any more begins a new history by itself.
func replaced(was, now identity) bool {
	switch {
	case was == (identity{}):
		return now.heir
	case was.run != now.run:
		return true
	}
	return was.repl != now.repl && now.heir
}
