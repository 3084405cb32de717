package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// lostLook is the time between two looks at all plans.
const lostLook = time.Minute

// lostPlans looks for plans whose locks were released by somebody who could not discard them: the command line, another server, a recovery
// that found a lock granted twice, or a server that died in between. Such a plan is discarded, and its pull request told, as the page would
// have done. Until then the guard keeps it from being applied; so it is looked for only where there is a guard.
//
// It holds no state but for what it saw in its last look: what a plan was made under stands beside the clones ([records]), and who holds a lock
// in the store. A plan counts as lost when two looks in a row have found it so. A plan is one of this server's if its clones are.
type lostPlans struct {
	handover *Handover
	finder   events.PendingPlanFinder
	// clones is the folder in which Atlantis has the clones of all pull requests, as repository/number.
	clones string
	seen   map[lostPlan]bool
}

// lostPlan is a plan that was made under a grant which is over.
type lostPlan struct {
	pull  pullKey
	key   string
	token atlock.FencingToken
}

// run looks until the context is done.
func (l *lostPlans) run(ctx context.Context) {
	for sleep(ctx, lostLook) {
		if !l.handover.guarded.Load() {
			continue
		}
		if err := l.look(); err != nil && ctx.Err() == nil {
			l.handover.logger.Warn("plans whose locks were released from outside are not all looked for: %v", err)
		}
	}
}

// look looks at all plans once.
func (l *lostPlans) look() error {
	kept, err := recordsIn(l.clones)
	if err != nil {
		return err
	}
	locks, err := l.handover.database.List()
	if err != nil {
		return err
	}
	holders := map[string]int{}
	for _, lock := range locks {
		holders[models.GenerateLockKey(lock.Project, lock.Workspace)] = lock.Pull.Num
	}
	found := map[lostPlan]bool{}
	for folder, record := range kept {
		err = errors.Join(err, l.lookAt(folder, record, holders, found))
	}
	l.seen = found
	return err
}

// lookAt looks at the plans of one pull request.
func (l *lostPlans) lookAt(folder string, kept record, holders map[string]int, found map[lostPlan]bool) error {
	pull := kept.Pull.pull()
	of := keyOf(pull.BaseRepo, pull.Num)
	doubtful := map[string]atlock.FencingToken{}
	for key, token := range kept.Tokens {
		if holders[key] != pull.Num {
			doubtful[key] = token
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	plans, err := l.finder.Find(folder)
	if err != nil {
		return fmt.Errorf("the plans in %s: %w", folder, err)
	}
	for _, plan := range plans {
		lock := models.ProjectLock{
			Pull: pull, Workspace: plan.Workspace, Project: release.NewProject(pull.BaseRepo.FullName, plan.RepoRelDir, plan.ProjectName),
		}
		key := models.GenerateLockKey(lock.Project, lock.Workspace)
		token, isDoubtful := doubtful[key]
		lost := lostPlan{of, key, token}
		switch {
		case !isDoubtful:
		case !l.seen[lost]:
			found[lost] = true
		default:
			l.handover.logger.Warn("the lock %q of #%d was released from outside: discarding its plan", key, pull.Num)
			l.handover.discardPlan(lock, token, func(holder *atlock.PullID) string { return l.handover.words.discarded(pull, key, holder) })
		}
	}
	return nil
}

// recordsIn are the records of all pull requests that have clones in this folder, by the folders of the pull requests. A record that names
// no pull request is of an older version, and left out.
func recordsIn(clones string) (map[string]record, error) {
	found := map[string]record{}
	err := filepath.WalkDir(clones, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile, or nothing was cloned yet
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		if _, err := strconv.Atoi(entry.Name()); err != nil || path == clones {
			return nil
		}
		kept, err := readRecord(path + recordSuffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if kept.Pull != nil && len(kept.Tokens) > 0 {
			found[path] = kept
		}
		return fs.SkipDir // what is below are clones
	})
	return found, err
}
