//go:build !atlantis_before_v0_46

package main

import (
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/redis"
)

// openRedis opens Atlantis's own Redis code as Atlantis does.
func openRedis(user server.UserConfig) (*redis.RedisDB, error) {
	return redis.NewWithConfig(redis.Config{
		Hostname:           user.RedisHost,
		Port:               user.RedisPort,
		Password:           user.RedisPassword,
		Username:           user.RedisUsername,
		TLSEnabled:         user.RedisTLSEnabled,
		InsecureSkipVerify: user.RedisInsecureSkipVerify,
		DB:                 user.RedisDB,
		ClusterAddresses:   clusterAddresses(user),
	})
}

// redisUsername and redisClusterAddresses are flags that older releases do not have.
func redisUsername(user server.UserConfig) string { return user.RedisUsername }

func redisClusterAddresses(user server.UserConfig) string { return user.RedisClusterAddresses }
