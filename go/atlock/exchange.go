package atlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// Exchange is a change of mode, of settings or of the store while a [Database] is in use.
type Exchange struct {
	To   Mode                      // the mode that it is to be, for people
	Open func() (*Database, error) // opens what the new settings say, as a start does
	// Check looks, before anything is closed, whether the change has a prospect. Nil: it is not looked.
	Check func() error
	// Reopen opens what the settings of before say, if Open fails. It is tried again until it succeeds.
	Reopen func() (*Database, error)
	// Between is done while no store is open: a migration, after which each lock of before is to be there. If it fails, or a lock is not there,
	// Undo and Reopen follow. Nil: nothing.
	Between func() error
	Undo    func() error
	By      any // who asked for it, in the words of the audit trail; nil: nobody is named
	// Settings are the names of those that become other ones, for the audit trail.
	Settings []string
}

// Exchanged is what came of a change.
type Exchanged struct {
	Change
	// Missing are keys of locks that were held before and are not any more: other servers released them meanwhile, or they are lost.
	Missing []string `json:"missing,omitempty"`
}

// How often, and how long, an opening is tried that finds a store busy: a command may be looking.
const (
	busyTries   = 20
	busyPause   = 100 * time.Millisecond
	reopenPause = 5 * time.Second
)

// errBusyChanging is of a change beside another.
var errBusyChanging = &Error{Code: capi.StoreBusy, Message: "another change of the lock store is under way: wait until that is over, then look at the mode"}

// Change closes the stores behind the database in good order, and opens others, by the rules of a start: what was held before is held
// afterwards. Operations under way end first; those that come meanwhile wait, and waits for locks go on, with their places where both have a
// queue. If the new stores cannot be opened, those of before are opened again, and the error says why; the answer then tells that, too.
//
// Whoever calls it sees to it that the next start opens the same.
func (d *Database) Change(exchange Exchange) (Exchanged, error) {
	if err := d.wasOpened(); err != nil {
		return Exchanged{}, err
	}
	if !d.changing.TryLock() {
		return Exchanged{}, errBusyChanging
	}
	defer d.changing.Unlock()
	if d.closed.Load() {
		return Exchanged{}, errClosed
	}
	if exchange.Check != nil {
		if err := exchange.Check(); err != nil {
			return Exchanged{}, fmt.Errorf("nothing was changed: %w", err)
		}
	}
	begun := time.Now()
	if !d.barrier.close() {
		text := fmt.Sprintf("nothing was changed: operations under way did not end within %v: try again", d.barrier.patience/2)
		return Exchanged{}, &Error{Code: capi.Timeout, Message: text}
	}
	defer d.barrier.open()
	change := Change{From: "none", To: exchange.To, By: encoded(exchange.By), Settings: exchange.Settings}
	var before map[string]bool
	if old := d.barrier.store; old != nil {
		change.From = modeOf(old)
		before = heldIn(old)
	}
	err := d.exchange(exchange, change, before)
	change.At, change.PausedMS = microsNow(), uint64(time.Since(begun).Milliseconds())
	result := Exchanged{Change: change}
	if err != nil {
		result.Result, result.Error = ChangeFailed, err.Error()
	} else {
		result.Result = ChangeDone
	}
	if now := d.barrier.store; now != nil {
		result.Locks = uint64(len(heldIn(now)))
		result.Missing = missingOf(before, now)
		if noteErr := now.noteChange(result.Change); noteErr != nil {
			d.logger.Warn("a change of the lock store is not in the audit trail", "error", noteErr)
		}
	}
	d.history.add(result.Change)
	d.report(result, err)
	return result, err
}

// report logs how a change ended.
func (d *Database) report(result Exchanged, err error) {
	if err != nil {
		d.logger.Error("the lock store was not changed", "from", result.From, "to", result.To, "error", err)
		return
	}
	d.logger.Info("the lock store was changed", "from", result.From, "to", result.To, "paused_ms", result.PausedMS, "locks", result.Locks)
	if len(result.Missing) > 0 {
		d.logger.Warn("locks that were held before the change are not held any more: other servers released them meanwhile, or they are lost",
			"keys", result.Missing)
	}
}

