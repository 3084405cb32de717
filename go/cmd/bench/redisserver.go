package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisStartLimit = 20 * time.Second
	redisPollEvery  = 10 * time.Millisecond
)

// redisServer is a private redis-server on a free port, without persistence. It dies with this process, however that ends.
type redisServer struct {
	address string
	command *exec.Cmd
	output  bytes.Buffer
	ended   chan struct{}
}

func startRedis(ctx context.Context, folder string) (*redisServer, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	server := &redisServer{
		address: address,
		command: exec.Command("redis-server", "--bind", host, "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"),
		ended:   make(chan struct{}),
	}
	server.command.Stdout, server.command.Stderr = &server.output, &server.output
	server.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.launch(); err != nil {
		return nil, fmt.Errorf("starting redis-server: %w", err)
	}
	if err := server.waitReady(ctx); err != nil {
		server.stop()
		return nil, fmt.Errorf("redis-server does not answer: %w; its output: %s", err, server.output.String())
	}
	return server, nil
}

// launch starts the process. The kernel's parent-death signal follows the thread that started the child, so that thread is
// kept for as long as the child lives.
func (s *redisServer) launch() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.ended)
		err := s.command.Start()
		started <- err
		if err == nil {
			_ = s.command.Wait() // it is ended by stop's signal; how is of no interest
		}
	}()
	return <-started
}

func (s *redisServer) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStartLimit)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.address, MaxRetries: -1})
	defer client.Close()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("it ended at once: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(redisPollEvery):
		}
	}
}

func (s *redisServer) stop() {
	_ = s.command.Process.Kill() // fails only when it has already ended
	<-s.ended
}

// freeAddress asks the kernel for a port that nobody uses at this moment.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// redisVersion is the installed server's, such as "7.0.15".
func redisVersion(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("redis-server is needed, and not on PATH or broken: %w", err)
	}
	for field := range strings.FieldsSeq(string(output)) {
		if version, found := strings.CutPrefix(field, "v="); found {
			return version, nil
		}
	}
	return "", fmt.Errorf("no version in %q", output)
}
