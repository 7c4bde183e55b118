package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/chaos/kit"
	redistier "github.com/dewarcache/dewar/redis"
	"github.com/redis/go-redis/v9"
)

// memberEnv makes this binary run as a member; its value is a memberOptions.
const memberEnv = "DEWAR_FLEET_MEMBER"

type memberOptions struct {
	options
	Origin string // URL
}

func TestMain(m *testing.M) {
	kit.SilenceClients()
	if o := os.Getenv(memberEnv); o != "" {
		if err := runMember(o); err != nil {
			fmt.Fprintln(os.Stderr, "member:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// request and response are a line each, on the standard input and output of a
// member. Answers come in any order.
type request struct {
	ID      int
	Op      string
	Keys    []string             `json:",omitempty"`
	Values  map[string]kit.Value `json:",omitempty"`
	Callers int                  `json:",omitempty"`
	Every   time.Duration        `json:",omitempty"`
	For     time.Duration        `json:",omitempty"`
}

type response struct {
	ID     int
	Values map[string]kit.Value `json:",omitempty"`
	Count  int                  `json:",omitempty"`
	Err    string               `json:",omitempty"`
	Kinds  []string             `json:",omitempty"` // which of wireErrors Err is
}

// wireErrors are the errors that keep what they are on their way.
var wireErrors = map[string]error{
	"pending":    dewar.ErrInvalidationPending,
	"not cached": dewar.ErrNotCached,
}

// runMember is all that a member does: it opens a cache, says so, and carries
// out what it is asked until there is nothing more to read.
func runMember(env string) error {
	var o memberOptions
	if err := json.Unmarshal([]byte(env), &o); err != nil {
		return err
	}
	client := redis.NewUniversalClient(redistier.Harden(&redis.UniversalOptions{Addrs: []string{o.Redis}}))
	defer client.Close()
	c, err := open(o.options, client, httpLoader(o.Origin))
	if err != nil {
		return err
	}
	m := &memberSide{here: here{c}, out: json.NewEncoder(os.Stdout)}
	m.answer(response{})
	in := json.NewDecoder(os.Stdin)
	for {
		var r request
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		m.wg.Go(func() { m.answer(m.carryOut(r)) }) // waited for below
	}
	m.wg.Wait()
	return c.Close()
}

// httpLoader asks an origin in another process.
func httpLoader(origin string) func(context.Context, string) (kit.Value, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	return func(ctx context.Context, key string) (v kit.Value, err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"?key="+url.QueryEscape(key), nil)
		if err != nil {
			return v, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return v, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return v, fmt.Errorf("the origin answers %s", resp.Status)
		}
		return v, json.NewDecoder(resp.Body).Decode(&v)
	}
}

// memberSide is a member as it sees itself.
type memberSide struct {
	here
	wg  sync.WaitGroup
	mu  sync.Mutex // mu guards out
	out *json.Encoder
}

func (m *memberSide) answer(r response) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.out.Encode(r)
}

func (m *memberSide) carryOut(r request) response {
	resp := response{ID: r.ID}
	var err error
	one := func(v kit.Value, failed error) {
		if err = failed; err == nil {
			resp.Values = map[string]kit.Value{r.Keys[0]: v}
		}
	}
	switch r.Op {
	case "get":
		one(m.get(r.Keys[0]))
	case "getMany":
		resp.Values, err = m.getMany(r.Keys)
	case "held":
		one(m.held(r.Keys[0]))
	case "invalidate":
		err = m.invalidate(r.Keys...)
	case "invalidateAll":
		err = m.invalidateAll()
	case "set":
		err = m.set(r.Values)
	case "herd":
		resp.Count, err = m.herd(r.Keys[0], r.Callers)
	case "steady":
		resp.Count, err = m.steady(r.Keys, r.Every, r.For)
	default:
		err = fmt.Errorf("no such operation: %q", r.Op)
	}
	if err != nil {
		resp.Err = err.Error()
		for kind, is := range wireErrors {
			if errors.Is(err, is) {
				resp.Kinds = append(resp.Kinds, kind)
			}
		}
	}
	return resp
}

// herd reads key from so many goroutines at once, and returns how many got it.
func (m *memberSide) herd(key string, callers int) (int, error) {
	var wg sync.WaitGroup
	var right atomic.Int64
	errs := make([]error, callers)
	begin := make(chan struct{})
	for i := range callers {
		wg.Go(func() { // waited for below
			<-begin
			v, err := m.get(key)
			if err == nil && v.Key == key {
				right.Add(1)
			}
			errs[i] = err
		})
	}
	close(begin)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return int(right.Load()), err
		}
	}
	return int(right.Load()), nil
}

