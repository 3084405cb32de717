package client

import (
	"sync"
	"sync/atomic"
	"testing"
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
