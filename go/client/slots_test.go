package client

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// However many goroutines call, at most maxCalls of them are inside the library: each holds a thread there.
func TestSlotsBoundTheCallsUnderWay(t *testing.T) {
	s := newSlots()
	var underWay, most atomic.Int64
	inside := make(chan struct{}, maxCalls)
	release := make(chan struct{})
	var group sync.WaitGroup
	for range 4 * maxCalls {
		group.Go(func() {
			err := s.run(func() error {
				now := underWay.Add(1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				select {
				case inside <- struct{}{}:
				default:
				}
				<-release
				underWay.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range maxCalls {
		<-inside
	}
	close(release)
	group.Wait()
	if most.Load() != maxCalls {
		t.Errorf("%d calls were under way at once, want %d", most.Load(), maxCalls)
	}
}

// holding is a host store whose calls end when they may.
type holding struct {
	inside  atomic.Int64
	release chan struct{}
}

func (h *holding) Call(uint32, []byte) ([]byte, error) {
	h.inside.Add(1)
	<-h.release
	return []byte("null"), nil
}

func (h *holding) Close() error { return nil }

// Every operation of a Client takes a slot, so that a store that does not answer cannot take a thread for each caller.
func TestAClientsCallsTakeSlots(t *testing.T) {
	target := []byte(`{"Project":{"RepoFullName":"acme/infra","Path":"a"},"Workspace":"default"}`)
	for name, call := range map[string]func(*Client){
		"GetLock":    func(c *Client) { c.GetLock(target) },
		"List":       func(c *Client) { c.List() },
		"PullStatus": func(c *Client) { c.PullStatus("k") },
		"Ping":       func(c *Client) { c.Ping() },
	} {
		host := &holding{release: make(chan struct{})}
		locks, err := Open(Config{}, WithHost(host))
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range maxCalls + 8 {
			group.Go(func() { call(locks) })
		}
		for giveUp := time.Now().Add(5 * time.Second); host.inside.Load() < maxCalls && time.Now().Before(giveUp); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // for one more, if it could
		if inside := host.inside.Load(); inside != maxCalls {
			t.Errorf("%s: %d calls are inside, want %d", name, inside, maxCalls)
		}
		close(host.release)
		group.Wait()
		if err := locks.Close(); err != nil {
			t.Error(err)
		}
	}
}
