package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

const (
	// planners is how many pull requests one server plans at once by itself.
	planners = 2
	// claim is for how long no other server plans a pull request that this one is about to plan. What could not be tried is tried again then.
	claim = 30 * time.Second
	// collecting is how long a pull request's further locks are waited for: one command mostly releases several.
	collecting = 2 * time.Second
	// lookEvery is how often somebody is looked for of whom another server's command made it the turn.
	lookEvery = 2 * time.Second
	// pauseAfterError is the time until the queue is asked again.
	pauseAfterError = 5 * time.Second
)

// How a turn ended, as `atlock_replans_total` has it.
const (
	resultPlanned   = "planned"   // its locks were taken, or the plan said why not
	resultFailed    = "failed"    // a lock that was kept for it was not even tried
	resultPostponed = "postponed" // what has to be known could not be found out; it is tried again
	resultSkipped   = "skipped"   // it is closed, or cannot be planned
	resultNotified  = "notified"  // people were told that it is their turn
	resultLeft      = "left"      // people were told that it waits no more
)

// replans counts turns. Without a queue it has no samples.
var replans = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "atlock_replans_total", Help: "Turns of waiting pull requests, by what came of them.",
}, []string{"result"})

func init() { prometheus.MustRegister(replans) }

func count(result string) { replans.WithLabelValues(result).Inc() }

// replanner plans pull requests whose turn it is, or tells people so.
//
// Whom to plan the library says, to one server at a time (atlock.Database.Next); this asks the Git host whether the pull request is open, and
// then gives Atlantis the command that its author would give. It holds no state: what it was about to do when its server died, any server
// does when the claim is over.
//
// Each planner plans one pull request after the other, so that a release of many locks starts no more plans than there are planners. What
// cannot be found out (the Git host does not answer) is no evidence: the pull request keeps its place and its turn, and is tried again.
// What was tried and came to nothing ends the pull request's wait for that lock, because it would come to nothing again.
type replanner struct {
	database  *atlock.Database
	mode      atlock.Replan // atlock.ReplanAuto or atlock.ReplanNotify
	runner    events.CommandRunner
	live      pullFetcher
	client    vcs.Client
	parser    events.EventParsing
	allowlist *events.RepoAllowlistChecker
	drainer   *events.Drainer
	// autoplanOff: Atlantis plans nothing of itself. disabledBy is a label that says so of one pull request.
	autoplanOff bool
	disabledBy  string
	words       words
	logger      logging.SimpleLogging
	// collecting is how long this one waits for further locks.
	collecting time.Duration
}

// replannerOf has the parts of a server. Each is there in a server that serves.
func replannerOf(atlantis *server.Server, database *atlock.Database, live *live, words words) *replanner {
	runner := atlantis.CommandRunner
	return &replanner{
		database: database, mode: words.replan, runner: runner, live: live, client: words.client,
		parser: atlantis.VCSEventsController.Parser, allowlist: atlantis.VCSEventsController.RepoAllowlistChecker,
		drainer: runner.Drainer, autoplanOff: runner.DisableAutoplan, disabledBy: runner.DisableAutoplanLabel, words: words, logger: atlantis.Logger,
		collecting: collecting,
	}
}

// run plans until the context is done, or the database is closed. A plan that has begun is waited for: Atlantis's server waits for it, too.
func (r *replanner) run(ctx context.Context) {
	var planning sync.WaitGroup
	for range planners {
		planning.Go(func() {
			for r.next(ctx) {
			}
		})
	}
	planning.Wait()
}

// next plans the next one, if there is one before long; false: it is over.
func (r *replanner) next(ctx context.Context) bool {
	request := atlock.NextRequest{Claim: claim, Most: 1, Wait: lookEvery}
	if r.mode == atlock.ReplanNotify {
		request.Claim = 0 // told once
	}
	next, err := r.database.Next(request)
	switch {
	case errors.Is(err, atlock.ErrClosed), ctx.Err() != nil:
		return false
	case err != nil:
		r.logger.Warn("whose turn it is cannot be told, and is asked again in %v: %v", pauseAfterError, err)
		return sleep(ctx, pauseAfterError)
	}
	for _, left := range next.Left {
		r.tell(left.Waiter, resultLeft, r.words.left(projectNames(left.Repo, left.Keys)))
	}
	for _, turn := range next.Turns {
		r.turn(ctx, turn)
	}
	return true
}

