//go:build atlantis_before_v0_46

package main

import (
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/redis"
)

// openRedis opens Atlantis's own Redis code as Atlantis does.
func openRedis(user server.UserConfig) (*redis.RedisDB, error) {
	return redis.New(user.RedisHost, user.RedisPort, user.RedisPassword, user.RedisTLSEnabled, user.RedisInsecureSkipVerify, user.RedisDB)
}

// redisUsername and redisClusterAddresses are flags that this release does not have.
func redisUsername(server.UserConfig) string { return "" }

func redisClusterAddresses(server.UserConfig) string { return "" }
