package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// replanning is a replanner of a world, and what it did.
type replanning struct {
	*replanner
	w      *world
	git    *gitHost
	asked  []string // the commands that Atlantis was given
	effect func(num int, comment *events.CommentCommand)
}

// gitHost answers for the Git host.
type gitHost struct {
	hosts
	mutex    sync.Mutex
	state    models.PullRequestState
	away     error
	labels   []string
	comments []string
}

func (g *gitHost) GetLivePullIdentity(project command.ProjectContext) (models.PullRequest, error) {
	found := project.Pull
	found.State = g.state
	return found, g.away
}

func (g *gitHost) GetPullLabels(logging.SimpleLogging, models.Repo, models.PullRequest) ([]string, error) {
	return g.labels, nil
}

func (g *gitHost) CreateComment(_ logging.SimpleLogging, repo models.Repo, num int, text, _ string) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.comments = append(g.comments, fmt.Sprintf("%s#%d: %s", repo.FullName, num, text))
	return nil
}

func (r *replanning) RunAutoplanCommand(models.Repo, models.Repo, models.PullRequest, models.User) {}

func (r *replanning) RunCommentCommand(
	base models.Repo, head *models.Repo, _ *models.PullRequest, user models.User, num int, comment *events.CommentCommand,
) {
	if head == nil || head.FullName != base.FullName || !strings.Contains(base.CloneURL, "gitlab-bot:its-token@") {
		r.w.t.Errorf("#%d is planned with %+v, %+v", num, base, head)
	}
	r.asked = append(r.asked, fmt.Sprintf("#%d by %s: %s %s%s", num, user.Username, comment.Name, comment.RepoRelDir, comment.ProjectName))
	r.effect(num, comment)
}

// newReplanning makes a world with a queue in which locks are held by #1, and #2 waits for them.
func newReplanning(t *testing.T, settings ...setting) *replanning {
	t.Helper()
	w := newWorld(t, append([]setting{withQueue}, settings...)...)
	allowed, err := events.NewRepoAllowlistChecker("git.example.com/acme/*")
	must(t, err)
	r := &replanning{w: w, git: &gitHost{state: models.OpenPullState}}
	r.replanner = &replanner{
		database: w.database, mode: w.handover.words.replan, runner: r, live: r.git, client: r.git, allowlist: allowed,
		parser:  &events.EventParser{GitlabHostname: "git.example.com", GitlabUser: "gitlab-bot", GitlabToken: "its-token"},
		drainer: &events.Drainer{}, words: w.handover.words, logger: logging.NewNoopLogger(t),
	}
	// As a plan of these projects goes.
	r.effect = func(num int, comment *events.CommentCommand) {
		projects := []command.ProjectContext{project("a"), project("b")}
		if comment.IsForSpecificProject() {
			projects = []command.ProjectContext{project(comment.RepoRelDir)}
		}
		w.plannedBy(num, *comment, nil, projects...)
	}
	return r
}

// look lets it look once, and returns what it asked of Atlantis.
func (r *replanning) look(t *testing.T) []string {
	t.Helper()
	r.asked = nil
	if !r.next(t.Context()) {
		t.Fatal("it is over")
	}
	return r.asked
}

func (r *replanning) wantAsked(t *testing.T, wanted ...string) {
	t.Helper()
	if asked := r.look(t); !slices.Equal(asked, wanted) {
		t.Fatalf("Atlantis was asked for %q, want %q", asked, wanted)
	}
}

func (r *replanning) waits(t *testing.T, num int) bool {
	t.Helper()
	queues, err := r.w.database.Queues(repo)
	must(t, err)
	return slices.ContainsFunc(queues[repo], func(queued atlock.QueuedPull) bool { return queued.Pull.Num == num })
}

func TestWhoIsNextIsPlanned(t *testing.T) {
	r := newReplanning(t)
	wantPlanned(t, r.w.planned(1, nil, project("a"), project("b")))
	r.w.planned(2, nil, project("a"), project("b"))
	r.w.planned(3, nil, project("a"))
	r.w.unlocked(1)
	r.wantAsked(t, "#2 by ada: plan ")
	r.w.wantHolders(map[string]int{"a": 2, "b": 2})
	r.w.unlocked(2)
	r.wantAsked(t, "#3 by ada: plan ")
	if len(r.git.comments) > 0 {
		t.Errorf("Atlantis's own comments are enough: %q", r.git.comments)
	}
}

