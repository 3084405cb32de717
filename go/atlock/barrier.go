package atlock

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlock/atlock/go/internal/capi"
)

// inner is an opened database: the library, or Atlantis's own store called directly.
type inner interface {
	store
	queued
	explaining
	carrying
	// as is the same database, used by somebody: for the audit trail.
	as(actor Actor) inner
	record(entry AuditEntry) error
}

// barrier lets operations in to the inner database that is open, and lets [Database.Change] exchange it.
//
// Invariants:
//   - An inner database is exchanged while no operation is in it, and no wait for a lock. What was answered was answered by the one before,
//     and is brought along by the rules of a start (start.go); what comes later is answered by the next one.
//   - At most one inner database is open. While none is, every operation is refused with the reason.
//   - Who comes while the gate is closed waits for it for so long as an operation may take, and then hears [ErrTimeout]; nothing was changed.
//
// Faults that it survives: operations that do not end, which keep the gate from being passed, and the exchange from being made; a panic in
// Atlantis's code.
type barrier struct {
	gate    atomic.Pointer[gate] // not nil: nobody comes in
	inside  sync.RWMutex         // held for reading by each operation
	waits   sync.RWMutex         // held for reading by each wait for locks: closing the inner database ends it
	store   inner                // guarded by inside; nil: none is open
	refusal error                // why; guarded by inside
	// patience is how long an operation waits at the gate, and at most twice as long as the gate waits for operations.
	patience time.Duration
}

// noneOpen is why no inner database is open.
type noneOpen struct{ error }

func (r noneOpen) Unwrap() error { return r.error }

// refuse lets nobody in any more, where no inner database is open.
func (b *barrier) refuse(reason error) {
	b.inside.Lock()
	defer b.inside.Unlock()
	b.refusal = noneOpen{reason}
}

// gate is closed until the channel is.
type gate struct{ opened chan struct{} }

const defaultPatience = 10 * time.Second

var errChanging = &Error{
	Code: capi.Timeout,
	Message: "the server is changing its lock store, and this was not begun: nothing was changed, try again. If it goes on, see the server's log " +
		"and `atlock mode`",
}

// enter lets an operation in. After a success, leave.
func (b *barrier) enter() (inner, error) {
	var over <-chan time.Time
	for {
		if closed := b.gate.Load(); closed != nil {
			if over == nil {
				timer := time.NewTimer(b.patience)
				defer timer.Stop()
				over = timer.C
			}
			select {
			case <-closed.opened:
			case <-over:
				return nil, errChanging
			}
			continue
		}
		// Whoever closes the gate from now on waits until this one is out. It fails only for a moment: the gate was closed since.
		if !b.inside.TryRLock() {
			runtime.Gosched()
			continue
		}
		if b.store == nil {
			defer b.inside.RUnlock()
			return nil, b.refusal
		}
		return b.store, nil
	}
}

func (b *barrier) leave() { b.inside.RUnlock() }

// enterToWait is enter for a wait, which is not in the way of an exchange: closing the inner database ends it. After a success, leaveWait.
func (b *barrier) enterToWait() (inner, error) {
	for {
		store, err := b.enter()
		switch {
		case err == nil:
			b.waits.RLock() // nobody holds it for writing: the gate is open
			b.leave()
			return store, nil
		case !errors.Is(err, errChanging):
			return nil, err
		}
	}
}

func (b *barrier) leaveWait() { b.waits.RUnlock() }

// close closes the gate and waits until nobody is inside; false: somebody stays, and the gate is open as before. After a success, open.
func (b *barrier) close() bool {
	closed := &gate{make(chan struct{})}
	b.gate.Store(closed)
	if waitFor(&b.inside, b.patience/2) {
		return true
	}
	b.gate.Store(nil)
	close(closed.opened)
	return false
}

// open lets in who waits.
func (b *barrier) open() {
	b.inside.Unlock()
	close(b.gate.Swap(nil).opened)
}

// waitsEnded waits until the waits in the inner database, which was closed, are over. The gate is closed.
func (b *barrier) waitsEnded() bool {
	ended := waitFor(&b.waits, b.patience)
	if ended {
		b.waits.Unlock()
	}
	return ended
}

// waitFor locks for writing, without keeping readers out meanwhile.
func waitFor(mutex *sync.RWMutex, patience time.Duration) bool {
	for until := time.Now().Add(patience); !mutex.TryLock(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// through runs an operation of the inner database.
func through[T any](d *Database, ask func(store inner) (T, error)) (answer T, err error) {
	if err := d.wasOpened(); err != nil {
		return answer, err
	}
	store, err := d.barrier.enter()
	if err != nil {
		return answer, err
	}
	defer d.barrier.leave()
	return ask(store.as(d.actor))
}

// throughError is the same for an operation without an answer.
func throughError(d *Database, ask func(store inner) error) error {
	_, err := through(d, func(store inner) (struct{}, error) { return struct{}{}, ask(store) })
	return err
}
