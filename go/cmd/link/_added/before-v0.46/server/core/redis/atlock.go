package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/runatlantis/atlantis/server/events/models"
)

// unlockIfOwned releases a lock only if this pull request has it, and answers with it.
const unlockIfOwned = `local value = redis.call('GET', KEYS[1])
if not value then return false end
local readable, lock = pcall(cjson.decode, value)
if not readable or type(lock) ~= 'table' then return redis.error_reply('failed to deserialize current lock') end
if type(lock.Pull) ~= 'table' or tonumber(lock.Pull.Num) ~= tonumber(ARGV[1]) then return false end
redis.call('DEL', KEYS[1])
return value`

// UnlockIfOwnedByPull releases a lock only if this pull request has it.
func (r *RedisDB) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	value, err := r.client.Eval(ctx, unlockIfOwned, []string{r.lockKey(project, workspace)}, pullNum).Text()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("db transaction failed: %w", err)
	}
	lock := new(models.ProjectLock)
	if err := json.Unmarshal([]byte(value), lock); err != nil {
		return nil, fmt.Errorf("failed to deserialize current lock: %w", err)
	}
	return lock, nil
}

// Ping tells whether Redis answers.
func (r *RedisDB) Ping() error {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return r.client.Ping(limited).Err()
}
