package client

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// However many goroutines call, at most maxCalls of them are inside the library: each holds a thread there.
func TestSlotsBoundTheCallsUnderWay(t *testing.T) {
	for of := range kind(len(maxCalls)) {
		boundedCalls(t, of)
	}
}

func boundedCalls(t *testing.T, of kind) {
	s, maxCalls := newSlots(), maxCalls[of]
	var underWay, most atomic.Int64
	inside := make(chan struct{}, maxCalls)
	release := make(chan struct{})
	var group sync.WaitGroup
	for range 4 * maxCalls {
		group.Go(func() {
			err := s.run(of, func() error {
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
	if most.Load() != int64(maxCalls) {
		t.Errorf("%d calls of kind %d were under way at once, want %d", most.Load(), of, maxCalls)
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

// Every operation of a Client takes a slot of its kind, so that a store that does not answer cannot take a thread for each caller.
func TestAClientsCallsTakeSlots(t *testing.T) {
	for name, one := range map[string]struct {
		of   kind
		call func(*Client)
	}{
		"UnlockByPull": {changes, func(c *Client) { c.UnlockByPull("acme/infra", 7) }},
		"PullStatus":   {changes, func(c *Client) { c.PullStatus("k") }},
		"GetLock":      {reads, func(c *Client) { c.GetLock(target) }},
		"Ping":         {reads, func(c *Client) { c.Ping() }},
		"List":         {lists, func(c *Client) { c.List() }},
	} {
		locks, host := openHolding(t)
		most := maxCalls[one.of]
		var group sync.WaitGroup
		for range most + 8 {
			group.Go(func() { one.call(locks) })
		}
		host.waitFor(t, most)
		time.Sleep(50 * time.Millisecond) // for one more, if it could
		if inside := host.inside.Load(); inside != int64(most) {
			t.Errorf("%s: %d calls are inside, want %d", name, inside, most)
		}
		close(host.release)
		group.Wait()
		if err := locks.Close(); err != nil {
			t.Error(err)
		}
	}
}

// While more pages than there are slots read from a store that answers nobody, a grant and a release begin.
func TestAFloodOfReadsKeepsNoChangeFromBeginning(t *testing.T) {
	locks, host := openHolding(t)
	flooding := []struct {
		of   kind
		call func()
	}{
		{lists, func() { locks.List() }},
		{reads, func() { locks.GetLock(target) }},
		{reads, func() { locks.CheckCommandLock("apply") }},
	}
	var group sync.WaitGroup
	for _, one := range flooding {
		for range 2 * maxCalls[one.of] {
			group.Go(one.call)
		}
	}
	flood := maxCalls[lists] + maxCalls[reads]
	host.waitFor(t, flood)
	lock := []byte(`{"Project":{"RepoFullName":"acme/infra","Path":"a"},"Pull":{"Num":7},"Workspace":"default"}`)
	for begun, change := range []func(){
		func() { locks.TryLock(lock) },
		func() { locks.Unlock(target) },
		func() { locks.UnlockByPull("acme/infra", 7) },
		func() { locks.LockCommand("apply", []byte("{}")) },
	} {
		group.Go(change)
		host.waitFor(t, flood+begun+1)
	}
	close(host.release)
	group.Wait()
	if err := locks.Close(); err != nil {
		t.Error(err)
	}
}

var target = []byte(`{"Project":{"RepoFullName":"acme/infra","Path":"a"},"Workspace":"default"}`)

func openHolding(t *testing.T) (*Client, *holding) {
	t.Helper()
	host := &holding{release: make(chan struct{})}
	locks, err := Open(Config{}, WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	return locks, host
}

// waitFor waits until so many calls are inside.
func (h *holding) waitFor(t *testing.T, calls int) {
	t.Helper()
	for giveUp := time.Now().Add(5 * time.Second); h.inside.Load() < int64(calls); time.Sleep(time.Millisecond) {
		if time.Now().After(giveUp) {
			close(h.release)
			t.Fatalf("%d calls are inside, and no more begin; want %d", h.inside.Load(), calls)
		}
	}
}
