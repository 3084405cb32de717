package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
	"github.com/atlock/atlock/go/internal/githost"
)

// place is what the servers need: a Git host and a Redis.
type place struct {
	work    string
	host    *githost.Host
	address string // Redis's
	redis   *child.Process
}

func newPlace(ctx context.Context, work string) (*place, error) {
	host, err := githost.Start(githost.Options{Address: "127.0.0.1:0", Bot: "atlantis"})
	if err != nil {
		return nil, err
	}
	p := &place{work: work, host: host}
	if err := p.startRedis(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *place) startRedis(ctx context.Context) error {
	port, err := freeport.Take()
	if err != nil {
		return err
	}
	p.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	arguments := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", p.work, "--save", "", "--logfile", "redis.log"}
	if p.redis, err = child.Start(exec.Command("redis-server", arguments...)); err != nil {
		p.redis = nil
		return fmt.Errorf("the program redis-server, version 7 or newer, is needed: %w", err)
	}
	client := redis.NewClient(&redis.Options{Addr: p.address})
	defer client.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = client.Ping(ctx).Err(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// forget empties Redis.
func (p *place) forget(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: p.address})
	defer client.Close()
	return client.FlushAll(ctx).Err()
}

func (p *place) close() error {
	if p.redis != nil {
		p.redis.Stop(syscall.SIGTERM)
	}
	return p.host.Close()
}
