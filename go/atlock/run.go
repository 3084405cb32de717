package atlock

import (
	"encoding/json"
	"fmt"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// Run is a plan, apply or unlock of a pull request, from [PullLocker.Begin] to [Run.End]. It lives in this process.
//
// Atlantis gives the locks of a pull request up before it plans it again, and a queue would take that for a release. In a plan, the pull
// request's own UnlockIfOwnedByPull and UnlockByPull therefore answer with the lock and keep it; what the run does not take again is released
// at its end. Its methods may be called from any goroutine.
//
// It goes on when [Database.Change] exchanges the store: where that has no queue, as by Atlantis's own code.
type Run struct {
	pull   PullLocker
	number uint64
}

// RunGrant is the answer to an attempt to take a lock in a run.
type RunGrant struct {
	Acquired bool
	Lock     models.ProjectLock // as it is stored; or the holder's, or that of the pull request for which it is kept
	Token    FencingToken       // of the grant; [NoToken] if it is not known, or the lock was refused
	Waiting  *Waiting           // the place of who was refused; nil without one
}

// RunOptions say what begins.
type RunOptions struct {
	Command string   // [RunPlan], [RunApply] or [RunUnlock]
	Applied []string // keys of the pull request's locks under which something was applied that is not merged: the run never releases them
	// Labels are those of the pull request, for the rules about priority: at most 100, of at most 1,024 bytes each. models.PullRequest has none.
	Labels []string
	// Recipe is what [Database.Next] gives back when it is the turn of who was refused in the run: at most 512 bytes, no secrets.
	Recipe string
}

// Begin begins a run: [RunPlan], [RunApply] or [RunUnlock]. End each run, whatever comes of it.
//
// Errors: [ErrQueueDisabled], [ErrNoPull].
func (p PullLocker) Begin(command string) (*Run, error) {
	return p.BeginWith(RunOptions{Command: command})
}

// BeginWith begins a run, as [PullLocker.Begin] does.
func (p PullLocker) BeginWith(options RunOptions) (*Run, error) {
	request := client.RunRequest{
		Repo:    p.pull.BaseRepo.FullName,
		Pull:    p.id(),
		Command: options.Command,
		Base:    p.pull.BaseBranch,
		Author:  p.pull.Author,
		Labels:  options.Labels,
		Applied: options.Applied,
		Recipe:  options.Recipe,
	}
	number, err := through(p.database, func(store inner) (uint64, error) { return store.runBegin(request) })
	if err != nil {
		return nil, err
	}
	return &Run{p, number}, nil
}

// Declare tells which locks the run is going to take, at most 500. With `sets: whole`, the first [Run.TryLock] of one of them then takes all
// of them, or none newly.
func (r *Run) Declare(user models.User, locks ...ProjectWorkspace) error {
	values, err := serialized(r.pull.locksOf(locks, user))
	if err != nil {
		return err
	}
	return throughError(r.pull.database, func(store inner) error { return store.runDeclare(r.number, values) })
}

// TryLock takes a lock if it is free. One that the pull request has already is acquired. Who is refused joins the queue, and stays in it
// after the run.
func (r *Run) TryLock(project models.Project, workspace string, user models.User) (RunGrant, error) {
	value, err := json.Marshal(r.pull.lockOf(ProjectWorkspace{project, workspace}, user))
	if err != nil {
		return RunGrant{}, fmt.Errorf("serializing the lock: %w", err)
	}
	answer, err := through(r.pull.database, func(store inner) (client.InRun, error) { return store.runTryLock(r.number, value) })
	if err != nil {
		return RunGrant{}, transactionFailed(err)
	}
	held, err := heldOf(answer.Lock, answer.Token)
	if err != nil {
		return RunGrant{}, transactionFailed(err)
	}
	grant := RunGrant{Acquired: answer.Acquired, Lock: held.Lock, Token: held.Token}
	if answer.Queue != nil {
		grant.Waiting = waitingFor(answer.Lock, answer.Queue)
	}
	return grant, nil
}

// End ends the run: what the pull request gave up in it and did not take again is released. After an error it is over, too; what was not
// released stays held.
func (r *Run) End() (RunEnded, error) {
	return through(r.pull.database, func(store inner) (RunEnded, error) { return store.runEnd(r.number) })
}

func (l *library) runBegin(request client.RunRequest) (uint64, error) { return l.RunBegin(request) }

func (l *library) runDeclare(number uint64, locks []json.RawMessage) error {
	return l.RunDeclare(number, locks)
}

func (l *library) runTryLock(number uint64, lock []byte) (client.InRun, error) {
	return l.TryLockIn(number, lock)
}

func (l *library) runEnd(number uint64) (RunEnded, error) { return l.RunEnd(number) }
