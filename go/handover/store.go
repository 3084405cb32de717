package handover

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// Store is the database in Atlantis's hands. Atlantis opens it before there is a server; until [Wire] it is the database alone.
type Store struct {
	*atlock.Database
	handover atomic.Pointer[Handover]
	known    bool // the database is in the hands of somebody who is known
}

// NewStore puts a store around a database.
func NewStore(database *atlock.Database) *Store { return &Store{Database: database} }

// Ping tells whether locks are granted, as `/api/locks/health` does: Atlantis's `/readyz` asks for that.
func (s *Store) Ping() error {
	health, err := s.Health()
	if err == nil && !health.Overall {
		err = errors.New(health.Headline)
	}
	return err
}

// Unlock releases a lock for a person, on the page. With the guard on, not that of an apply under way.
func (s *Store) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	h := s.handover.Load()
	if h == nil {
		return s.Database.Unlock(project, workspace)
	}
	if err := h.refuseUnlock(project, workspace); err != nil {
		return nil, err
	}
	lock, err := s.Database.Unlock(project, workspace)
	if lock != nil {
		h.forget([]models.ProjectLock{*lock})
	}
	return lock, err
}

// UnlockIfOwnedByPull releases a lock for a command. That of a project that was applied stays, and is the answer: a run of the library
// sees to that itself.
func (s *Store) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	h := s.handover.Load()
	key := models.GenerateLockKey(project, workspace)
	if h == nil || !h.open.keeps(project.RepoFullName, pullNum, key) {
		return s.by(h, project.RepoFullName, pullNum, false).UnlockIfOwnedByPull(project, workspace, pullNum)
	}
	lock, err := s.GetLock(project, workspace)
	if lock == nil || err != nil || lock.Pull.Num != pullNum {
		return nil, err
	}
	return lock, nil
}

// UnlockByPull releases all locks of a pull request: `atlantis unlock`, a close, the end of a call of the API.
// Before v0.46 also a plan of the whole pull request, which means those that the plan takes again: none of what was applied, and the pull
// request waits on.
func (s *Store) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	h := s.handover.Load()
	if h != nil && h.open.isPlanned(repoFullName, pullNum) {
		return h.unlockEach(repoFullName, pullNum, h.open.actor(repoFullName, pullNum, false))
	}
	locks, err := s.by(h, repoFullName, pullNum, true).UnlockByPull(repoFullName, pullNum)
	if h != nil {
		h.open.givenUp(repoFullName, pullNum, locks)
		h.forget(locks)
	}
	return locks, err
}

// UpdatePullWithResults also keeps under which grant each plan was made, and what was applied.
func (s *Store) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (models.PullStatus, error) {
	if h := s.handover.Load(); h != nil {
		h.keep(pull, results)
	}
	return s.Database.UpdatePullWithResults(pull, results)
}

// refuseUnlock is the error of a release on the page under a running apply.
func (h *Handover) refuseUnlock(project models.Project, workspace string) error {
	key := models.GenerateLockKey(project, workspace)
	in := h.open.applying(key)
	if !h.guarded.Load() || in == nil {
		return nil
	}
	checked, err := h.database.For(in.pull).Check(project, workspace, atlock.NoToken)
	if err == nil && !checked.Holds {
		return nil
	}
	return fmt.Errorf("an apply of #%d runs since %s, and its lock is not released meanwhile: try again when that is over", in.pull.Num, clock(in.began))
}

// keep writes down what a command did. A plan whose grant is not known is bound to none.
func (h *Handover) keep(pull models.PullRequest, results []command.ProjectResult) {
	in := h.open.working(keyOf(pull.BaseRepo, pull.Num))
	if in != nil && h.open.isClosed(in) {
		return // its folder is gone, or about to be
	}
	_, err := h.records.change(pull, func(record *record) {
		for _, result := range results {
			key := lockKey(atlock.ProjectWorkspace{
				Project: release.NewProject(pull.BaseRepo.FullName, result.RepoRelDir, result.ProjectName), Workspace: result.Workspace,
			})
			switch {
			case result.PlanSuccess != nil:
				delete(record.Tokens, key)
				if in != nil && h.open.token(in, key) != atlock.NoToken {
					record.Tokens[key] = h.open.token(in, key)
				}
			case result.Command == command.Apply && !(in != nil && h.open.isRefused(in, key)):
				record.Applied[key] = true
			}
		}
	})
	if err != nil {
		h.logger.Err("what #%d planned and applied cannot be written down: an apply may be refused, and then says to plan again; and if its next "+
			"plans fail, they may release the locks of what it applied. %v", pull.Num, err)
	}
}

// forget drops what is kept of locks that were released.
func (h *Handover) forget(locks []models.ProjectLock) {
	for _, lock := range locks {
		key := models.GenerateLockKey(lock.Project, lock.Workspace)
		if _, err := h.records.change(lock.Pull, func(record *record) { delete(record.Applied, key) }); err != nil {
			h.logger.Warn("that #%d applied %q cannot be forgotten, so that its plans keep that lock until it is closed: %v", lock.Pull.Num, key, err)
		}
	}
}

func clock(at time.Time) string { return at.UTC().Format("15:04 UTC") }
