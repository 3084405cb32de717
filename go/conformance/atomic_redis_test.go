//go:build !atlantis_before_v0_46

package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/runatlantis/atlantis/server/core/redis"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// atomicRedis is stock Redis with locks that are taken in one step. It proves
// that the races can be won: stock alone only ever loses them.
type atomicRedis struct {
	*redis.RedisDB
	client *goredis.Client
}

const atomicRedisOpener = "atomic-redis"

func init() { openers[atomicRedisOpener] = openAtomicRedis }

func openAtomicRedis(address string) (release.Database, error) {
	config, err := redisConfig(address)
	if err != nil {
		return nil, err
	}
	stock, err := redis.NewWithConfig(config)
	if err != nil {
		return nil, err
	}
	return atomicRedis{stock, goredis.NewClient(&goredis.Options{Addr: address})}, nil
}

func (r atomicRedis) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	var current models.ProjectLock
	holder, err := r.setIfFree(redisKey(Locks, keyOf(lock)), lock)
	if err != nil {
		return false, current, err
	}
	if holder == nil {
		return true, lock, nil
	}
	return false, current, json.Unmarshal(holder, &current)
}

func (r atomicRedis) LockCommand(name command.Name, at time.Time) (*command.Lock, error) {
	lock := commandLock(name, at)
	holder, err := r.setIfFree(redisKey(Commands, name.String()), lock)
	if err == nil && holder != nil {
		err = errors.New(alreadyLockedText)
	}
	if err != nil {
		return nil, err
	}
	return &lock, nil
}

// setIfFree sets a key that has no value, or returns the value that it has.
func (r atomicRedis) setIfFree(key string, value any) (holder []byte, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	// SET with NX and GET returns the old value, or nil if there was none and the new one is set.
	old, err := r.client.SetArgs(context.Background(), key, text, goredis.SetArgs{Mode: "NX", Get: true}).Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("set if free: %w", err)
	}
	return []byte(old), nil
}

func (r atomicRedis) Close() error { return errors.Join(r.RedisDB.Close(), r.client.Close()) }

func TestAtomicRedisWinsItsRaces(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	subject := Subject{
		Name:         "atomic-redis",
		NewStore:     newRedisStore(server.Client(t), atomicRedisOpener, openAtomicRedis, server.Addr),
		Capabilities: Persistent | ManyProcesses,
	}
	settings := readSettings(t)
	for _, b := range behaviours() {
		if b.guards == TryLockRace || b.guards == CommandLockRace {
			t.Run(b.name, func(t *testing.T) { b.run(t, subject, settings) })
		}
	}
}
