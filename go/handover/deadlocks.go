package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// deadlockLook is the time between two looks at the circles that the library has found.
const deadlockLook = 2 * time.Second

// deadlocks tells people of pull requests that wait for each other in a circle, on each of them once, and with `resolve: yield` ends the circle.
//
// The library finds a circle, confirms it, and says on which pull requests nobody was told of it; which is why it holds no state, and two
// servers tell once. What this server adds is what was applied. Nothing yields under which something may have been applied: a pull request
// whose folder is not on this server, or of which something cannot be read, counts as applied. While a command of one of them runs here, the
// circle may be about to end, and nothing is done.
//
// A server that dies between the release and the discard leaves a plan without its lock, which [lostPlans] finds.
type deadlocks struct {
	handover *Handover
	yields   bool
}

// run looks until the context is done.
func (d *deadlocks) run(ctx context.Context) {
	for pause := deadlockLook; sleep(ctx, pause); {
		pause = deadlockLook
		if err := d.look(); err != nil && ctx.Err() == nil {
			d.handover.logger.Warn("pull requests that wait for each other cannot be told, which is tried again in %v: %v", pauseAfterError, err)
			pause = pauseAfterError
		}
	}
}

// look looks at all circles once.
func (d *deadlocks) look() error {
	found, err := d.handover.database.Deadlocks()
	for _, circle := range found {
		// One that is over in the meantime is none.
		if failed := d.see(circle); failed != nil && !errors.Is(failed, atlock.ErrInvalidArgument) {
			err = errors.Join(err, fmt.Errorf("circle %s of %s: %w", circle.ID, circle.Repo, failed))
		}
	}
	return err
}

// see ends a circle, or tells people of it.
func (d *deadlocks) see(circle atlock.Deadlock) error {
	h := d.handover
	locks, err := d.locks(circle)
	if err != nil || locks == nil {
		return err
	}
	standings := make([]atlock.Standing, len(circle.Rank))
	var way *atlock.PullID // the first that has applied nothing
	for i, id := range circle.Rank {
		pull := locks[id][0].Pull
		if h.open.busy(keyOf(pull.BaseRepo, pull.Num)) != nil {
			return nil
		}
		standings[i] = atlock.Standing{Pull: id, Applied: h.mayHaveApplied(pull)}
		if way == nil && !standings[i].Applied {
			way = &id
		}
	}
	if d.yields {
		yielded, err := h.database.EndDeadlock(circle.ID, standings)
		if err != nil {
			return err
		}
		if yielded != nil {
			d.discard(circle, *yielded, locks[yielded.Pull])
			return nil
		}
	}
	untold, err := h.database.TellDeadlock(circle.ID)
	if err != nil {
		return err
	}
	for _, id := range untold {
		pull := locks[id][0].Pull
		h.logger.Warn("#%d of %s is in the circle %s of pull requests that wait for each other: %s", id.Num, circle.Repo, circle.ID, circle.Suggestion)
		if err := comment(h.words.client, h.logger, pull.BaseRepo, id.Num, h.words.circle(pull, circle, way), ""); err != nil {
			h.logger.Warn("#%d of %s could not be told of the circle %s: %v", id.Num, circle.Repo, circle.ID, err)
		}
	}
	return nil
}

// locks are those of the circle, by their holders; nil if the circle is over.
func (d *deadlocks) locks(circle atlock.Deadlock) (map[atlock.PullID][]models.ProjectLock, error) {
	locks := map[atlock.PullID][]models.ProjectLock{}
	for _, link := range circle.Links {
		for _, key := range link.Keys {
			named := lockOfKey(circle.Repo, key)
			lock, err := d.handover.database.GetLock(named.Project, named.Workspace)
			if err != nil {
				return nil, err
			}
			if lock == nil || lock.Pull.Num != link.Holder.Num {
				return nil, nil
			}
			locks[link.Holder] = append(locks[link.Holder], *lock)
		}
	}
	if slices.ContainsFunc(circle.Rank, func(id atlock.PullID) bool { return len(locks[id]) == 0 }) {
		return nil, nil
	}
	return locks, nil
}

// mayHaveApplied tells whether something may have been applied in a pull request.
func (h *Handover) mayHaveApplied(pull models.PullRequest) bool {
	if _, err := h.records.path(pull); err != nil {
		return true
	}
	applied, err := h.appliedOf(pull)
	return err != nil || len(applied) > 0
}

// discard discards the plans of the locks that a pull request gave back.
func (d *deadlocks) discard(circle atlock.Deadlock, yielded atlock.Yielded, locks []models.ProjectLock) {
	h := d.handover
	for _, lock := range locks {
		key := models.GenerateLockKey(lock.Project, lock.Workspace)
		if _, gave := yielded.Released[key]; !gave {
			continue
		}
		h.logger.Warn("#%d of %s gave %q back, to end the circle %s", yielded.Pull.Num, circle.Repo, key, circle.ID)
		h.discardPlan(lock, atlock.NoToken, func(*atlock.PullID) string { return h.words.yielded(lock.Pull, circle, key) })
	}
}
