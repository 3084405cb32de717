package web

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// lookEvery is the least time between two looks; lookShare: a look is at most this part of the time, however many locks there are.
var lookEvery = 2 * time.Second

const lookShare = 20

// watcher finds out that the page would show something else than before. Twenty pages that ask every five seconds would have the stores asked
// twice as often. What another server did is seen as well, since the stores are asked, and not this server's own calls.
type watcher struct {
	database Database
	history  *history
	actions  Actions       // nil: none
	every    time.Duration // lookEvery, when the server was made
}

// watch tells of each change until the context is over, and of the first look: what happened before it is not known.
func (w watcher) watch(ctx context.Context, changed func()) {
	var before uint64
	for first := true; ; first = false {
		began := time.Now()
		now := w.look()
		if ctx.Err() != nil {
			return
		}
		if first || now != before {
			changed()
		}
		before = now
		pause := time.NewTimer(max(w.every, lookShare*time.Since(began)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// seen is what a page shows, without what grows by being looked at.
type seen struct {
	State, Headline string
	Mode            atlock.Mode
	Circuit         atlock.CircuitState
	Cause, Unarmed  string
	Armed           bool
	Unsynced        int
	Conflicts       []atlock.Conflict
	Fallbacks       []atlock.Fallback
	Change          *atlock.Change
	Shadow          [3]any
	Warnings        []string
	Locks           []seenLock
	Queues          map[string][]atlock.QueuedPull
	Freezes         []atlock.Freeze
	Circles         []atlock.Deadlock
	Applies         time.Time
	Stale           []StaleLock
	Errors          []string
}

type seenLock struct {
	Key, Holder string
	Pull        int
	Taken       time.Time
}

// look is a number of what there is to see. Two that differ are two pages that do.
func (w watcher) look() uint64 {
	var now seen
	fault := func(err error) {
		if err != nil {
			now.Errors = append(now.Errors, err.Error())
		}
	}
	status, err := w.database.Status()
	fault(err)
	health := newestHealth(w.database, w.history, status.Mode)
	now.State, now.Headline = string(health.State), health.Headline
	now.Mode, now.Circuit, now.Cause, now.Unarmed = status.Mode, status.CircuitState, status.Cause, status.UnarmedBecause
	now.Armed, now.Unsynced, now.Conflicts, now.Fallbacks = status.Armed, status.JournalLength, status.Conflicts, status.Fallbacks
	now.Change, now.Warnings = status.LastChange, status.Warnings
	if shadow := status.Shadow; shadow != nil {
		now.Shadow = [3]any{shadow.State, shadow.InStep, shadow.Different}
	}
	locks, err := w.database.List()
	fault(err)
	for i := range locks {
		lock := &locks[i]
		key := models.GenerateLockKey(lock.Project, lock.Workspace)
		now.Locks = append(now.Locks, seenLock{key, lock.User.Username, lock.Pull.Num, lock.Time})
	}
	if err == nil { // a store that hangs is not waited for again and again
		now.Applies = newApplyView(w.database).Since
	}
	if err == nil && len(status.QueueRepos) > 0 {
		now.Queues, err = w.database.Queues("")
		fault(err)
		now.Freezes, err = w.database.Freezes()
		fault(err)
		if err == nil {
			now.Circles, err = w.database.Deadlocks()
			if !errors.Is(err, atlock.ErrUnsupported) { // somebody looks for them
				fault(err)
			}
		}
	}
	if w.actions != nil {
		now.Stale = w.actions.Stale()
	}
	sum := fnv.New64a()
	_ = json.NewEncoder(sum).Encode(now) // it has nothing that cannot be encoded, and a hash takes everything
	return sum.Sum64()
}