// steady reads each of keys over and over, and returns how many reads that were.
func (m *memberSide) steady(keys []string, every, dur time.Duration) (n int, err error) {
	for began := time.Now(); time.Since(began) < dur; time.Sleep(every) {
		for _, key := range keys {
			if _, err := m.get(key); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// member is a process of the operating system, as its parent sees it.
type member struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	read chan struct{} // closed when it says no more

	mu      sync.Mutex // mu guards these
	enc     *json.Encoder
	next    int
	waiting map[int]chan response
	gone    bool
}

var errGone = errors.New("the member is gone")

// startMember starts a process and waits until its cache is open. It ends with
// the test.
func startMember(tb testing.TB, o options, originURL string) *member {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	env, err := json.Marshal(memberOptions{o, originURL})
	if err != nil {
		tb.Fatal(err)
	}
	m := &member{cmd: exec.Command(self), read: make(chan struct{}), waiting: make(map[int]chan response)}
	m.cmd.Env = append(os.Environ(), memberEnv+"="+string(env))
	m.cmd.Stderr = os.Stderr
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	m.enc = json.NewEncoder(m.in)
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	ready := make(chan response, 1)
	m.waiting[0], m.next = ready, 1
	if err := m.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go m.listen(out) // waited for by kill and the Cleanup
	tb.Cleanup(func() { m.end(tb) })
	select {
	case <-ready:
	case <-time.After(patience):
		tb.Fatal("the member does not start")
	}
	return m
}

func startMembers(tb testing.TB, n int, o options, originURL string) []*member {
	tb.Helper()
	var ms []*member
	for range n {
		ms = append(ms, startMember(tb, o, originURL))
	}
	return ms
}

func (m *member) listen(out io.Reader) {
	defer close(m.read)
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var r response
		if err := dec.Decode(&r); err != nil {
			break
		}
		m.mu.Lock()
		answer := m.waiting[r.ID]
		delete(m.waiting, r.ID)
		m.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	for _, answer := range m.waiting {
		close(answer)
	}
	m.waiting = nil
}

// ask begins what the response ends. The channel is closed if the member ends
// before.
func (m *member) ask(r request) <-chan response {
	answer := make(chan response, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		close(answer)
		return answer
	}
	r.ID, m.next = m.next, m.next+1
	m.waiting[r.ID] = answer
	_ = m.enc.Encode(r) // a member that is gone is found by listen
	return answer
}

// call is ask that waits.
func (m *member) call(r request) (response, error) {
	resp, ok := <-m.ask(r)
	if !ok {
		return resp, errGone
	}
	return resp, resp.err()
}

func (r response) err() error {
	if r.Err == "" {
		return nil
	}
	errs := []any{r.Err}
	format := "%s"
	for _, kind := range r.Kinds {
		format += " (%w)"
		errs = append(errs, wireErrors[kind])
	}
	return fmt.Errorf(format, errs...)
}

func (m *member) get(key string) (kit.Value, error) {
	r, err := m.call(request{Op: "get", Keys: []string{key}})
	return r.Values[key], err
}

func (m *member) getMany(keys []string) (map[string]kit.Value, error) {
	r, err := m.call(request{Op: "getMany", Keys: keys})
	return r.Values, err
}

func (m *member) held(key string) (kit.Value, error) {
	r, err := m.call(request{Op: "held", Keys: []string{key}})
	return r.Values[key], err
}

func (m *member) invalidate(keys ...string) error {
	_, err := m.call(request{Op: "invalidate", Keys: keys})
	return err
}

func (m *member) invalidateAll() error {
	_, err := m.call(request{Op: "invalidateAll"})
	return err
}

func (m *member) set(vs map[string]kit.Value) error {
	_, err := m.call(request{Op: "set", Values: vs})
	return err
}

// stop pauses the process, as one is paused whose machine does not get to it.
func (m *member) stop(tb testing.TB) { m.signal(tb, syscall.SIGSTOP) }

// resume ends a stop.
func (m *member) resume(tb testing.TB) { m.signal(tb, syscall.SIGCONT) }

func (m *member) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

// kill ends the process without letting it do anything.
func (m *member) kill(tb testing.TB) {
	m.signal(tb, syscall.SIGKILL)
	<-m.read
}

// end lets the process close its cache, and waits for it.
func (m *member) end(tb testing.TB) {
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
	_ = m.in.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = m.cmd.Process.Kill() })
	<-m.read
	err := m.cmd.Wait()
	if !late.Stop() {
		tb.Errorf("a member did not end: %v", err)
	}
}
