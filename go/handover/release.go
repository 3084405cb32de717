package handover

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// Grant is a lock as a person saw it.
type Grant struct {
	Pull  int
	Token atlock.FencingToken // [atlock.NoToken] on Atlantis's own store
	Taken time.Time
}

func (g Grant) is(other Grant) bool {
	return g.Pull == other.Pull && g.Token == other.Token && g.Taken.Equal(other.Taken)
}

// Asked is a lock that a person wants released.
type Asked struct {
	Key string
	Grant
}

// Released is what came of that.
type Released struct {
	Key    string
	Result string // [ResultReleased], …
	Text   string // what is to be known of it; empty if there is nothing
}

// Results of a release.
const (
	ResultReleased = "released"
	ResultNotHeld  = "not held"
	ResultRefused  = "refused"
)

// Look is what a person has to know of a lock before it is released.
type Look struct {
	Grant
	Notes []string // what is applied, and what runs
}

// Look looks at a lock. It is an error if the pull request does not hold the lock any more, or the store does not answer.
func (h *Handover) Look(lock models.ProjectLock) (Look, error) {
	grant, err := h.grantOf(lock)
	if err != nil {
		return Look{}, err
	}
	look := Look{Grant: grant}
	switch applied, err := h.appliedOf(lock.Pull); {
	case err != nil:
		look.Notes = append(look.Notes, fmt.Sprintf("whether it is applied is not known: %v", err))
	case applied[models.GenerateLockKey(lock.Project, lock.Workspace)]:
		look.Notes = append(look.Notes, "applied, and not merged")
	}
	if in := h.open.busy(keyOf(lock.Pull.BaseRepo, lock.Pull.Num)); in != nil {
		look.Notes = append(look.Notes, atWork(in))
	}
	return look, nil
}

func atWork(in *bracket) string {
	what := "a plan"
	if in.command == atlock.RunApply {
		what = "an apply"
	}
	return fmt.Sprintf("%s of #%d runs since %s", what, in.pull.Num, clock(in.began))
}