// exchange does it, behind the closed gate.
func (d *Database) exchange(exchange Exchange, change Change, before map[string]bool) error {
	if old := d.barrier.store; old != nil {
		change.Result = ChangeBegun
		if err := old.noteChange(change); err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
		carried, err := old.closeToReopen()
		d.carried = carried
		d.barrier.store, d.barrier.refusal = nil, noneOpen{errChanging}
		if err != nil {
			return d.back(exchange, fmt.Errorf("the stores of before were not closed in good order: %w", err))
		}
	}
	if !d.barrier.waitsEnded() {
		return d.back(exchange, errors.New("callers who wait for locks did not stop"))
	}
	if exchange.Between != nil {
		if err := exchange.Between(); err != nil {
			return d.back(exchange, err)
		}
	}
	store, err := d.opened(exchange.Open)
	if err != nil {
		return d.back(exchange, err)
	}
	if missing := missingOf(before, store); exchange.Between != nil && len(missing) > 0 {
		err := fmt.Errorf("the new settings open a store that lacks %d of the locks, %q first", len(missing), missing[0])
		return d.back(exchange, errors.Join(err, store.Close()))
	}
	d.barrier.store = store
	return nil
}

// missingOf are the keys of locks of before that a store does not have.
func missingOf(before map[string]bool, store inner) []string {
	after := heldIn(store)
	if after == nil {
		return nil
	}
	var missing []string
	for key := range before {
		if !after[key] {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	return missing
}

// opened opens stores, and gives them what those of before left. A store may be busy for a moment.
func (d *Database) opened(open func() (*Database, error)) (inner, error) {
	database, err := open()
	for tries := 1; errors.Is(err, ErrStoreBusy) && tries < busyTries; tries++ {
		time.Sleep(busyPause)
		database, err = open()
	}
	if err != nil {
		return nil, err
	}
	store := database.barrier.store
	if err := store.carryOn(d.carried); err != nil {
		d.logger.Error("plans under way go on without their places in the queue", "error", err)
	}
	return store, nil
}

// back opens the stores of before again, now or later.
func (d *Database) back(exchange Exchange, cause error) error {
	if exchange.Undo != nil {
		if err := exchange.Undo(); err != nil {
			cause = fmt.Errorf("%w; and that cannot be undone now: %w", cause, err)
		}
	}
	store, err := d.opened(exchange.Reopen)
	if err == nil {
		d.barrier.store = store
		return fmt.Errorf("%w. The settings of before hold again", cause)
	}
	text := fmt.Sprintf("no lock store is open, and no lock is granted or released: the change failed (%v), and what was open before cannot be "+
		"opened again (%v). That is tried every %v; repair what it names, or restart the server", cause, err, reopenPause)
	d.barrier.refusal = noneOpen{&Error{Code: capi.Degraded, Message: text}}
	go d.reopen(exchange.Reopen)
	return d.barrier.refusal
}

// reopen opens the stores of before as soon as they can be.
func (d *Database) reopen(open func() (*Database, error)) {
	for {
		time.Sleep(reopenPause)
		d.changing.Lock()
		isOver := d.closed.Load() || d.barrier.store != nil || d.reopened(open)
		d.changing.Unlock()
		if isOver { // closed, or another change succeeded
			return
		}
	}
}

func (d *Database) reopened(open func() (*Database, error)) bool {
	if !d.barrier.waitsEnded() {
		return false
	}
	store, err := d.opened(open)
	if err != nil {
		return false
	}
	for !d.barrier.close() { // who is inside is being refused
	}
	d.barrier.store = store
	d.barrier.open()
	d.logger.Warn("the lock store is open again, as before the change that failed")
	return true
}

// heldIn are the keys of the locks that a store has; nil if it cannot say.
func heldIn(store inner) map[string]bool {
	locks, err := store.List()
	if err != nil {
		return nil
	}
	held := make(map[string]bool, len(locks))
	for _, lock := range locks {
		held[models.GenerateLockKey(lock.Project, lock.Workspace)] = true
	}
	return held
}

func modeOf(store inner) Mode {
	status, err := store.Status()
	if err != nil {
		return "unknown"
	}
	return status.Mode
}

// waitThrough runs a wait of the inner database, and goes on with the wait in the next one when that one is exchanged. A context that is done in
// between ends it without leaving a place behind: the next inner database is asked once more, and that may have the lock by then.
func waitThrough[T any](
	ctx context.Context, d *Database, timeout time.Duration, ask func(ctx context.Context, store inner, left time.Duration) (T, error),
) (answer T, err error) {
	if err := d.wasOpened(); err != nil {
		return answer, err
	}
	until, left := time.Now().Add(cmp.Or(timeout, d.waited)), timeout
	asking := ctx
	for {
		store, err := d.barrier.enterToWait()
		if err != nil {
			return answer, err
		}
		answer, err = func() (T, error) {
			defer d.barrier.leaveWait()
			return ask(asking, store.as(d.actor), left)
		}()
		if !errors.Is(err, ErrClosed) || d.closed.Load() {
			if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
				err = fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return answer, err
		}
		left = max(time.Until(until), time.Millisecond)
		if ctx.Err() != nil {
			asking, left = context.WithoutCancel(ctx), time.Millisecond
		}
	}
}
