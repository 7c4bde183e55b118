package redistier

import (
	"context"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/redis/go-redis/v9"
)

// cluster is what the client of a Cluster offers besides. It is asked for by
// its methods, so that a struct around one is one as well.
type cluster interface {
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	ForEachMaster(ctx context.Context, do func(ctx context.Context, primary *redis.Client) error) error
}

// primaryOf returns a client of the node that answers for key.
func primaryOf(ctx context.Context, client redis.UniversalClient, key string) (redis.Cmdable, error) {
	c, ok := client.(cluster)
	if !ok {
		return client, nil
	}
	primary, err := c.MasterForKey(ctx, key)
	if err != nil {
		return nil, err
	}
	return primary, nil
}

// node is one server that answers for keys, and the breakers before it.
type node struct{ reads, writes *breaker }

// nodes says which node answers for which key.
//
// go-redis knows as well, and carries commands to the right one whatever is
// thought here. The knowledge of our own is for breakers, and so that keys of
// a node that fails fail alone: go-redis marks every command of a pipeline as
// failed, also those that were answered, when one node of several keeps it
// waiting for too long.
type nodes struct {
	client redis.UniversalClient
	log    *slog.Logger
	name   string
	back   *background
	single bool  // there is no table
	only   *node // answers for every key, until the table is known

	table   atomic.Pointer[slotTable] // nil: not a Cluster, or not known
	looking atomic.Bool               // somebody asks for the table
	looked  atomic.Int64              // when somebody last asked, on dewar.Clock

	mu     sync.Mutex // mu guards byAddr
	byAddr map[string]*node
}

// slotTable holds the ranges of slots, in order.
type slotTable []slotRange

type slotRange struct {
	start, end int // both inside
	node       *node
}

const (
	lookAtMost = time.Second      // between two looks at the table of slots
	lookAgain  = 60 * time.Second // when all is well
)

func newNodes(w *wire, back *background) *nodes {
	ns := &nodes{client: w.client, log: w.log, name: w.name, back: back, single: w.single, byAddr: make(map[string]*node)}
	addr := "Redis"
	if c, ok := w.client.(interface{ Options() *redis.Options }); ok {
		addr = c.Options().Addr
	}
	ns.only = ns.node(addr)
	return ns
}

func (ns *nodes) node(addr string) *node {
	return &node{
		reads:  newBreaker(ns.log, ns.name, addr, "reads"),
		writes: newBreaker(ns.log, ns.name, addr, "writes"),
	}
}

// of returns the node that answers for dk.
func (ns *nodes) of(dk string) *node {
	if table := ns.table.Load(); table != nil {
		return table.of(slotOf(dk), ns.only)
	}
	return ns.only
}

// of returns the node of slot, or rest while nobody serves it.
func (t slotTable) of(slot int, rest *node) *node {
	i := sort.Search(len(t), func(i int) bool { return t[i].end >= slot })
	if i == len(t) || t[i].start > slot {
		return rest
	}
	return t[i].node
}

// open counts the breakers that keep commands back.
func (ns *nodes) open() (n int) {
	count := func(node *node) {
		if node.reads.shut() {
			n++
		}
		if node.writes.shut() {
			n++
		}
	}
	count(ns.only)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, node := range ns.byAddr {
		count(node)
	}
	return n
}

// lookSoon asks for the table of slots in the background, unless that was
// asked less than atMost ago.
func (ns *nodes) lookSoon(atMost time.Duration) {
	if ns.single {
		return
	}
	if now, last := dewar.Clock(), ns.looked.Load(); last != 0 && now-last < int64(atMost) {
		return
	}
	if !ns.looking.CompareAndSwap(false, true) {
		return
	}
	started := ns.back.start(func(ctx context.Context) {
		defer ns.looking.Store(false)
		ns.look(ctx)
	})
	if !started {
		ns.looking.Store(false)
	}
}

// look asks for the table of slots. When nobody answers the old one stays.
func (ns *nodes) look(ctx context.Context) {
	ns.looked.Store(max(1, dewar.Clock()))
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	slots, err := ns.client.ClusterSlots(ctx).Result()
	if err != nil || len(slots) == 0 {
		return
	}
	ns.adopt(slots)
}

// adopt makes slots the table. Nodes that are in it keep their breakers.
func (ns *nodes) adopt(slots []redis.ClusterSlot) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	byAddr := make(map[string]*node)
	table := make(slotTable, 0, len(slots))
	for _, s := range slots {
		if len(s.Nodes) == 0 {
			continue
		}
		addr := s.Nodes[0].Addr // the primary comes first
		n := byAddr[addr]
		if n == nil {
			if n = ns.byAddr[addr]; n == nil {
				n = ns.node(addr)
			}
			byAddr[addr] = n
		}
		table = append(table, slotRange{s.Start, s.End, n})
	}
	sort.Slice(table, func(i, j int) bool { return table[i].end < table[j].end })
	ns.byAddr = byAddr
	ns.table.Store(&table)
}

// slots is the number of hash slots of a Cluster.
const slots = 16384

// slotOf returns the hash slot of a Redis key: that of what stands between
// its first braces, if anything does.
func slotOf(dk string) int {
	if open := strings.IndexByte(dk, '{'); open >= 0 {
		if size := strings.IndexByte(dk[open+1:], '}'); size > 0 {
			dk = dk[open+1 : open+1+size]
		}
	}
	var crc uint16
	for i := range len(dk) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^dk[i]]
	}
	return int(crc % slots)
}

// crc16 is the table of CRC-16/XMODEM, polynomial 0x1021, which Redis Cluster
// is specified with.
var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
