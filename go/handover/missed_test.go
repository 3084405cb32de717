package handover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/jobs"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// deletes is a folder of clones that can be deleted.
type deletes struct{ folders }

func (d deletes) Delete(_ logging.SimpleLogging, _ models.Repo, pull models.PullRequest) error {
	path, err := d.GetPullDir(pull.BaseRepo, pull)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

type noStreams struct{}

func (noStreams) CleanUp(jobs.PullInfo) {}

// A merge of which no webhook came: Atlantis's own cleaner releases the lock once the Git host has said so twice, comments as ever, and whoever
// is next is planned.
func TestAMissedMergeHandsOver(t *testing.T) {
	r := newReplanning(t)
	w := r.w
	executor := &events.PullClosedExecutor{
		Locker: locking.NewClient(w.store()), VCSClient: r.git, WorkingDir: deletes{folders{root: w.folder}}, Database: w.store(),
		PullClosedTemplate: &events.PullClosedEventTemplate{}, LogStreamResourceCleaner: noStreams{},
	}
	w.clean = func(repo models.Repo, pull models.PullRequest) error {
		return executor.CleanUpPull(r.logger, repo, pull)
	}
	sweeps := &sweeping{w: w, git: &gitHost{state: models.ClosedPullState}, at: time.Now()}
	sweeps.sweeper = &sweeper{
		handover: w.handover, live: sweeps.git, cleaner: w.server.VCSEventsController.PullCleaner, mode: atlock.StaleRelease,
		logger: logging.NewNoopLogger(t), now: func() time.Time { return sweeps.at }, seen: map[string]sighting{}, asked: map[pullKey]time.Time{},
	}
	wantPlanned(t, w.planned(1, nil, project("a")))
	w.planned(2, nil, project("a"))
	folder := filepath.Join(w.folder, repo, "1")
	if _, err := os.Stat(folder); err != nil {
		t.Fatal(err)
	}

	sweeps.want(t, time.Second, map[string]string{keyA: "closed"})
	r.wantAsked(t) // nothing is released yet
	sweeps.want(t, staleConfirm, map[string]string{keyA: "closed!"})
	w.wantHolders(map[string]int{})
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the clones of #1 are there: %v", err)
	}
	if status, err := w.database.GetPullStatus(pull(1)); err != nil || status != nil {
		t.Errorf("the status of #1 is there: %+v %v", status, err)
	}
	if len(r.git.comments) != 1 || !strings.Contains(r.git.comments[0], "acme/infra#1: Locks and plans deleted for the projects") {
		t.Errorf("told: %q", r.git.comments)
	}
	r.wantAsked(t, "#2 by ada: plan ")
	if held := w.holders()["a"]; held != 2 {
		t.Errorf("#%d holds a", held)
	}
}
