// Package kit is what the packages of this module share: servers of their own
// on loopback, networks that fail, an origin that counts, readers that keep
// record, and caches over all of them.
package kit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewarcache/dewar/internal/freeport"
	"github.com/redis/go-redis/v9"
)

// Server is a redis-server on a port of loopback that it keeps over restarts,
// in a directory of its own. It persists nothing unless it is told to.
type Server struct {
	Addr string
	Host string
	Port string
	Dir  string

	sentinel bool
	args     []string
	cmd      *exec.Cmd // nil: not running
}

// StartServer starts a server with further arguments, such as "--maxmemory",
// "3mb", and stops it with the test.
func StartServer(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return start(tb, false, append([]string{"--save", "", "--appendonly", "no"}, args...))
}

func start(tb testing.TB, sentinel bool, args []string) *Server {
	tb.Helper()
	var err error
	for range 5 { // somebody else may have taken the port meanwhile
		var port string
		if port, err = freeport.Pick(); err != nil {
			break
		}
		s := &Server{Host: "127.0.0.1", Port: port, Dir: tb.TempDir(), sentinel: sentinel, args: args}
		s.Addr = net.JoinHostPort(s.Host, s.Port)
		if err = s.run(); err == nil {
			tb.Cleanup(s.Kill)
			return s
		}
	}
	tb.Fatal(err)
	return nil
}

// run starts the process and waits until it takes commands.
func (s *Server) run() error {
	if err := s.launch(); err != nil {
		return err
	}
	rdb := s.admin()
	defer rdb.Close()
	for range 1000 {
		info, err := rdb.Info(context.Background(), "server").Result()
		if err == nil {
			if strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)) {
				return nil
			}
			break // somebody else's
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Kill()
	return fmt.Errorf("redis-server did not start on %s", s.Addr)
}

func (s *Server) launch() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("these tests need redis-server 7.0 or newer: %w", err)
	}
	args := append([]string{"--bind", s.Host, "--port", s.Port, "--dir", s.Dir}, s.args...)
	if s.sentinel { // writes into its configuration, which must be a file
		config := filepath.Join(s.Dir, "sentinel.conf")
		lines := append([]string{"bind " + s.Host, "port " + s.Port, "dir " + s.Dir}, s.args...)
		if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		args = []string{config, "--sentinel"}
	}
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return nil
}

// Kill ends the process as SIGKILL does, if it runs. What it held is lost
// unless it was saved.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Restart starts a killed server again on the same port, with further
// arguments from now on, and waits until it takes commands.
func (s *Server) Restart(tb testing.TB, args ...string) {
	tb.Helper()
	s.args = append(s.args, args...)
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
}

// Launch is Restart that does not wait.
func (s *Server) Launch(tb testing.TB, args ...string) {
	tb.Helper()
	s.args = append(s.args, args...)
	if err := s.launch(); err != nil {
		tb.Fatal(err)
	}
}

// Pause stops the process without ending it or any connection, until Resume.
func (s *Server) Pause(tb testing.TB) { s.signal(tb, syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume(tb testing.TB) { s.signal(tb, syscall.SIGCONT) }

func (s *Server) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

// Admin returns a client for the tests' own commands, past every proxy.
func (s *Server) Admin(tb testing.TB) *redis.Client {
	rdb := s.admin()
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

func (s *Server) admin() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true})
}

// Do carries out a command that must succeed.
func Do(tb testing.TB, rdb redis.UniversalClient, args ...any) any {
	tb.Helper()
	reply, err := rdb.Do(context.Background(), args...).Result()
	if err != nil && err != redis.Nil {
		tb.Fatal(args, ": ", err)
	}
	return reply
}

// Eventually waits for what others bring about, for as long as it may take on
// any machine.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	Within(tb, 30*time.Second, what, done)
}

// Within waits for what others must bring about in time.
func Within(tb testing.TB, limit time.Duration, what string, done func() bool) {
	tb.Helper()
	for began := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > limit {
			tb.Fatalf("not within %v: %s", limit, what)
		}
	}
}
