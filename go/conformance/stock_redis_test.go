//go:build !atlantis_before_v0_46

package conformance

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/redis"

	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/internal/release"
)

// On a cluster, stock's List and UnlockByPull miss most locks, so the behaviours
// that are checked by listing are left out.
func TestStockRedisCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	subject := Subject{
		Name:         "redis-cluster",
		NewStore:     newRedisStore(cluster.Client(t), stockRedisOpener, openStockRedis, strings.Join(cluster.Addrs, ",")),
		Capabilities: Persistent | RawBytes | ManyProcesses,
		Defects:      []Defect{ScanSeesOneNode, TryLockRace, CommandLockRace},
	}
	runAll(t, subject, slices.Concat(
		slices.DeleteFunc(listBehaviours(), func(b behaviour) bool { return b.guards != ScanSeesOneNode }),
		tryLockBehaviours(),
		commandBehaviours(),
		pullBehaviours(),
		processBehaviours(),
	))
}

// openStockRedis opens a server ("host:port") or a cluster (several, with commas).
func openStockRedis(address string) (release.Database, error) {
	config, err := redisConfig(address)
	if err != nil {
		return nil, err
	}
	return redis.NewWithConfig(config)
}

func redisConfig(address string) (redis.Config, error) {
	if strings.Contains(address, ",") {
		return redis.Config{ClusterAddresses: strings.Split(address, ",")}, nil
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return redis.Config{}, err
	}
	port, err := strconv.Atoi(portText)
	return redis.Config{Hostname: host, Port: port}, err
}
