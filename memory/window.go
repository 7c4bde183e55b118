package memory

// window is the order in which entries entered the tier: a queue of tickets.
// It does not follow an entry that leaves early; its ticket then is stale and
// is thrown away when it comes up.
type window struct {
	head, tail *chunk // where the oldest ticket is taken from, and a new one put
	length     int    // tickets held, stale ones included
	spare      *chunk // one emptied chunk, against allocating at the border of two
}

// chunkSize makes a chunk about 8 KB.
const chunkSize = 500

type chunk struct {
	next     *chunk
	from, to int // the used part of seats
	seats    [chunkSize]seat
}

// seat is a place in the window. It is taken while the node of that hash still
// has that ticket.
type seat struct {
	hash   uint64
	ticket uint32
}

func (w *window) push(s seat) {
	if w.tail == nil || w.tail.to == chunkSize {
		c := w.spare
		if c == nil {
			c = new(chunk)
		}
		w.spare = nil
		c.next, c.from, c.to = nil, 0, 0
		if w.tail == nil {
			w.head = c
		} else {
			w.tail.next = c
		}
		w.tail = c
	}
	w.tail.seats[w.tail.to] = s
	w.tail.to++
	w.length++
}

func (w *window) pop() (seat, bool) {
	if w.length == 0 {
		return seat{}, false
	}
	c := w.head
	s := c.seats[c.from]
	c.from++
	w.length--
	if c.from == c.to {
		w.spare = c
		w.head = c.next
		if w.head == nil {
			w.tail = nil
		}
	}
	return s, true
}

// ghosts remembers, by a fingerprint of its hash, who was evicted lately and
// from which region: 4 bytes a place, one place or two per entry of capacity.
// A later ghost takes the place of an earlier one.
type ghosts struct {
	places []uint32
	count  [3]int // of the places, by region
}

// The regions, as the low two bits of a place.
const (
	nowhere = iota
	fromWindow
	fromMain
)

func newGhosts(entries int64) ghosts {
	size := int64(64)
	for size < entries {
		size *= 2
	}
	return ghosts{places: make([]uint32, size), count: [3]int{nowhere: int(size)}}
}

func (g *ghosts) place(hash uint64) *uint32 { return &g.places[hash&uint64(len(g.places)-1)] }

func (g *ghosts) add(hash uint64, from uint32) {
	p := g.place(hash)
	g.count[*p&3]--
	g.count[from]++
	*p = tagOf(hash) | from
}

// take forgets the ghost of that hash and returns where it was evicted from.
func (g *ghosts) take(hash uint64) uint32 {
	p := g.place(hash)
	from := *p & 3
	if from == nowhere || *p&^3 != tagOf(hash) {
		return nowhere
	}
	g.count[from]--
	g.count[nowhere]++
	*p = nowhere
	return from
}
