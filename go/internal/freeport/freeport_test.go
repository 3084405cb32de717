package freeport

import (
	"net"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
)

func TestTake(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, err := Take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d came twice", port)
		}
		seen[port] = true
		if port < lowest || port > highest() {
			t.Fatalf("port %d is not in %d to %d", port, lowest, highest())
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
	}
}

// A program that is being started must not keep a port that was only looked at.
func TestCheckLeavesThePortFree(t *testing.T) {
	port, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	started := make(chan int)
	go func() {
		n := 0
		for ; !done.Load(); n++ {
			if err := exec.Command("true").Run(); err != nil {
				t.Error(err)
				break
			}
		}
		started <- n
	}()
	for range 20_000 {
		if err := Check(port); err != nil {
			t.Error(err)
			break
		}
	}
	done.Store(true)
	if n := <-started; n < 10 {
		t.Fatalf("only %d programs were started meanwhile", n)
	}
}
