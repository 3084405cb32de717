package handover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// What workflow steps of an apply find in their environment.
const (
	tokenVariable = "ATLOCK_TOKEN"
	keyVariable   = "ATLOCK_KEY"
	pullVariable  = "ATLOCK_PULL"
)

// builder is Atlantis's maker of lists of projects (S2): here all projects of a command are known, before anything is deleted or locked.
type builder struct {
	events.ProjectCommandBuilder
	handover *Handover
}

func (b builder) BuildAutoplanCommands(ctx *command.Context) ([]command.ProjectContext, error) {
	projects, err := b.ProjectCommandBuilder.BuildAutoplanCommands(ctx)
	if err == nil {
		b.handover.planning(ctx, projects, true)
	}
	return projects, err
}

func (b builder) BuildPlanCommands(ctx *command.Context, comment *events.CommentCommand) ([]command.ProjectContext, error) {
	if err := b.handover.refuseAPI(ctx); err != nil {
		return nil, err
	}
	projects, err := b.ProjectCommandBuilder.BuildPlanCommands(ctx, comment)
	if err == nil {
		b.handover.planning(ctx, projects, !comment.IsForSpecificProject())
	}
	return projects, err
}

func (b builder) BuildApplyCommands(ctx *command.Context, comment *events.CommentCommand) ([]command.ProjectContext, error) {
	projects, err := b.ProjectCommandBuilder.BuildApplyCommands(ctx, comment)
	if err != nil {
		return projects, err
	}
	return b.handover.applying(ctx, projects)
}

// planning is told the projects of a plan; of all that the pull request has if it is whole.
func (h *Handover) planning(ctx *command.Context, projects []command.ProjectContext, whole bool) {
	in := h.open.of(ctx)
	if in == nil || in.command != atlock.RunPlan {
		return
	}
	modes := modesOf(projects, command.Plan)
	h.open.build(in, modes)
	var locks []atlock.ProjectWorkspace
	for _, key := range slices.Sorted(maps.Keys(modes)) {
		if modes[key] == locksOnPlan {
			locks = append(locks, lockOfKey(ctx.Pull.BaseRepo.FullName, key))
		}
	}
	if in.run != nil {
		if err := in.run.Declare(ctx.User, locks...); err != nil {
			ctx.Log.Warn("the locks of this plan are taken one by one: %v", err)
		}
	}
	if !whole {
		return
	}
	if in.run != nil {
		h.leaveOthers(ctx, modes)
	}
	h.open.in(func() { in.orphans = orphans(ctx, in.applied, modes) })
}

// leaveOthers takes the pull request out of the queues of locks that it does not want any more.
func (h *Handover) leaveOthers(ctx *command.Context, wanted map[string]locksMode) {
	repo := ctx.Pull.BaseRepo.FullName
	queues, err := h.database.Queues(repo)
	var others []atlock.ProjectWorkspace
	for _, waiting := range queues[repo] {
		if keyOf(ctx.Pull.BaseRepo, waiting.Pull.Num) != keyOf(ctx.Pull.BaseRepo, ctx.Pull.Num) ||
			waiting.Pull.Host != "" && !strings.EqualFold(waiting.Pull.Host, ctx.Pull.BaseRepo.VCSHost.Hostname) {
			continue
		}
		for key := range waiting.Keys {
			if _, wants := wanted[key]; !wants {
				others = append(others, lockOfKey(repo, key))
			}
		}
	}
	if err == nil && len(others) > 0 {
		_, err = h.database.For(ctx.Pull).Leave(others...)
	}
	if err != nil {
		ctx.Log.Warn("#%d may still wait for locks that it does not need any more: %v", ctx.Pull.Num, err)
	}
}

// orphans are the locks of projects that the pull request had, and does not touch any more. Atlantis deletes their plans and keeps their
// locks.
func orphans(ctx *command.Context, applied map[string]bool, wanted map[string]locksMode) []atlock.ProjectWorkspace {
	if ctx.PullStatus == nil {
		return nil
	}
	var locks []atlock.ProjectWorkspace
	for _, project := range ctx.PullStatus.Projects {
		lock := lockOf(project, ctx.Pull)
		key := lockKey(lock)
		if _, wants := wanted[key]; !wants && !applied[key] {
			locks = append(locks, lock)
		}
	}
	return locks
}

