// Package privateredis runs a Redis of a program's own, without persistence unless asked for: for the demonstration and the
// benchmarks. Tests have package redistest, which also does TLS, passwords and faults.
package privateredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
)

const (
	startLimit = 20 * time.Second
	pollEvery  = 10 * time.Millisecond
)

// Server is a redis-server on a free port of 127.0.0.1. It dies with this process, however that ends.
type Server struct {
	// Address is where it listens, also after it was started again.
	Address string

	folder    string
	arguments []string
	process   *child.Process
}

// Start starts a server whose files are in the folder, with further arguments, and returns once it answers.
func Start(ctx context.Context, folder string, arguments ...string) (*Server, error) {
	// The server changes into it before it opens its log.
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	port, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	s := &Server{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), folder: folder, arguments: arguments}
	if err := s.Restart(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Command is the command line that starts it.
func (s *Server) Command() []string {
	host, port, _ := net.SplitHostPort(s.Address)
	return slices.Concat(
		[]string{"redis-server", "--bind", host, "--port", port, "--dir", s.folder, "--save", "", "--logfile", s.log()}, s.arguments)
}

func (s *Server) log() string { return filepath.Join(s.folder, "redis.log") }

// Restart starts it again after Kill or Stop, and returns once it answers.
func (s *Server) Restart(ctx context.Context) error {
	if s.Running() {
		return errors.New("Redis is running already")
	}
	command := s.Command()
	var err error
	if s.process, err = child.Start(exec.Command(command[0], command[1:]...)); err != nil {
		s.process = nil
		return fmt.Errorf("the program redis-server, version 7 or newer, is needed (Debian: apt-get install redis-server): %w", err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.Address, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("redis-server ended at once; its log is %s", s.log())
		case <-ctx.Done():
			return fmt.Errorf("Redis at %s does not answer: %w", s.Address, err)
		case <-time.After(pollEvery):
		}
	}
}

// Running says whether it was started and has not ended since.
func (s *Server) Running() bool { return s.process != nil && !s.process.Exited() }

// PID is its process id.
func (s *Server) PID() int { return s.process.PID() }

// Kill ends it as a crash would.
func (s *Server) Kill() { s.process.Stop(syscall.SIGKILL) }

// Stop ends it in good order, if it runs.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Stop(syscall.SIGTERM)
	}
}
