package handover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/controllers"
	events_controllers "github.com/runatlantis/atlantis/server/controllers/events"
	"github.com/runatlantis/atlantis/server/core/config/valid"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/events/vcs/azuredevops"
	"github.com/runatlantis/atlantis/server/events/vcs/bitbucketcloud"
	"github.com/runatlantis/atlantis/server/events/vcs/bitbucketserver"
	"github.com/runatlantis/atlantis/server/events/vcs/gitea"
	"github.com/runatlantis/atlantis/server/events/vcs/github"
	"github.com/runatlantis/atlantis/server/events/vcs/gitlab"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

const repo = "acme/infra"

// world is a server of stand-ins around a real database, wired.
type world struct {
	t        *testing.T
	folder   string
	database *atlock.Database
	server   *server.Server
	handover *Handover
	runner   *events.DefaultProjectCommandRunner
	builder  *events.InstrumentedProjectCommandBuilder
	projects map[int][]command.ProjectContext // what the next command of a pull request finds
	plan     map[int]func(ctx *command.Context, comment *events.CommentCommand)
	apply    func(ctx *command.Context, comment *events.CommentCommand)
	clean    func(repo models.Repo, pull models.PullRequest) error
	imports  func()
	git      *gitHost
	deleted  []string // the plans that were deleted, as number and lock key
}

type setting func(*atlock.Config, *Options)

func withQueue(config *atlock.Config, _ *Options) {
	config.Locking.Enhanced.PriorityQueue.Enabled = true
}

func withSets(config *atlock.Config, _ *Options) {
	config.Locking.Enhanced.PriorityQueue.Sets = atlock.SetsWhole
}

func withoutGuard(config *atlock.Config, _ *Options) {
	config.Locking.Enhanced.ApplyGuard = atlock.GuardOff
}

func newWorld(t *testing.T, settings ...setting) *world {
	t.Helper()
	config := atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: t.TempDir(), Socket: atlock.SocketOff}}
	var options Options
	for _, set := range settings {
		set(&config, &options)
	}
	database, err := atlock.Open(config)
	must(t, err)
	t.Cleanup(func() { must(t, database.Close()) })
	w := &world{t: t, folder: t.TempDir(), database: database, projects: map[int][]command.ProjectContext{},
		plan: map[int]func(*command.Context, *events.CommentCommand){}, git: &gitHost{state: models.OpenPullState}}
	options.Settings, options.Store, options.Clones = config, NewStore(database), w.folder
	w.server = w.atlantis(options.Store)
	w.handover, err = Wire(w.server, database, options)
	must(t, err)
	w.builder.ProjectCommandBuilder = builder{lists{w: w}, w.handover}
	return w
}

// atlantis is a server as NewServer builds one, as far as Wire looks.
func (w *world) atlantis(store *Store) *server.Server {
	client := locking.NewClient(store)
	w.runner = &events.DefaultProjectCommandRunner{
		Locker: &events.DefaultProjectLocker{
			Locker: client, NoOpLocker: locking.NewNoOpLocker(), VCSClient: w.git, ExecutableName: "atlantis",
		},
		WorkingDir: folders{root: w.folder, deleted: &w.deleted},
	}
	w.builder = &events.InstrumentedProjectCommandBuilder{ProjectCommandBuilder: &events.DefaultProjectCommandBuilder{}}
	logger := logging.NewNoopLogger(w.t)
	return &server.Server{
		Logger: logger,
		Locker: client,
		CommandRunner: &events.DefaultCommandRunner{CommentCommandRunnerByCmd: map[command.Name]events.CommentCommandRunner{
			command.Plan:   runs{plans: func(ctx *command.Context, c *events.CommentCommand) { w.plan[ctx.Pull.Num](ctx, c) }},
			command.Apply:  runs{plans: func(ctx *command.Context, c *events.CommentCommand) { w.apply(ctx, c) }},
			command.Unlock: runsOnly{func(ctx *command.Context) { _, err := store.UnlockByPull(repo, ctx.Pull.Num); must(w.t, err) }},
			command.Cancel: &events.CancelCommandRunner{ProjectCmdRunner: w.runner},
			command.Import: runsOnly{func(*command.Context) { w.imports() }},
		}},
		APIController:       &controllers.APIController{ProjectCommandBuilder: w.builder},
		VCSEventsController: &events_controllers.VCSEventsController{PullCleaner: cleans{w}},
		LocksController: &controllers.LocksController{
			Logger: logger, Locker: client, Database: store, VCSClient: w.git, ApplyLocker: locking.NewApplyClient(store, false, true),
			DeleteLockCommand: &events.DefaultDeleteLockCommand{Locker: client, WorkingDir: w.runner.WorkingDir},
		},
	}
}

