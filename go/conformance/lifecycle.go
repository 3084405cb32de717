package conformance

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func lifecycleBehaviours() []behaviour {
	return []behaviour{
		{name: "Lifecycle/Ping", check: func(s *scene) error { return s.db.Ping() }},
		{name: "Lifecycle/CloseTwice", needs: CloseIsSafe, check: closeTwice},
		{name: "Lifecycle/CallsAfterCloseAreErrors", needs: CloseIsSafe, check: callsAfterClose},
		{name: "Lifecycle/CloseDuringCalls", needs: CloseIsSafe | StableReads, check: closeDuringCalls},
	}
}

// call is one method of release.Database, ready to be called.
type call struct {
	name string
	act  func() error
}

// pullCalls are the methods that take a pull.
func pullCalls(database release.Database, pull models.PullRequest) []call {
	return []call{
		{"UpdateProjectStatus", func() error {
			return database.UpdateProjectStatus(pull, "default", ".", models.AppliedPlanStatus)
		}},
		{"GetPullStatus", func() error { _, err := database.GetPullStatus(pull); return err }},
		{"DeletePullStatus", func() error { return database.DeletePullStatus(pull) }},
		{"UpdatePullWithResults", func() error {
			_, err := database.UpdatePullWithResults(pull, []command.ProjectResult{planned("default", ".", "")})
			return err
		}},
	}
}

// allCalls are all methods but Close.
func allCalls(database release.Database) []call {
	lock := simpleLock("acme/infra", ".", 5)
	return append(pullCalls(database, samplePull()),
		call{"TryLock", func() error { _, _, err := database.TryLock(lock); return err }},
		call{"Unlock", func() error { _, err := database.Unlock(lock.Project, lock.Workspace); return err }},
		call{"UnlockIfOwnedByPull", func() error {
			_, err := database.UnlockIfOwnedByPull(lock.Project, lock.Workspace, 5)
			return err
		}},
		call{"List", func() error { _, err := database.List(); return err }},
		call{"GetLock", func() error { _, err := database.GetLock(lock.Project, lock.Workspace); return err }},
		call{"UnlockByPull", func() error { _, err := database.UnlockByPull("acme/infra", 5); return err }},
		call{"LockCommand", func() error { _, err := database.LockCommand(command.Apply, fixedTime); return err }},
		call{"UnlockCommand", func() error { return database.UnlockCommand(command.Apply) }},
		call{"CheckCommandLock", func() error { _, err := database.CheckCommandLock(command.Apply); return err }},
		call{"Ping", database.Ping},
	)
}

// closeEarly closes the database before the scene ends and hands it out, closed.
func (s *scene) closeEarly() (release.Database, error) {
	database := s.db
	return database, s.close()
}

func closeTwice(s *scene) error {
	database, err := s.closeEarly()
	if err != nil {
		return err
	}
	if err := database.Close(); err != nil {
		return violated("the second Close is an error: %v", err)
	}
	return nil
}

func callsAfterClose(s *scene) error {
	database, err := s.closeEarly()
	if err != nil {
		return err
	}
	for _, c := range allCalls(database) {
		panicked, err := recovered(c.act)
		switch {
		case panicked != nil:
			return violated("%s after Close panics: %v", c.name, panicked)
		case err == nil:
			return violated("%s after Close is no error", c.name)
		}
	}
	return nil
}

// Atlantis closes the database while late requests still use it. Each call
// either succeeds or is an error; none crashes, and none waits for ever.
func closeDuringCalls(s *scene) error {
	const callers, limit = 16, 30 * time.Second
	calls := allCalls(s.db)
	panics := make(chan string, callers)
	var closing, closed atomic.Bool
	var underWay atomic.Int64
	var begun, running sync.WaitGroup
	begun.Add(callers)
	for caller := range callers {
		running.Go(func() {
			first := sync.OnceFunc(begun.Done)
			defer first()
			for i := caller; ; i++ {
				c := calls[i%len(calls)]
				wasClosing, wasClosed := closing.Load(), closed.Load()
				panicked, _ := recovered(c.act)
				first()
				if panicked != nil {
					panics <- fmt.Sprintf("%s: %v", c.name, panicked)
					return
				}
				if !wasClosing && closing.Load() {
					underWay.Add(1)
				}
				if wasClosed {
					return
				}
			}
		})
	}
	begun.Wait()
	closing.Store(true)
	_, closeErr := s.closeEarly()
	closed.Store(true)

	finished := make(chan struct{})
	go func() { running.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(limit):
		return violated("a call did not return within %v of Close", limit)
	}
	select {
	case panicked := <-panics:
		return violated("a call during Close panics: %s", panicked)
	default:
	}
	if underWay.Load() == 0 {
		return errors.New("no call was under way when Close came: this has tested nothing")
	}
	return closeErr
}

// recovered calls a function and returns its panic or its error.
func recovered(act func() error) (panicked any, err error) {
	defer func() { panicked = recover() }()
	return nil, act()
}
