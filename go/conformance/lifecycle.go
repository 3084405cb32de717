package conformance

import (
	"fmt"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

func lifecycleBehaviours() []behaviour {
	return []behaviour{
		{name: "Lifecycle/Ping", check: func(s *scene) error { return s.db.Ping() }},
		{name: "Lifecycle/CloseTwice", needs: CloseIsSafe, check: closeTwice},
		{name: "Lifecycle/CallsAfterCloseAreErrors", needs: CloseIsSafe, check: callsAfterClose},
		{name: "Lifecycle/CloseDuringCalls", needs: CloseIsSafe | StableReads, check: closeDuringCalls},
	}
}

// call is one method of db.Database, ready to be called.
type call struct {
	name string
	act  func() error
}

// pullCalls are the methods that take a pull.
func pullCalls(database db.Database, pull models.PullRequest) []call {
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
func allCalls(database db.Database) []call {
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
func (s *scene) closeEarly() (db.Database, error) {
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
	stop := make(chan struct{})
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for i := caller; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c := calls[i%len(calls)]
				if panicked, _ := recovered(c.act); panicked != nil {
					panics <- fmt.Sprintf("%s: %v", c.name, panicked)
					return
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	_, closeErr := s.closeEarly()
	time.Sleep(20 * time.Millisecond)
	close(stop)

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
		return closeErr
	}
}

// recovered calls a function and returns its panic or its error.
func recovered(act func() error) (panicked any, err error) {
	defer func() { panicked = recover() }()
	return nil, act()
}
