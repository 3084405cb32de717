package linearizability

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// inOrder switches the queue on.
func inOrder(settings settings) settings {
	settings.Locking.Enhanced.PriorityQueue.Enabled = true
	return settings
}

// A lock and the queue of those who wait for it are as one, however often the server dies.
func TestQueue(t *testing.T) {
	r := newRunWithoutRedis(t, 8, inOrder(legacies["sled"](t)))
	r.specification = order{}.specification()
	r.shortest, r.longest = 500*time.Millisecond, 1500*time.Millisecond
	executeQueue(r)
}

// The same of two servers on one Redis.
func TestQueueOnRedis(t *testing.T) {
	r := newRun(t, keeps, 4, inOrder(native), inOrder(native))
	r.specification = order{gates: true}.specification()
	// Two servers that die leave operations of unknown outcome, and a few keys have too many.
	r.specification.patience, r.specification.unchecked = 10*time.Second, 0.1
	executeQueue(r)
}

func executeQueue(r *run) {
	// Each answer that Redis's death keeps back is an operation that may have been made at any time: beside those of dead servers,
	// they are too many to be checked.
	r.waits, r.steady = true, true
	// A third of the usual time: the order of those who wait is sought among many more states.
	r.end = r.begin + (r.end-r.begin)/3
	r.execute()
}

// failedPause is the time after an operation that failed: a plan that fails may have joined, and too many such cannot be checked.
const failedPause = 100 * time.Millisecond

// nextQueued chooses an operation of a pull that nobody else plans.
func (c *client) nextQueued(key string, pull int) request {
	has := c.held[key] == pull
	if c.failed {
		time.Sleep(failedPause)
		return request{Kind: look, Key: key}
	}
	choice := c.random.IntN(100)
	switch {
	case choice < 30 && has:
		return request{Kind: replan, Key: key, Pull: pull}
	case choice < 30:
		return request{Kind: plan, Key: key, Pull: pull}
	case choice < 45:
		return request{Kind: take, Key: key, Pull: pull}
	case choice < 55:
		return request{Kind: release, Key: key}
	case choice < 80:
		return request{Kind: releaseOwned, Key: key, Pull: pull}
	case choice < 85:
		return request{Kind: leave, Key: key, Pull: pull}
	case choice < 95:
		return request{Kind: position, Key: key, Pull: pull}
	default:
		return request{Kind: look, Key: key}
	}
}

// mayBeHalfMade: when it fails, it may have joined or left all the same.
func (r request) mayBeHalfMade() bool { return r.Kind == plan || r.Kind == replan || r.Kind == leave }

// performQueued makes one operation in a repository that only an epoch has, so that its queue does not grow.
func performQueued(database *atlock.Database, request request) (answer, error) {
	repo := "acme/" + strings.ReplaceAll(request.Key, "/", "-")[:3]
	project, workspace := models.NewProject(repo, request.Key, ""), "default"
	pull := models.PullRequest{Num: request.Pull, BaseRepo: models.Repo{FullName: repo}}
	locker := database.For(pull)
	switch request.Kind {
	case plan, replan:
		return performPlan(database, locker, project, workspace, request)
	case take:
		wanted := models.ProjectLock{Project: project, Workspace: workspace, Pull: pull, Time: time.Now()}
		granted, current, err := database.TryLock(wanted)
		if granted || err != nil {
			return answer{Granted: granted}, err
		}
		return refused(current), nil
	case leave:
		left, err := locker.Leave(atlock.ProjectWorkspace{Project: project, Workspace: workspace})
		return answer{queueAnswer: queueAnswer{Left: left > 0}}, err
	case position:
		place, err := locker.GetQueuePosition(context.Background(), project, workspace)
		if errors.Is(err, atlock.ErrNotQueued) {
			place, err = notQueued, nil
		}
		return answer{queueAnswer: queueAnswer{Place: place}}, err
	default:
		return performOn(database, project, workspace, request)
	}
}

// refused is the answer to who was refused. A lock that nobody has was never taken.
func refused(current models.ProjectLock) answer {
	return answer{Pull: current.Pull.Num, queueAnswer: queueAnswer{Kept: current.Time.IsZero()}}
}

// performPlan is a run that takes one lock. In a replan the pull gives it up before, as Atlantis does.
func performPlan(
	database *atlock.Database, locker atlock.PullLocker, project models.Project, workspace string, request request,
) (answer, error) {
	run, err := locker.Begin(atlock.RunPlan)
	if err != nil {
		return answer{}, err
	}
	told := answer{}
	if request.Kind == replan {
		gave, err := database.UnlockIfOwnedByPull(project, workspace, request.Pull)
		if err != nil {
			_, ended := run.End()
			return answer{}, errors.Join(err, ended)
		}
		told.Gave = gave != nil
	}
	begun := time.Now().Round(0) // without what JSON does not keep
	grant, err := run.TryLock(project, workspace, models.User{Username: "ada"})
	ended, endErr := run.End()
	if err := errors.Join(err, endErr); err != nil {
		return answer{}, err
	}
	if len(ended.Released) > 0 {
		return answer{}, fmt.Errorf("the run released %v, which it had taken again or which was another's", ended.Released)
	}
	if grant.Acquired {
		told.Granted, told.Own = true, grant.Lock.Time.Before(begun)
		return told, nil
	}
	gave := told.Gave
	told = refused(grant.Lock)
	told.Gave = gave
	if waiting := grant.Waiting; waiting != nil && waiting.Position > 0 {
		told.Placed = true
		for _, pull := range waiting.Ahead {
			told.Ahead = append(told.Ahead, byte(pull.Num))
		}
		if waiting.Position != len(waiting.Ahead)+1 {
			return answer{}, fmt.Errorf("place %d behind %v", waiting.Position, waiting.Ahead)
		}
	}
	return told, nil
}