// A pull request that has plans keeps them: only what got free is planned.
func TestOnlyWhatGotFreeIsPlanned(t *testing.T) {
	r := newReplanning(t)
	wantPlanned(t, r.w.planned(1, nil, project("a")))
	r.w.planned(2, nil, project("a"), project("b"))
	r.w.wantHolders(map[string]int{"a": 1, "b": 2})
	r.w.unlocked(1)
	r.wantAsked(t, "#2 by ada: plan a")
	r.w.wantHolders(map[string]int{"a": 2, "b": 2})
}

func TestLocksThatGetFreeSoonAreTakenTogether(t *testing.T) {
	r := newReplanning(t)
	r.collecting = 200 * time.Millisecond
	wantPlanned(t, r.w.planned(1, nil, project("a")))
	wantPlanned(t, r.w.planned(4, nil, project("b")))
	r.w.planned(2, nil, project("a"), project("b"))
	r.w.unlocked(1)
	later := time.AfterFunc(50*time.Millisecond, func() { _, _ = r.w.database.UnlockByPull(repo, 4) })
	defer later.Stop()
	r.wantAsked(t, "#2 by ada: plan ")
}

// What was not even tried would come to nothing again: the pull request waits for it no more, and the next one's turn comes.
func TestAPlanThatDoesNotBeginEndsTheWait(t *testing.T) {
	r := newReplanning(t)
	wantPlanned(t, r.w.planned(1, nil, project("a")))
	r.w.planned(2, nil, project("a"))
	r.w.planned(3, nil, project("a"))
	r.w.unlocked(1)
	plan := r.effect
	r.effect = func(num int, comment *events.CommentCommand) {
		if num == 3 {
			plan(num, comment)
		}
	}
	r.wantAsked(t, "#2 by ada: plan ")
	if r.waits(t, 2) {
		t.Error("#2 still waits")
	}
	if told := strings.Join(r.git.comments, "\n"); !strings.HasPrefix(told, "acme/infra#2: **It was this pull request's turn, but its plan did not take `a`.**") {
		t.Errorf("told %q", told)
	}
	r.wantAsked(t, "#3 by ada: plan ")
	r.w.wantHolders(map[string]int{"a": 3, "b": 3})
}

// A plan that fails gives its lock up, and the next one's turn comes.
func TestAPlanThatFailsIsNotRepeated(t *testing.T) {
	r := newReplanning(t)
	wantPlanned(t, r.w.planned(1, nil, project("a")))
	r.w.planned(2, nil, project("a"))
	r.w.planned(3, nil, project("a"))
	r.w.unlocked(1)
	r.effect = func(num int, comment *events.CommentCommand) {
		r.w.plannedBy(num, *comment, map[string]outcome{"a": {fails: num == 2}}, project("a"))
	}
	r.wantAsked(t, "#2 by ada: plan ")
	r.wantAsked(t, "#3 by ada: plan ")
	r.w.wantHolders(map[string]int{"a": 3})
}

// A Git host that does not answer is no evidence: the turn stays, and is tried again when the claim is over.
func TestAGitHostThatIsAwayEndsNoTurn(t *testing.T) {
	r := newReplanning(t)
	wantPlanned(t, r.w.planned(1, nil, project("a")))
	r.w.planned(2, nil, project("a"))
	r.w.unlocked(1)
	r.git.away = errors.New("404 Not Found")
	r.wantAsked(t)
	if !r.waits(t, 2) {
		t.Error("#2 lost its place")
	}
	if len(r.git.comments) > 0 {
		t.Errorf("told: %q", r.git.comments)
	}
}

func TestWhoIsNotToBePlannedIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *replanning)
		auto   bool
		extra  []string
		stays  bool
		said   string // of a comment; empty for none
	}{
		"closed":             {change: func(r *replanning) { r.git.state = models.ClosedPullState }},
		"not allowlisted":    {change: func(r *replanning) { r.allowlist, _ = events.NewRepoAllowlistChecker("other/*") }, said: "not in Atlantis's allowlist"},
		"fork is gone":       {change: func(r *replanning) { r.git.away = errUnreadable }, said: "whose fork is gone"},
		"notify":             {change: func(r *replanning) { r.mode = atlock.ReplanNotify }, stays: true, said: "It is this pull request's turn:** `a` is kept for it until"},
		"extra arguments":    {extra: []string{"-target=x"}, stays: true, said: "comment `atlantis plan`"},
		"autoplan is off":    {change: func(r *replanning) { r.autoplanOff = true }, auto: true, stays: true, said: "comment `atlantis plan`"},
		"a label forbids it": {change: func(r *replanning) { r.disabledBy, r.git.labels = "no-autoplan", []string{"x", "no-autoplan"} }, auto: true, stays: true, said: "comment `atlantis plan`"},
		"shutting down":      {change: func(r *replanning) { r.drainer.ShutdownBlocking() }, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplanning(t)
			wantPlanned(t, r.w.planned(1, nil, project("a")))
			asks := func() {
				r.w.plannedBy(2, events.CommentCommand{Name: command.Plan, Flags: c.extra}, nil, project("a"))
			}
			if c.auto {
				asks = func() { r.w.autoplanned(2, project("a")) }
			}
			asks()
			r.w.unlocked(1)
			if c.change != nil {
				c.change(r)
			}
			r.wantAsked(t)
			if stays := r.waits(t, 2); stays != c.stays {
				t.Errorf("#2 waits: %v", stays)
			}
			told := strings.Join(r.git.comments, "\n")
			if (told == "") != (c.said == "") || !strings.Contains(told, c.said) {
				t.Errorf("told %q, want %q", told, c.said)
			}
			r.wantAsked(t) // once is enough
			if len(r.git.comments) > 1 {
				t.Errorf("told again: %q", r.git.comments)
			}
		})
	}
}

func TestARecipeOfAnotherVersionIsToldToPeople(t *testing.T) {
	for _, text := range []string{"", "{", `{"clone":""}`, `"x"`, strings.Repeat("[", 400)} {
		r := newReplanning(t)
		wantPlanned(t, r.w.planned(1, nil, project("a")))
		run, err := r.w.database.For(pull(2)).BeginWith(atlock.RunOptions{Command: atlock.RunPlan, Recipe: text})
		must(t, err)
		_, err = run.TryLock(models.NewProject(repo, "a", ""), "default", models.User{Username: "ada"})
		must(t, err)
		_, err = run.End()
		must(t, err)
		r.w.unlocked(1)
		r.wantAsked(t)
		if !r.waits(t, 2) {
			t.Errorf("%q: #2 lost its place", text)
		}
	}
}

func TestRecipes(t *testing.T) {
	w := newWorld(t)
	ctx := w.context(2)
	ctx.HeadRepo = ctx.Pull.BaseRepo
	for text, change := range map[string]func() *events.CommentCommand{
		`{"clone":"https://git.example.com/acme/infra.git"}`:              func() *events.CommentCommand { return &events.CommentCommand{} },
		`{"clone":"https://git.example.com/acme/infra.git","extra":true}`: func() *events.CommentCommand { return &events.CommentCommand{Flags: []string{"-x"}} },
	} {
		if got := recipeOf(ctx, change()); got != text {
			t.Errorf("got %s, want %s", got, text)
		}
	}
	ctx.HeadRepo.FullName, ctx.Trigger = "fork/infra", command.AutoTrigger
	text := recipeOf(ctx, nil)
	if text != `{"clone":"https://git.example.com/acme/infra.git","head":"fork/infra","auto":true}` {
		t.Error(text)
	}
	read, err := readRecipe(strings.Replace(text, "{", `{"later":[1],`, 1))
	must(t, err)
	parser := &events.EventParser{GitlabHostname: "git.example.com", AzureDevopsUser: "azure"}
	waiter := atlock.Waiter{Repo: repo, HostType: int(models.Gitlab)}
	base, head, err := read.repositories(parser, waiter)
	if err != nil || base.FullName != repo || head.FullName != "fork/infra" {
		t.Errorf("%+v, %+v, %v", base, head, err)
	}
	waiter.HostType = int(models.AzureDevops)
	if base, head, err := read.repositories(parser, waiter); err != nil || head != nil || !strings.Contains(base.CloneURL, "azure:") {
		t.Errorf("%+v, %+v, %v", base, head, err)
	}
	waiter.HostType = int(models.BitbucketCloud)
	if _, _, err := read.repositories(parser, waiter); err == nil || isPlannable(models.BitbucketCloud) {
		t.Error("Bitbucket tells too little for a plan")
	}
	read.Clone = "https://git.example.com/another/repository.git"
	waiter.HostType = int(models.Gitlab)
	if _, _, err := read.repositories(parser, waiter); err == nil {
		t.Error("a repository at another's URL")
	}
}

// It ends with the server, whatever it is doing.
func TestItEndsWithTheServer(t *testing.T) {
	r := newReplanning(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.run(ctx); close(ended) }()
	stop()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
}