// runs is a command runner that also skips hooks, and runsOnly is one that does not.
type runs struct {
	plans func(*command.Context, *events.CommentCommand)
}

func (r runs) Run(ctx *command.Context, comment *events.CommentCommand) { r.plans(ctx, comment) }
func (r runs) ShouldSkipPreWorkflowHooks(*command.Context, *events.CommentCommand) bool {
	return true
}

type runsOnly struct{ unlock func(*command.Context) }

func (r runsOnly) Run(ctx *command.Context, _ *events.CommentCommand) { r.unlock(ctx) }

type cleans struct{ w *world }

func (c cleans) CleanUpPull(_ logging.SimpleLogging, repo models.Repo, pull models.PullRequest) error {
	return c.w.clean(repo, pull)
}

// lists makes the lists of projects.
type lists struct {
	events.ProjectCommandBuilder
	w *world
}

func (l lists) list(ctx *command.Context, name command.Name) ([]command.ProjectContext, error) {
	projects := slices.Clone(l.w.projects[ctx.Pull.Num])
	for i := range projects {
		projects[i].CommandName, projects[i].Pull = name, ctx.Pull
	}
	return projects, nil
}

func (l lists) BuildAutoplanCommands(ctx *command.Context) ([]command.ProjectContext, error) {
	return l.list(ctx, command.Plan)
}

func (l lists) BuildPlanCommands(ctx *command.Context, _ *events.CommentCommand) ([]command.ProjectContext, error) {
	return l.list(ctx, command.Plan)
}

func (l lists) BuildApplyCommands(ctx *command.Context, _ *events.CommentCommand) ([]command.ProjectContext, error) {
	return l.list(ctx, command.Apply)
}

// folders is Atlantis's layout of clones.
type folders struct {
	events.WorkingDir
	root    string
	deleted *[]string
}

func (f folders) DeletePlan(log logging.SimpleLogging, r models.Repo, p models.PullRequest, workspace, path, name string) error {
	key := models.GenerateLockKey(models.NewProject(r.FullName, path, name), workspace)
	*f.deleted = append(*f.deleted, fmt.Sprintf("#%d %s", p.Num, key))
	return (&events.FileWorkspace{DataDir: f.root}).DeletePlan(log, r, p, workspace, path, name)
}

func (f folders) GetPullDir(r models.Repo, p models.PullRequest) (string, error) {
	path := filepath.Join(f.root, r.FullName, fmt.Sprint(p.Num))
	_, err := os.Stat(path)
	return path, err
}

// hosts are Atlantis's clients of the Git hosts, as far as they name pull requests.
type hosts struct{ vcs.Client }

func (hosts) MarkdownPullLink(pull models.PullRequest) (string, error) {
	switch pull.BaseRepo.VCSHost.Type {
	case models.Github:
		return (&github.Client{}).MarkdownPullLink(pull)
	case models.Gitlab:
		return (&gitlab.Client{}).MarkdownPullLink(pull)
	case models.Gitea:
		return (&gitea.Client{}).MarkdownPullLink(pull)
	case models.BitbucketCloud:
		return (&bitbucketcloud.Client{}).MarkdownPullLink(pull)
	case models.BitbucketServer:
		return (&bitbucketserver.Client{}).MarkdownPullLink(pull)
	case models.AzureDevops:
		return (&azuredevops.Client{}).MarkdownPullLink(pull)
	}
	return "", fmt.Errorf("no client of host %v", pull.BaseRepo.VCSHost.Type)
}

