package client

import (
	"time"

	"github.com/atlock/atlock/go/internal/capi"
)

// kind is what a call does to the stores. Each kind has slots of its own.
//
// Invariant: calls of one kind never wait for calls of another. However many pages and endpoints read, a grant, a release and the pull
// status of a command begin at once; and however many list all locks, one lock can be looked at.
type kind int

const (
	changes kind = iota // it changes something, or is a step of a change
	reads               // it reads what one page or endpoint shows
	lists               // it reads all locks
)

// maxCalls bounds how many goroutines are inside the library at once: each one that blocks there holds a thread. Few lists, so that what
// they ask of Redis together never makes Redis answer a grant too slowly.
var maxCalls = [...]int{changes: 32, reads: 16, lists: 4}

// slotTimeout bounds the wait for a slot. A call inside ends by its own deadline, so this is reached only when many
// callers queue behind a store that does not answer, or for lists that nobody can read as fast as they are asked for.
const slotTimeout = 10 * time.Second

var errBusy = &Error{
	Code:    capi.Timeout,
	Message: "the locking layer is busy: no call could begin within 10s, nothing was changed; try again",
}

// slots are counting semaphores, one for each kind.
type slots [len(maxCalls)]chan struct{}

func newSlots() (s slots) {
	for of, most := range maxCalls {
		s[of] = make(chan struct{}, most)
	}
	return s
}

func (s slots) run(of kind, operation func() error) error {
	if err := s.acquire(of); err != nil {
		return err
	}
	defer func() { <-s[of] }()
	return operation()
}

func (s slots) acquire(of kind) error {
	select {
	case s[of] <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	select {
	case s[of] <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}
