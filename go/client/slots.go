package client

import (
	"time"

	"github.com/atlock/atlock/go/internal/capi"
)

const (
	// maxCalls bounds how many goroutines are inside the library at once: each one that blocks there holds a thread.
	maxCalls = 32
	// slotTimeout bounds the wait for a slot. A call inside ends by its own deadline, so this is reached only when many
	// callers queue behind a store that does not answer.
	slotTimeout = 10 * time.Second
)

var errBusy = &Error{
	Code:    capi.Timeout,
	Message: "the locking layer is busy: no call could begin within 10s, nothing was changed; try again",
}

// slots is a counting semaphore.
type slots chan struct{}

func newSlots() slots { return make(slots, maxCalls) }

func (s slots) run(operation func() error) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer func() { <-s }()
	return operation()
}

func (s slots) acquire() error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	select {
	case s <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}
