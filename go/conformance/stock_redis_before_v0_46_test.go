//go:build atlantis_before_v0_46

package conformance

import (
	"net"
	"strconv"

	"github.com/runatlantis/atlantis/server/core/redis"

	"github.com/atlock/atlock/go/internal/release"
)

// openStockRedis opens a server ("host:port"): this release has no clusters.
func openStockRedis(address string) (release.Database, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, err
	}
	return redis.New(host, port, "", false, false, 0)
}