// applying is told the projects of an apply, and tells their steps by which lock they go.
func (h *Handover) applying(ctx *command.Context, projects []command.ProjectContext) ([]command.ProjectContext, error) {
	if in := h.open.of(ctx); in != nil && in.command == atlock.RunApply {
		h.open.build(in, modesOf(projects, command.Apply))
	}
	for i := range projects {
		project := &projects[i]
		lock := lockOfContext(*project)
		checked, err := h.database.For(project.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
		if isAPI(ctx) && h.guarded.Load() && modeOf(*project) == locksOnPlan {
			// The API has no bracket: this is the last place before its apply.
			if err := countedCheck(checked, err); err != nil {
				return nil, fmt.Errorf("pull request #%d does not hold the lock %q, so nothing is applied: %w", project.Pull.Num, lockKey(lock), err)
			}
		}
		if isAPI(ctx) && h.guarded.Load() {
			if _, reason := h.frozen(lockKey(lock)); reason != "" {
				return nil, errors.New(reason)
			}
		}
		steps := []valid.Step{
			variable(keyVariable, lockKey(lock)),
			variable(pullVariable, strconv.Itoa(project.Pull.Num)),
		}
		if err == nil && checked.Holds && checked.Token != atlock.NoToken {
			steps = append(steps, variable(tokenVariable, strconv.FormatUint(uint64(checked.Token), 10)))
		}
		project.Steps = append(steps, project.Steps...) // the list of the project may be one of all projects
	}
	return projects, nil
}

// countedCheck is the guard of a call of the API: the error is why nothing is applied.
func countedCheck(checked atlock.Checked, err error) error {
	result := guardRefused
	switch {
	case err != nil:
		result = guardUnknown
	case checked.Holds:
		result = guardAllowed
	case checked.Holder != nil:
		err = fmt.Errorf("#%d holds it", checked.Holder.Num)
	default:
		err = errors.New("nobody holds it; plan again")
	}
	guardAnswers.WithLabelValues(result).Inc()
	return err
}

func variable(name, value string) valid.Step {
	return valid.Step{StepName: "env", EnvVarName: name, EnvVarValue: value}
}

// refuseAPI is the error of a call of Atlantis's API that would release what it must not: when it ends, Atlantis releases all locks of the
// pull request.
func (h *Handover) refuseAPI(ctx *command.Context) error {
	if !isAPI(ctx) || !apiReleases || ctx.Pull.Num <= 0 {
		return nil
	}
	num := ctx.Pull.Num
	if busy := h.open.busy(keyOf(ctx.Pull.BaseRepo, num)); busy != nil {
		return fmt.Errorf("this call would release the locks of #%d when it ends, and a %s of #%d runs since %s: try again when that is over",
			num, busy.command, num, clock(busy.began))
	}
	held, err := h.appliedAndHeld(ctx)
	if err != nil {
		return fmt.Errorf("this call would release the locks of #%d when it ends, and whether #%d applied something could not be asked: %w", num, num, err)
	}
	if len(held) > 0 {
		return fmt.Errorf("this call would release the locks of #%d when it ends, and #%d applied what is not merged yet (%s): merge it, or "+
			"comment `%s unlock` there if its locks are not needed any more", num, num, strings.Join(held, ", "), h.words.program)
	}
	return nil
}

// appliedAndHeld are the keys of the locks under which the pull request applied something, and which it has.
func (h *Handover) appliedAndHeld(ctx *command.Context) ([]string, error) {
	status, err := h.database.GetPullStatus(ctx.Pull)
	if err != nil {
		return nil, err
	}
	kept, err := h.records.read(ctx.Pull)
	if err != nil {
		return nil, err
	}
	for _, key := range appliedIn(status, ctx.Pull) {
		kept.Applied[key] = true
	}
	var held []string
	for _, key := range slices.Sorted(maps.Keys(kept.Applied)) {
		lock := lockOfKey(ctx.Pull.BaseRepo.FullName, key)
		checked, err := h.database.For(ctx.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
		if err != nil {
			return nil, err
		}
		if checked.Holds {
			held = append(held, key)
		}
	}
	return held, nil
}

// modesOf tells when each project is locked, by its lock's key.
func modesOf(projects []command.ProjectContext, name command.Name) map[string]locksMode {
	modes := map[string]locksMode{}
	for _, project := range projects {
		if project.CommandName == name {
			modes[lockKey(lockOfContext(project))] = modeOf(project)
		}
	}
	return modes
}

// lockOfContext names the lock of a project, as Atlantis's command runner does.
func lockOfContext(project command.ProjectContext) atlock.ProjectWorkspace {
	return atlock.ProjectWorkspace{
		Project:   release.NewProject(project.Pull.BaseRepo.FullName, project.RepoRelDir, project.ProjectName),
		Workspace: project.Workspace,
	}
}