// turn plans one pull request, or tells people that it is its turn.
func (r *replanner) turn(ctx context.Context, turn atlock.Turn) {
	recipe, err := readRecipe(turn.Recipe)
	if err != nil {
		r.logger.Warn("#%d of %s is not planned by itself: %v", turn.Pull.Num, turn.Repo, err)
		count(resultSkipped)
		r.notify(turn)
		return
	}
	if r.mode == atlock.ReplanNotify || recipe.Extra || !isPlannable(models.VCSHostType(turn.HostType)) {
		r.notify(turn)
		return
	}
	if !sleep(ctx, r.collecting) || r.drainer.GetStatus().ShuttingDown {
		return // another server, or the next start of this one, does it
	}
	base, head, err := recipe.repositories(r.parser, turn.Waiter)
	switch {
	case err != nil:
		r.drop(turn, fmt.Sprintf("its repository cannot be made from %q: %v", recipe.Clone, err))
		return
	case !r.allowlist.IsAllowlisted(base.FullName, base.VCSHost.Hostname):
		r.drop(turn, "its repository is not in Atlantis's allowlist any more")
		return
	}
	pull, err := r.look(base, turn.Pull.Num)
	switch {
	case errors.Is(err, errUnreadable):
		r.logger.Warn("#%d of %s is next: %v", turn.Pull.Num, turn.Repo, err)
		r.drop(turn, "what the Git host tells of it cannot be read, as of a pull request whose fork is gone")
		return
	case err != nil:
		r.logger.Warn("#%d of %s is next, but the Git host does not tell whether it is open; it is tried again in %v: %v",
			turn.Pull.Num, turn.Repo, claim, err)
		count(resultPostponed)
		return
	case pull.State != models.OpenPullState:
		r.logger.Info("#%d of %s is closed and waits no more", turn.Pull.Num, turn.Repo)
		r.leave(turn.Waiter)
		count(resultSkipped)
		return
	case recipe.Auto && r.isAutoplanOff(base, pull):
		r.notify(turn)
		return
	}
	r.plan(turn, base, head)
}

// look asks the Git host.
func (r *replanner) look(base models.Repo, num int) (models.PullRequest, error) {
	return r.live.GetLivePullIdentity(command.ProjectContext{
		Log: r.logger, Pull: models.PullRequest{Num: num, BaseRepo: base},
	})
}

// isAutoplanOff: Atlantis would not plan this pull request of itself. A Git host that does not tell its labels says nothing.
func (r *replanner) isAutoplanOff(base models.Repo, pull models.PullRequest) bool {
	if r.autoplanOff || r.disabledBy == "" {
		return r.autoplanOff
	}
	labels, err := labelsBy(r.client)(r.logger, base, pull)
	return err == nil && slices.Contains(labels, r.disabledBy)
}

// plan gives Atlantis the commands, and ends the wait for what came to nothing.
func (r *replanner) plan(turn atlock.Turn, base models.Repo, head *models.Repo) {
	keys, others, err := r.reserved(turn)
	if err != nil {
		r.logger.Warn("#%d of %s is next, but the queue cannot be read; it is tried again in %v: %v", turn.Pull.Num, turn.Repo, claim, err)
		count(resultPostponed)
		return
	}
	if len(keys) == 0 {
		return // somebody planned, or unlocked, meanwhile
	}
	user := models.User{Username: turn.User}
	for _, comment := range r.commands(turn, keys, others) {
		r.logger.Info("it is the turn of #%d of %s: planning %s for %s", turn.Pull.Num, turn.Repo, projectNames(turn.Repo, keys), turn.User)
		r.runner.RunCommentCommand(base, head, nil, user, turn.Pull.Num, comment)
	}
	// What is still kept for it was not even tried: the plan did not begin, or the project is gone. Atlantis mostly says why, and not of
	// everything: not if it cannot tell whether the author may plan, for example.
	kept, _, err := r.reserved(turn)
	if err != nil {
		r.logger.Warn("whether the plan of #%d of %s took its locks cannot be read: %v", turn.Pull.Num, turn.Repo, err)
		return
	}
	kept = slices.DeleteFunc(kept, func(key string) bool { return !slices.Contains(keys, key) })
	if len(kept) == 0 {
		count(resultPlanned)
		return
	}
	r.logger.Warn("the plan of #%d of %s did not take %s, which was kept for it: it waits for that no more",
		turn.Pull.Num, turn.Repo, projectNames(turn.Repo, kept))
	r.leave(turn.Waiter, kept...)
	r.tell(turn.Waiter, resultFailed, r.words.notTaken(projectNames(turn.Repo, kept)))
}