// pull is a pull request on a GitLab, whose links tell it from GitHub, the zero kind of host.
func pull(num int) models.PullRequest {
	host := models.VCSHost{Hostname: "git.example.com", Type: models.Gitlab}
	return models.PullRequest{
		Num: num, Author: "ada", BaseBranch: "main", HeadCommit: "c1",
		BaseRepo: models.Repo{FullName: repo, Owner: "acme", Name: "infra", CloneURL: "https://bot:secret@git.example.com/acme/infra.git", VCSHost: host},
	}
}

func project(path string) command.ProjectContext {
	return command.ProjectContext{RepoRelDir: path, Workspace: "default", RepoLocksMode: valid.RepoLocksOnPlanMode}
}

func (w *world) context(num int) *command.Context {
	w.t.Helper()
	status, err := w.database.GetPullStatus(pull(num))
	must(w.t, err)
	return &command.Context{
		Pull: pull(num), User: models.User{Username: "ada"}, Log: logging.NewNoopLogger(w.t), PullStatus: status, Trigger: command.CommentTrigger,
	}
}

func (w *world) run(name command.Name, num int, comment events.CommentCommand) {
	w.t.Helper()
	w.server.CommandRunner.CommentCommandRunnerByCmd[name].Run(w.context(num), &comment)
}

func (w *world) store() *Store { return w.handover.store }

// outcome is what a stand-in for terraform does with a project.
type outcome struct {
	fails bool
	asks  func() // in the middle
}

// planned runs `atlantis plan` as Atlantis does: give the locks up, take them, plan, write the results. It returns what each project was refused
// for; empty for a plan.
func (w *world) planned(num int, outcomes map[string]outcome, projects ...command.ProjectContext) map[string]string {
	w.t.Helper()
	return w.plannedBy(num, events.CommentCommand{Name: command.Plan}, outcomes, projects...)
}

func (w *world) plannedBy(
	num int, comment events.CommentCommand, outcomes map[string]outcome, projects ...command.ProjectContext,
) map[string]string {
	w.t.Helper()
	must(w.t, os.MkdirAll(filepath.Join(w.folder, repo, fmt.Sprint(num)), 0o755))
	said := map[string]string{}
	w.projects[num] = projects
	w.plan[num] = func(ctx *command.Context, comment *events.CommentCommand) {
		found, err := w.builder.ProjectCommandBuilder.BuildPlanCommands(ctx, comment)
		must(w.t, err)
		if !comment.IsForSpecificProject() {
			for _, project := range found {
				lock := lockOfContext(project)
				_, err := w.store().UnlockIfOwnedByPull(lock.Project, lock.Workspace, num)
				must(w.t, err)
			}
		}
		var results []command.ProjectResult
		for _, project := range found {
			results = append(results, w.doPlan(ctx, project, outcomes[project.RepoRelDir], said))
		}
		_, err = w.store().UpdatePullWithResults(ctx.Pull, results)
		must(w.t, err)
	}
	w.run(command.Plan, num, comment)
	return said
}

// autoplanned is a plan of Atlantis's own, after a push.
func (w *world) autoplanned(num int, projects ...command.ProjectContext) {
	w.t.Helper()
	w.projects[num] = projects
	w.plan[num] = func(ctx *command.Context, _ *events.CommentCommand) {
		found, err := w.builder.ProjectCommandBuilder.BuildAutoplanCommands(ctx)
		must(w.t, err)
		for _, project := range found {
			w.doPlan(ctx, project, outcome{}, map[string]string{})
		}
	}
	ctx := w.context(num)
	ctx.Trigger = command.AutoTrigger
	w.server.CommandRunner.CommentCommandRunnerByCmd[command.Plan].Run(ctx, nil)
}

