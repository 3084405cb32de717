package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/dev/internal/githost"
	"github.com/atlock/atlock/go/dev/internal/privateredis"
)

// place is what the servers need: a Git host and a Redis.
type place struct {
	work  string
	host  *githost.Host
	redis *privateredis.Server
}

func newPlace(ctx context.Context, work string) (*place, error) {
	host, err := githost.Start(githost.Options{Address: "127.0.0.1:0", Bot: "atlantis"})
	if err != nil {
		return nil, err
	}
	redis, err := privateredis.Start(ctx, filepath.Join(work, "redis"))
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return &place{work: work, host: host, redis: redis}, nil
}

// forget empties Redis.
func (p *place) forget(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: p.redis.Address})
	defer client.Close()
	return client.FlushAll(ctx).Err()
}

func (p *place) close() error {
	p.redis.Stop()
	return p.host.Close()
}
