package atlock

import (
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"
)

// Explain tells why a lock is as it is, and what would free it. The key is `repo/path/workspace/project`, as `ATLOCK_KEY` in a workflow.
//
// Atlantis's own store, called directly in strict mode, knows who holds a lock, and of no queue.
func (d *Database) Explain(key string) (Explained, error) {
	return through(d, func(store inner) (Explained, error) { return store.explain(key) })
}

// ExplainPull tells the same of all locks that a pull request holds or waits for.
func (d *Database) ExplainPull(repoFullName string, pull PullID) ([]Explained, error) {
	return through(d, func(store inner) ([]Explained, error) { return store.explainPull(repoFullName, pull) })
}

// Freeze freezes locks: nobody takes them while that lasts, and who has them keeps them. Other servers obey within five seconds.
//
// Errors: [ErrInvalidArgument] for a request without reason, owner or end; [ErrTooLarge] over a limit; [ErrQueueDisabled].
func (d *Database) Freeze(request FreezeRequest) (Freeze, error) {
	return through(d, func(store inner) (Freeze, error) { return store.freeze(request) })
}

// Thaw ends a freeze and returns it, or nil if there is none of this name.
func (d *Database) Thaw(id string) (*Freeze, error) {
	return through(d, func(store inner) (*Freeze, error) { return store.thaw(id) })
}

// Freezes are those that are not over.
func (d *Database) Freezes() ([]Freeze, error) {
	return through(d, func(store inner) ([]Freeze, error) { return store.freezes() })
}

// Deadlocks are the pull requests that wait for each other in a circle.
//
// Errors: [ErrQueueDisabled]; [ErrUnsupported] without `locking.enhanced.deadlock_detection.enabled`.
func (d *Database) Deadlocks() ([]Deadlock, error) {
	return through(d, func(store inner) ([]Deadlock, error) { return store.deadlocks() })
}

// TellDeadlock marks people as told of a circle, and returns the pull requests on which they were not: the caller is to tell them there. Each
// is named to one caller, of whichever server.
func (d *Database) TellDeadlock(id string) ([]PullID, error) {
	return through(d, func(store inner) ([]PullID, error) { return store.tellDeadlock(id) })
}

// EndDeadlock ends a circle, where the settings say `resolve: yield`: one pull request gives its locks of the circle back, and waits for
// them from its old place. It is nil if no pull request may: one that is not named, of which something is applied, or of which something
// runs gives nothing back. The caller then deletes the plans of what was given back.
func (d *Database) EndDeadlock(id string, standings []Standing) (*Yielded, error) {
	return through(d, func(store inner) (*Yielded, error) { return store.endDeadlock(id, standings) })
}

// Leave takes a pull request out of the queue of a lock, or with an empty key out of all of its repository, and tells for how many locks
// it waited. What the pull request holds stays with it.
func (d *Database) Leave(repoFullName string, pull PullID, key string) (int, error) {
	return through(d, func(store inner) (int, error) { return store.leave(repoFullName, pull, key) })
}

// CheckKey tells, by the store that decides, whether a pull request holds the lock at a key; unless the token is [NoToken], by that grant.
func (d *Database) CheckKey(key string, pull PullID, token FencingToken) (Checked, error) {
	held, err := locking.NewClient(d).GetLock(key)
	if held == nil || err != nil {
		return Checked{}, err
	}
	return through(d, func(store inner) (Checked, error) {
		return store.check(ProjectWorkspace{held.Project, held.Workspace}, pull, token)
	})
}

// explaining is what a store answers of why a lock is as it is.
type explaining interface {
	explain(key string) (Explained, error)
	explainPull(repo string, pull PullID) ([]Explained, error)
	freeze(request FreezeRequest) (Freeze, error)
	thaw(id string) (*Freeze, error)
	freezes() ([]Freeze, error)
	deadlocks() ([]Deadlock, error)
	tellDeadlock(id string) ([]PullID, error)
	endDeadlock(id string, standings []Standing) (*Yielded, error)
	discardPlan(pull models.PullRequest, lock ProjectWorkspace) error
}

func (l *library) explain(key string) (Explained, error) { return l.Explain(key) }

func (l *library) explainPull(repo string, pull PullID) ([]Explained, error) {
	return l.ExplainPull(repo, pull)
}

func (l *library) freeze(request FreezeRequest) (Freeze, error) { return l.Freeze(request) }

func (l *library) thaw(id string) (*Freeze, error) { return l.Thaw(id) }

func (l *library) freezes() ([]Freeze, error) { return l.Freezes() }

func (l *library) deadlocks() ([]Deadlock, error) { return l.Deadlocks() }

func (l *library) tellDeadlock(id string) ([]PullID, error) { return l.TellDeadlock(id) }

func (l *library) endDeadlock(id string, standings []Standing) (*Yielded, error) {
	return l.EndDeadlock(id, standings)
}
