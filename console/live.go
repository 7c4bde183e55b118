package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/dewarcache/dewar"
)

const (
	// sampleEvery is how often the caches are looked at while somebody listens.
	sampleEvery = time.Second

	// kept is how many samples a page that opens is given: five minutes.
	kept = 300

	// maxListeners bounds the streams that are served at once.
	maxListeners = 64

	// backlog is how many events a listener may be behind before it is dropped:
	// what comes while a slow connection takes in the samples of the past.
	backlog = 60
)

// live looks at the caches while somebody listens, and tells all who do.
type live struct {
	caches []*cache
	dials  []*dewar.Defcon
	every  time.Duration

	mu        sync.Mutex // mu guards all below
	listeners map[*listener]struct{}
	servers   map[*http.Server]bool // whose shutdown ends their listeners; true: it has begun
	stop      chan struct{}         // ends the goroutine that looks; nil: there is none
	past      []past                // the last samples, the oldest first
	turned    []byte                // the event of the dials as last told
}

// past is a sample that was told.
type past struct {
	at   time.Time
	json []byte
}

// listener is one stream.
type listener struct {
	server *http.Server // nil: not known
	events chan []byte  // closed when it is dropped, after dropped is written
	why    error        // why it was
}

var (
	errCrowded  = errors.New("64 pages are watching already: close one")
	errSlow     = errors.New("this listener is too slow")
	errShutdown = errors.New("the server is shutting down")
)

func newLive(caches []*cache, dials []*dewar.Defcon) *live {
	return &live{
		caches: caches, dials: dials, every: sampleEvery,
		listeners: make(map[*listener]struct{}), servers: make(map[*http.Server]bool),
	}
}

// know asks a server to tell of its shutdown. It must not have begun, so this is
// done at the first request of any sort.
func (l *live) know(server *http.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.servers[server]; !known && server != nil {
		l.servers[server] = false
		server.RegisterOnShutdown(func() { l.shutdown(server) })
	}
}

// join begins to tell a listener, who must leave, and returns the samples of
// the past: those that it is told come right after them.
func (l *live) join(server *http.Server) (*listener, [][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.listeners) >= maxListeners {
		return nil, nil, errCrowded
	}
	if l.servers[server] {
		return nil, nil, errShutdown
	}
	one := &listener{server: server, events: make(chan []byte, backlog)}
	l.listeners[one] = struct{}{}
	if l.stop == nil {
		l.forgetLocked(time.Now())
		l.stop = make(chan struct{})
		go l.run(l.stop) // ends soon after the last listener has left; nobody need wait for it
	}
	history := make([][]byte, len(l.past))
	for i := range l.past {
		history[i] = l.past[i].json
	}
	return one, history, nil
}

func (l *live) leave(one *listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked(one, nil)
}

func (l *live) dropLocked(one *listener, why error) {
	if _, there := l.listeners[one]; !there {
		return
	}
	delete(l.listeners, one)
	one.why = why
	close(one.events)
	if len(l.listeners) == 0 {
		close(l.stop)
		l.stop = nil
	}
}

// shutdown drops the listeners of a server: Server.Shutdown would wait for them.
func (l *live) shutdown(server *http.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers[server] = true
	for one := range l.listeners {
		if one.server == server {
			l.dropLocked(one, errShutdown)
		}
	}
}

// run looks at the caches until stop is closed.
func (l *live) run(stop chan struct{}) {
	ticker := time.NewTicker(l.every)
	defer ticker.Stop()
	before, at := lookAt(l.caches), time.Now()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if time.Since(at) < l.every/2 {
			continue // the last look was slow, and this tick has waited for its end
		}
		after, now := lookAt(l.caches), time.Now()
		s := sample{At: now.UnixMilli(), Caches: make([]cacheSample, len(after))}
		for i := range after {
			s.Caches[i] = between(&before[i], &after[i], now.Sub(at))
			if s.Caches[i].Problem != "" {
				s.Caches[i].Level = int(l.caches[i].Dial().Level())
			}
		}
		before, at = after, now
		l.tell(stop, now, &s)
	}
}

// tell tells all listeners of a sample, and of the dials where they were turned.
// One who does not keep up is dropped: it is not to hold up the others, nor to
// pile up memory.
func (l *live) tell(stop chan struct{}, now time.Time, s *sample) {
	told := asJSON(s)
	events := [][]byte{event("sample", told)}
	turned := event("dials", asJSON(dialStates(l.dials)))

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != stop {
		return // the last listener has left meanwhile, and perhaps another has come
	}
	l.past = append(l.past, past{now, told})
	l.forgetLocked(now)
	if !bytes.Equal(turned, l.turned) {
		l.turned = turned
		events = append(events, turned)
	}
	for one := range l.listeners {
		for _, e := range events {
			select {
			case one.events <- e:
			default:
				l.dropLocked(one, errSlow)
			}
			if one.why != nil {
				break
			}
		}
	}
}

// forgetLocked lets go of samples that no graph shows any more.
func (l *live) forgetLocked(now time.Time) {
	old := max(0, len(l.past)-kept)
	for old < len(l.past) && now.Sub(l.past[old].at) > kept*l.every {
		old++
	}
	clear(l.past[:old])
	l.past = l.past[old:]
}

// event frames JSON, which has no line breaks, as a server-sent event.
func event(name string, data []byte) []byte {
	return bytes.Join([][]byte{[]byte("event: "), []byte(name), []byte("\ndata: "), data, []byte("\n\n")}, nil)
}

// asJSON is for what is made here and always can be encoded.
func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
