package handover

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// bracketed is one of Atlantis's command runners in brackets (S3).
type bracketed struct {
	events.CommentCommandRunner
	handover *Handover
	run      string
}

// hooksSkipper tells when Atlantis need not run its hooks, in the releases that ask.
type hooksSkipper interface {
	ShouldSkipPreWorkflowHooks(ctx *command.Context, comment *events.CommentCommand) bool
}

// skipping is one that also tells when Atlantis need not run its hooks.
type skipping struct {
	bracketed
	hooksSkipper
}

// ShouldSkipPreWorkflowHooks is asked before the hooks, which may take long.
func (s skipping) ShouldSkipPreWorkflowHooks(ctx *command.Context, comment *events.CommentCommand) bool {
	s.handover.expected.expect(ctx)
	return s.hooksSkipper.ShouldSkipPreWorkflowHooks(ctx, comment)
}

func (h *Handover) bracket(runner events.CommentCommandRunner, run string) events.CommentCommandRunner {
	wrapped := bracketed{runner, h, run}
	if skipper, ok := runner.(hooksSkipper); ok {
		return skipping{wrapped, skipper}
	}
	return wrapped
}

// Run runs the command. The bracket ends also after a panic, which Atlantis logs.
func (b bracketed) Run(ctx *command.Context, comment *events.CommentCommand) {
	b.handover.waitForTail(ctx)
	begun := b.handover.begin(ctx, comment, b.run)
	defer b.handover.end(ctx, begun)
	b.CommentCommandRunner.Run(ctx, comment)
}

// waitForTail waits until the command before is over, where a release comments before it has written down what it did: people answer that
// comment, and Atlantis lets the next command begin. A command that runs for longer is answered as by Atlantis.
func (h *Handover) waitForTail(ctx *command.Context) {
	const pause = 50 * time.Millisecond
	for waited := time.Duration(0); waited < tail && h.open.busy(keyOf(ctx.Pull.BaseRepo, ctx.Pull.Num)) != nil; waited += pause {
		time.Sleep(pause)
	}
}

// begin opens the bracket of a command. An autoplan has no comment.
func (h *Handover) begin(ctx *command.Context, comment *events.CommentCommand, name string) *bracket {
	begun := &bracket{command: name, pull: ctx.Pull, key: keyOf(ctx.Pull.BaseRepo, ctx.Pull.Num), began: time.Now(), actor: actorOf(ctx, name)}
	if name == atlock.RunPlan {
		begun.applied = h.applied(ctx)
	}
	begun.unmark = h.open.marked(mark{ctx.Pull.BaseRepo.FullName, ctx.Pull.Num, name == atlock.RunUnlock, begun.actor})
	h.discarding.Lock() // a plan that is being discarded is not begun meanwhile
	h.open.add(ctx, begun)
	h.discarding.Unlock()
	if h.expected.isClosed(ctx) { // asked after it is open: a close from now on finds it there
		h.open.in(func() { begun.closed = true })
	}
	run, err := h.database.As(begun.actor).For(ctx.Pull).BeginWith(atlock.RunOptions{
		Command: name, Applied: slices.Sorted(maps.Keys(begun.applied)), Recipe: recipeOf(ctx, comment), Labels: h.labels.of(ctx, name),
	})
	switch {
	case err == nil:
		h.open.in(func() { begun.run = run })
	case !errors.Is(err, atlock.ErrQueueDisabled):
		ctx.Log.Warn("this %s goes on without a place in the queue: %v", name, err)
	}
	return begun
}

// end closes the bracket.
func (h *Handover) end(ctx *command.Context, ended *bracket) {
	defer ended.unmark()
	actor := ended.actor
	release := func(lock atlock.ProjectWorkspace) {
		if _, err := h.database.As(actor).UnlockIfOwnedByPull(lock.Project, lock.Workspace, ended.pull.Num); err != nil {
			ctx.Log.Err("the lock %q could not be released, and stays with #%d: comment `atlantis unlock` there. %v",
				lockKey(lock), ended.pull.Num, err)
		}
	}
	for _, orphan := range ended.orphans {
		release(orphan) // in a run it is the run that does, at its end
	}
	if ended.run != nil {
		if _, err := ended.run.End(); err != nil {
			ctx.Log.Err("locks that #%d gave up in its %s could not be released, and stay with #%d: plan again there, or comment "+
				"`atlantis unlock`. %v", ended.pull.Num, ended.command, ended.pull.Num, err)
		}
	}
	actor = atlock.Actor{Via: atlock.ViaPullClosed}
	for _, lock := range h.open.remove(ctx) {
		ctx.Log.Info("#%d was closed during its %s: releasing the lock %q", ended.pull.Num, ended.command, lockKey(lock))
		release(lock)
	}
}

// applied are the keys of the projects under which the pull request applied something that is not merged: as the pull status says, and as
// is remembered from before a plan overwrote that.
func (h *Handover) applied(ctx *command.Context) map[string]bool {
	applied := map[string]bool{}
	for _, key := range appliedIn(ctx.PullStatus, ctx.Pull) {
		applied[key] = true
	}
	kept, err := h.records.change(ctx.Pull, func(record *record) { maps.Copy(record.Applied, applied) })
	if err != nil {
		ctx.Log.Err("what #%d applied cannot be remembered: if its next plans fail, they may release its locks. %v", ctx.Pull.Num, err)
	}
	return kept.Applied
}

// appliedOf are the keys of the projects under which something was applied that is not merged, as far as this server and the store know.
func (h *Handover) appliedOf(pull models.PullRequest) (map[string]bool, error) {
	kept, err := h.records.read(pull)
	if err != nil {
		return nil, err
	}
	status, err := h.database.GetPullStatus(pull)
	for _, key := range appliedIn(status, pull) {
		kept.Applied[key] = true
	}
	return kept.Applied, err
}

// appliedIn are the keys of what the status says to be applied. An apply that failed may have changed something, too.
func appliedIn(status *models.PullStatus, pull models.PullRequest) []string {
	var keys []string
	if status == nil {
		return nil
	}
	for _, project := range status.Projects {
		if project.Status == models.AppliedPlanStatus || project.Status == models.ErroredApplyStatus {
			keys = append(keys, lockKey(lockOf(project, pull)))
		}
	}
	return keys
}

// lockOf names the lock of a project in a pull status, as Atlantis does where it locks.
func lockOf(project models.ProjectStatus, pull models.PullRequest) atlock.ProjectWorkspace {
	return atlock.ProjectWorkspace{
		Project:   release.NewProject(pull.BaseRepo.FullName, project.RepoRelDir, project.ProjectName),
		Workspace: project.Workspace,
	}
}
