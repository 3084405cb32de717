// Package freeport finds ports for servers that are started, stopped and started again on the same port.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
)

const (
	lowest = 10000
	// Linux's default, used where its setting cannot be read.
	defaultHighest = 32767
	attempts       = 1000
)

var (
	mu    sync.Mutex
	taken = map[int]bool{}
)

// Take returns a port of 127.0.0.1 that nobody listens on, and that it never returns again in this process.
//
// A port that the kernel chooses (port 0) is of the range that it also takes outgoing connections' ports from. While a server
// on such a port is stopped, any connection may get it, and the server cannot start again. So this one is from below.
func Take() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	for range attempts {
		port := lowest + rand.IntN(highest()-lowest+1) // #nosec G404 -- nothing secret
		if taken[port] || Check(port) != nil {
			continue
		}
		taken[port] = true
		return port, nil
	}
	return 0, errors.New("there is no free port below those of outgoing connections; stop some servers")
}

// Check fails when somebody listens on the port, on any address.
func Check(port int) error {
	// A program that this process is about to start has a copy of our listener until it runs, which would keep the port taken for
	// a moment after Check. So none is started meanwhile.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return listener.Close()
}

// The first time that it deals with a process, package os forks without that lock, to see what the kernel can do (checkPidfd). So
// that is done before any Check.
func init() {
	if process, err := os.FindProcess(os.Getpid()); err == nil {
		_ = process.Release()
	}
}

// highest is the highest port below those of outgoing connections.
func highest() int {
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return defaultHighest
	}
	var low int
	if _, err := fmt.Sscan(string(content), &low); err != nil || low <= lowest {
		return defaultHighest
	}
	return low - 1
}