// reserved are the locks that are kept for a pull request now, and those for which it waits besides.
func (r *replanner) reserved(turn atlock.Turn) (kept, others []string, err error) {
	queues, err := r.database.Queues(turn.Repo)
	if err != nil {
		return nil, nil, err
	}
	for _, queued := range queues[turn.Repo] {
		if queued.Pull != turn.Pull {
			continue
		}
		for key, place := range queued.Keys {
			if place.ReservedUntil != nil {
				kept = append(kept, key)
			} else {
				others = append(others, key)
			}
		}
	}
	slices.Sort(kept)
	return kept, others, nil
}

// commands are one plan of the whole pull request, if it waits for nothing besides and holds nothing, or else one for each lock: a plan of
// the whole would discard the plans that it has.
func (r *replanner) commands(turn atlock.Turn, keys, others []string) []*events.CommentCommand {
	if len(others) == 0 && !r.holdsAny(turn) {
		return []*events.CommentCommand{{Name: command.Plan}}
	}
	comments := make([]*events.CommentCommand, len(keys))
	for i, key := range keys {
		lock := lockOfKey(turn.Repo, key)
		if release.ProjectName(lock.Project) != "" {
			comments[i] = &events.CommentCommand{Name: command.Plan, ProjectName: release.ProjectName(lock.Project)}
		} else {
			comments[i] = &events.CommentCommand{Name: command.Plan, RepoRelDir: lock.Project.Path, Workspace: lock.Workspace}
		}
	}
	return comments
}

// holdsAny tells whether the pull request has a lock. Where that cannot be told, it is taken to have one.
func (r *replanner) holdsAny(turn atlock.Turn) bool {
	locks, err := r.database.List()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(locks, func(lock models.ProjectLock) bool {
		return lock.Pull.Num == turn.Pull.Num && lock.Project.RepoFullName == turn.Repo
	})
}

// notify tells people that it is their pull request's turn.
func (r *replanner) notify(turn atlock.Turn) {
	r.tell(turn.Waiter, resultNotified, r.words.turnOf(projectNames(turn.Repo, turn.Keys), turn.Until.Time()))
}

// drop ends the wait of a pull request that cannot be planned, and says why.
func (r *replanner) drop(turn atlock.Turn, why string) {
	r.logger.Warn("#%d of %s waits no more: %s", turn.Pull.Num, turn.Repo, why)
	r.leave(turn.Waiter)
	r.tell(turn.Waiter, resultSkipped, r.words.dropped(why))
}

// leave ends the wait of a pull request: for these locks, or without one for all.
func (r *replanner) leave(waiter atlock.Waiter, keys ...string) {
	repo := models.Repo{FullName: waiter.Repo, VCSHost: models.VCSHost{Hostname: waiter.Pull.Host}}
	locks := make([]atlock.ProjectWorkspace, len(keys))
	for i, key := range keys {
		locks[i] = lockOfKey(waiter.Repo, key)
	}
	pull := models.PullRequest{Num: waiter.Pull.Num, BaseRepo: repo}
	if _, err := r.database.For(pull).Leave(locks...); err != nil {
		r.logger.Warn("#%d of %s could not be taken out of the queue, and is passed over when its time is over: %v",
			waiter.Pull.Num, waiter.Repo, err)
	}
}

// tell comments on a pull request.
func (r *replanner) tell(waiter atlock.Waiter, result, text string) {
	count(result)
	recipe, err := readRecipe(waiter.Recipe)
	if err == nil {
		var base models.Repo
		if base, _, err = recipe.repositories(r.parser, waiter); err == nil {
			err = comment(r.client, r.logger, base, waiter.Pull.Num, text, "")
		}
	}
	if err != nil {
		r.logger.Warn("#%d of %s could not be told %q: %v", waiter.Pull.Num, waiter.Repo, text, err)
	}
}

// sleep waits; false: the context is done.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
