package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
)

const (
	redisStartLimit = 20 * time.Second
	redisPollEvery  = 10 * time.Millisecond
)

// redisServer is a private Redis on a free port, which keeps its data over a kill.
type redisServer struct {
	address string
	folder  string
	process *child.Process
}

func startRedis(ctx context.Context, folder string) (*redisServer, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	port, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	r := &redisServer{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), folder: folder}
	return r, r.start(ctx)
}

// command is the command line that starts this Redis.
func (r *redisServer) command() []string {
	host, port, _ := net.SplitHostPort(r.address)
	return []string{"redis-server", "--bind", host, "--port", port, "--dir", r.folder, "--save", "", "--appendonly", "yes",
		"--logfile", filepath.Join(r.folder, "redis.log")}
}

// start starts it, for the first time or again, and returns once it answers.
func (r *redisServer) start(ctx context.Context) error {
	if r.process != nil && !r.process.Exited() {
		return errors.New("Redis is running already")
	}
	command := r.command()
	var err error
	if r.process, err = child.Start(exec.Command(command[0], command[1:]...)); err != nil {
		r.process = nil
		return fmt.Errorf("hybrid mode needs the program redis-server, version 7 or newer (Debian: apt-get install redis-server): %w", err)
	}
	client := redis.NewClient(&redis.Options{Addr: r.address, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisStartLimit)
	defer cancel()
	for client.Ping(ctx).Err() != nil {
		select {
		case <-r.process.Done():
			return fmt.Errorf("redis-server ended at once; its log is %s", filepath.Join(r.folder, "redis.log"))
		case <-ctx.Done():
			return fmt.Errorf("Redis at %s does not answer: %w", r.address, ctx.Err())
		case <-time.After(redisPollEvery):
		}
	}
	return nil
}

func (r *redisServer) pid() int { return r.process.PID() }

// kill ends it as a crash would.
func (r *redisServer) kill() { r.process.Stop(syscall.SIGKILL) }

// stop ends it in good order, if it runs.
func (r *redisServer) stop() {
	if r.process != nil {
		r.process.Stop(syscall.SIGTERM)
	}
}

// shell is the command line for a shell.
func (r *redisServer) shell() string {
	words := r.command()
	for i, word := range words {
		if word == "" || strings.ContainsAny(word, " '\"$\\") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
