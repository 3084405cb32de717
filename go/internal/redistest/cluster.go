package redistest

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// clusterNodes is the smallest number that redis-cli accepts for a cluster.
	clusterNodes = 3
	clusterLimit = 30 * time.Second
)

// Cluster is a Redis Cluster of three masters without replicas.
type Cluster struct {
	Nodes []*Server
	// Addrs are the nodes' addresses, in the order of Nodes.
	Addrs []string
}

// StartCluster runs a cluster until the test ends. It returns when every node
// says that all slots are served.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	requireExecutable(t, "redis-cli")

	c := &Cluster{}
	for range clusterNodes {
		// The bus port defaults to the port plus 10000, which the kernel's free
		// ports can push beyond 65535, so it gets a free port of its own.
		node := Start(t, Options{Args: []string{
			"--cluster-enabled", "yes",
			"--cluster-node-timeout", "2000",
			"--cluster-port", strconv.Itoa(freePort(t)),
		}})
		c.Nodes = append(c.Nodes, node)
		c.Addrs = append(c.Addrs, node.Addr)
	}

	args := append([]string{"--cluster", "create"}, c.Addrs...)
	args = append(args, "--cluster-yes")
	ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "redis-cli", args...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	c.waitReady(t, ctx)
	return c
}

// Client returns a client of the whole cluster, closed when the test ends.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (c *Cluster) waitReady(t testing.TB, ctx context.Context) {
	t.Helper()
	for _, node := range c.Nodes {
		client := node.Client(t)
		for {
			info, err := client.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("cluster not ready within %v: node %s: %v\n%s", clusterLimit, node.Addr, err, info)
			}
			time.Sleep(pollEvery)
		}
	}
}