// grantOf is the grant by which the pull request of a lock has it now.
func (h *Handover) grantOf(lock models.ProjectLock) (Grant, error) {
	checked, err := h.database.For(lock.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
	if err != nil {
		return Grant{}, err
	}
	if !checked.Holds {
		return Grant{}, fmt.Errorf("#%d does not hold the lock any more", lock.Pull.Num)
	}
	return Grant{lock.Pull.Num, checked.Token, lock.Time}, nil
}

// CanRelease tells whether there is what releases locks: with --disable-repo-locking nothing of it is wired.
func (h *Handover) CanRelease() bool { return h.locks != nil }

// Release discards locks as Atlantis's own page of each does: with its plan, and a comment. A pull request gets one comment for all of them:
// dozens in a moment would let the Git host shut the server out.
//
// Invariant: what is released is what the person saw. The grant is looked at right before its lock is released, and the release is for the
// pull request's number: a lock that another pull request took in between stays. What the same pull request gave up and took again in the
// microseconds in between would be released; the guard refuses what it would apply.
func (h *Handover) Release(by atlock.Actor, asked []Asked) []Released {
	h.logger.Info("%s asks on the page for the release of %d locks", nameOf(by), len(asked))
	b := batch{handover: h, actor: by, labels: map[pullKey][]string{}}
	for _, one := range asked {
		if b.stopped != nil {
			b.came = append(b.came, Released{one.Key, ResultRefused, fmt.Sprintf("it was not tried: the lock store failed before: %v", b.stopped)})
			continue
		}
		b.release(one)
	}
	b.comment()
	return b.came
}

// mostUnanswered is how often a Git host may fail in a batch until it is asked no more: each time may take long, and a person waits.
const mostUnanswered = 3

// batch is one request for the release of locks.
type batch struct {
	handover   *Handover
	actor      atlock.Actor
	came       []Released
	stopped    error // why no more locks are tried: the lock store does not answer
	labels     map[pullKey][]string
	unanswered int // by the Git host
	comments   []*comments
}

// comments are what a pull request is to be told.
type comments struct {
	repo  models.Repo
	num   int
	texts []string
	of    []int // places in what came of the batch
}

func (b *batch) release(asked Asked) {
	h := b.handover
	var released *models.ProjectLock
	var failed error
	discards := newDiscarder(&h.stockDiscard, h)
	discards.actor, discards.shown, discards.labels = b.actor, &asked.Grant, b.askLabels
	discards.ended = func(lock *models.ProjectLock, err error) { released, failed = lock, err }
	controller := *h.locks
	controller.DeleteLockCommand = discards
	controller.VCSClient = commentCollector{h.locks.VCSClient, b}
	request := mux.SetURLVars(&http.Request{Method: http.MethodDelete, URL: &url.URL{Path: "/locks"}}, map[string]string{"id": url.PathEscape(asked.Key)})
	controller.DeleteLock(newAnswer(), request)
	came := Released{Key: asked.Key, Result: ResultReleased}
	switch {
	case released == nil && failed == nil:
		came.Result = ResultNotHeld
	case released == nil:
		came.Result, came.Text = ResultRefused, failed.Error()
		if _, isStores := errors.AsType[*atlock.Error](failed); isStores {
			b.stopped = failed
		}
	case failed != nil:
		came.Text = fmt.Sprintf("its plan could not be deleted: %v", failed)
	}
	b.came = append(b.came, came)
}

// askLabels asks once for each pull request.
func (b *batch) askLabels(logger logging.SimpleLogging, repo models.Repo, pull models.PullRequest) ([]string, error) {
	key := keyOf(repo, pull.Num)
	if labels, asked := b.labels[key]; asked {
		return labels, nil
	}
	if b.unanswered >= mostUnanswered {
		return nil, errUnanswered
	}
	labels, err := labelsBy(b.handover.locks.VCSClient)(logger, repo, pull)
	if err != nil {
		b.unanswered++
		return nil, err
	}
	b.labels[key] = labels
	return labels, nil
}

var errUnanswered = fmt.Errorf("the Git host failed %d times before", mostUnanswered)

// comment tells each pull request what was discarded. A failure is told to the person.
func (b *batch) comment() {
	for _, told := range b.comments {
		err := errUnanswered
		if b.unanswered < mostUnanswered {
			text := strings.Join(slices.Compact(told.texts), "\n\n")
			err = comment(b.handover.locks.VCSClient, b.handover.logger, told.repo, told.num, text, "")
		}
		if err == nil {
			continue
		}
		b.unanswered++
		b.handover.logger.Warn("#%d could not be told that its plans are discarded: %v", told.num, err)
		for _, at := range told.of {
			b.came[at].Text = fmt.Sprintf("#%d could not be told: %v", told.num, err)
		}
	}
}

// commentCollector is Atlantis's client of the Git hosts, whose comments are posted later.
type commentCollector struct {
	vcs.Client
	batch *batch
}

// collect keeps a comment for later.
func (c commentCollector) collect(repo models.Repo, num int, text string) {
	at := slices.IndexFunc(c.batch.comments, func(told *comments) bool { return keyOf(told.repo, told.num) == keyOf(repo, num) })
	if at < 0 {
		at = len(c.batch.comments)
		c.batch.comments = append(c.batch.comments, &comments{repo: repo, num: num})
	}
	told := c.batch.comments[at]
	told.texts, told.of = append(told.texts, text), append(told.of, len(c.batch.came))
}

// unlockShown releases a lock that is still as it was shown, while nothing of its pull request runs: a plan takes the lock again, and an apply
// needs it.
func (h *Handover) unlockShown(actor atlock.Actor, held models.ProjectLock, shown Grant) (*models.ProjectLock, error) {
	pull := keyOf(held.Pull.BaseRepo, held.Pull.Num)
	if held.Pull.Num != shown.Pull {
		return nil, fmt.Errorf("it was released meanwhile, and #%d holds it since %s", held.Pull.Num, clock(held.Time))
	}
	grant, err := h.grantOf(held)
	if err != nil {
		return nil, err
	}
	if !grant.is(shown) {
		return nil, fmt.Errorf("#%d gave it up meanwhile, and took it again at %s: look again", held.Pull.Num, clock(held.Time))
	}
	if in := h.open.busy(pull); in != nil {
		return nil, fmt.Errorf("%s: try again when that is over", atWork(in))
	}
	lock, err := h.database.As(actor).UnlockIfOwnedByPull(held.Project, held.Workspace, held.Pull.Num)
	if lock == nil || err != nil {
		return nil, err
	}
	// A plan that began at this very moment keeps the lock, and the answer is the same.
	if now, err := h.grantOf(held); err == nil && now.is(shown) && shown.Token != atlock.NoToken {
		return nil, fmt.Errorf("a plan of #%d began just now: try again when that is over", held.Pull.Num)
	}
	h.forget([]models.ProjectLock{*lock})
	return lock, nil
}

// CleanUp releases the locks of a closed pull request, as its close would have done. They have to be those that a person saw, all of them, and
// the Git host is asked once more.
func (h *Handover) CleanUp(by atlock.Actor, repo string, num int, asked []Asked) error {
	if h.sweeper == nil {
		return fmt.Errorf("nobody looks for stale locks: locking.enhanced.stale_locks is %s", atlock.StaleOff)
	}
	locks, err := h.database.List()
	if err != nil {
		return err
	}
	locks = slices.DeleteFunc(locks, func(lock models.ProjectLock) bool {
		return lock.Project.RepoFullName != repo || lock.Pull.Num != num
	})
	if len(locks) == 0 {
		return nil
	}
	for _, lock := range locks {
		key := models.GenerateLockKey(lock.Project, lock.Workspace)
		at := slices.IndexFunc(asked, func(one Asked) bool { return one.Key == key })
		grant, err := h.grantOf(lock)
		if err != nil {
			return err
		}
		if at < 0 || !grant.is(asked[at].Grant) {
			return fmt.Errorf("%q was taken meanwhile: look again", key)
		}
	}
	pull := locks[0].Pull
	if in := h.open.busy(keyOf(pull.BaseRepo, num)); in != nil {
		return fmt.Errorf("%s: try again when that is over", atWork(in))
	}
	found, err := h.sweeper.live.GetLivePullIdentity(command.ProjectContext{Log: h.logger, Pull: pull})
	switch {
	case err != nil:
		return fmt.Errorf("whether #%d is closed cannot be asked: %w. Try again later", num, err)
	case found.State == models.OpenPullState:
		return fmt.Errorf("#%d is open again", num)
	}
	h.logger.Info("%s asks on the page to clean up after #%d of %s, which is closed", nameOf(by), num, repo)
	return h.sweeper.release(pull, by)
}

// UnlockApplies ends Atlantis's global apply lock, also where --disable-global-apply-lock hides its button.
func (h *Handover) UnlockApplies(by atlock.Actor) error {
	h.logger.Info("%s asks on the page to end the global apply lock", nameOf(by))
	answered := newAnswer()
	h.page(by).UnlockApply(answered, &http.Request{Method: http.MethodDelete, URL: &url.URL{Path: "/apply/unlock"}})
	if answered.code != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(answered.text.String()))
	}
	return nil
}

// nameOf is how the log names who asks on a page.
func nameOf(by atlock.Actor) string { return cmp.Or(by.By.User, "somebody") }

// answer is what a handler of Atlantis's answers.
type answer struct {
	header http.Header
	code   int
	text   strings.Builder
}

func newAnswer() *answer { return &answer{header: http.Header{}, code: http.StatusOK} }

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) { a.code = code }

func (a *answer) Write(part []byte) (int, error) { return a.text.Write(part) }