func (w *world) doPlan(
	ctx *command.Context, project command.ProjectContext, does outcome, said map[string]string,
) command.ProjectResult {
	w.t.Helper()
	result := command.ProjectResult{
		Command: command.Plan, RepoRelDir: project.RepoRelDir, Workspace: project.Workspace, ProjectName: project.ProjectName,
	}
	lock := lockOfContext(project)
	answer, err := w.runner.Locker.TryLock(
		ctx.Log, ctx.Pull, ctx.User, lock.Workspace, lock.Project, project.RepoLocksMode == valid.RepoLocksOnPlanMode)
	must(w.t, err)
	said[project.RepoRelDir] = answer.LockFailureReason
	if !answer.LockAcquired {
		result.Failure = answer.LockFailureReason
		return result
	}
	if does.asks != nil {
		does.asks()
	}
	if does.fails {
		must(w.t, answer.UnlockFn())
		result.Failure = "it fails"
		return result
	}
	result.PlanSuccess = &models.PlanSuccess{TerraformOutput: "Plan: 1 to add, 0 to change, 0 to destroy."}
	return result
}

// applied runs `atlantis apply`, and returns what each project was refused for.
func (w *world) applied(num int, outcomes map[string]outcome, projects ...command.ProjectContext) map[string]string {
	w.t.Helper()
	said := map[string]string{}
	w.projects[num] = projects
	w.apply = func(ctx *command.Context, comment *events.CommentCommand) {
		found, err := w.builder.ProjectCommandBuilder.BuildApplyCommands(ctx, comment)
		must(w.t, err)
		var results []command.ProjectResult
		for _, project := range found {
			result := command.ProjectResult{
				Command: command.Apply, RepoRelDir: project.RepoRelDir, Workspace: project.Workspace, ProjectName: project.ProjectName,
			}
			lock := lockOfContext(project)
			answer, err := w.runner.Locker.TryLock(
				ctx.Log, ctx.Pull, ctx.User, lock.Workspace, lock.Project, project.RepoLocksMode == valid.RepoLocksOnApplyMode)
			must(w.t, err)
			said[project.RepoRelDir] = answer.LockFailureReason
			result.Failure = answer.LockFailureReason
			if answer.LockAcquired {
				result.ApplySuccess = "Apply complete!"
				if asks := outcomes[project.RepoRelDir].asks; asks != nil {
					asks()
				}
			}
			results = append(results, result)
		}
		_, err = w.store().UpdatePullWithResults(ctx.Pull, results)
		must(w.t, err)
	}
	w.run(command.Apply, num, events.CommentCommand{Name: command.Apply})
	return said
}

func (w *world) unlocked(num int) {
	w.run(command.Unlock, num, events.CommentCommand{Name: command.Unlock})
}

// holders maps each project's folder to who holds its lock.
func (w *world) holders() map[string]int {
	w.t.Helper()
	locks, err := w.database.List()
	must(w.t, err)
	held := map[string]int{}
	for _, lock := range locks {
		held[lock.Project.Path] = lock.Pull.Num
	}
	return held
}

func (w *world) wantHolders(want map[string]int) {
	w.t.Helper()
	if got := w.holders(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Fatalf("the locks are held by %v, want %v", got, want)
	}
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Fatalf("the text lacks %q:\n%s", part, text)
		}
	}
}

func wantPlanned(t *testing.T, said map[string]string) {
	t.Helper()
	for path, reason := range said {
		if reason != "" {
			t.Fatalf("%s was refused: %s", path, reason)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// forgetFolders takes the folders of all pull requests away, as on a server that never planned them.
func (w *world) forgetFolders() { must(w.t, os.RemoveAll(filepath.Join(w.folder, repo))) }
