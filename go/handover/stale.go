package handover

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// staleLook is the time between two looks at all locks.
	staleLook = time.Minute
	// staleAge: an older lock is looked at also if nobody waits for it. An age is a reason to look, and evidence of nothing.
	staleAge = 24 * time.Hour
	// staleConfirm is how long evidence must have stood when it is seen again, to count.
	staleConfirm = 10 * time.Minute
	// staleQuestions is the time between two questions to the Git host.
	staleQuestions = time.Second
)

// Evidence that nobody will release a lock.
const (
	// EvidenceClosed: the Git host says that the pull request is closed, so its webhook was lost, or its close failed half way.
	EvidenceClosed = "closed"
	// EvidenceOrphan: the pull request's status does not have the project any more, so that no plan of it would release the lock.
	EvidenceOrphan = "orphan"
)

var (
	staleLocks = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "atlock_stale_locks", Help: "Locks that nobody will release, by the evidence, which was seen twice.",
	}, []string{"evidence"})
	staleReleased = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atlock_stale_released_total", Help: "Pull requests whose locks were released because their Git host said that they are closed.",
	}, []string{"result"})
)

func init() { prometheus.MustRegister(staleLocks, staleReleased) }

// StaleLock is a lock that nobody will release.
type StaleLock struct {
	Key       string    `json:"key"`
	Repo      string    `json:"repo"`
	Pull      int       `json:"pull"`
	URL       string    `json:"url"`
	User      string    `json:"user"`      // who locked
	Locked    time.Time `json:"locked"`    // when
	Evidence  string    `json:"evidence"`  // closed, or orphan
	Since     time.Time `json:"since"`     // when the evidence was seen first
	Confirmed bool      `json:"confirmed"` // it was seen again, ten minutes later or more, with the same grant
}

// sweeper looks for locks that nobody will release.
//
// Evidence is what the Git host or our own data say, and never an age. It counts once it was seen twice, so long apart that a close under way
// is over, of the very same grant, and with no command of the pull request at work on this server. An error of the Git host (also 404 and
// 401: a token may have lost its rights) is no evidence, and undoes none. Only a pull request that is closed is ever released, by Atlantis's
// own cleaner, as its webhook would have done: a lock of an open pull request is for people.
//
// Bitbucket does not tell whether a pull request is closed. What was seen once is known to this process alone: after a restart it is seen anew.
type sweeper struct {
	handover *Handover
	live     pullFetcher
	cleaner  events.PullCleaner
	mode     atlock.StaleLocks
	logger   logging.SimpleLogging
	now      func() time.Time
	between  time.Duration // two questions

	mutex sync.Mutex
	seen  map[string]sighting // by the lock's key
	asked map[pullKey]time.Time
}

// sighting is evidence about a lock.
type sighting struct {
	lock      models.ProjectLock
	evidence  string
	token     atlock.FencingToken
	since     time.Time
	confirmed bool
}

// run looks until the context is done.
func (s *sweeper) run(ctx context.Context) {
	for sleep(ctx, staleLook) {
		if err := s.look(ctx); err != nil {
			s.logger.Warn("locks that nobody will release are not looked for: %v", err)
		}
	}
}

// found are the locks of which there is evidence, by their keys.
func (s *sweeper) found() []StaleLock {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := []StaleLock{}
	for _, key := range slices.Sorted(maps.Keys(s.seen)) {
		of := s.seen[key]
		found = append(found, StaleLock{
			Key: key, Repo: of.lock.Project.RepoFullName, Pull: of.lock.Pull.Num, URL: of.lock.Pull.URL, User: of.lock.User.Username,
			Locked: of.lock.Time, Evidence: of.evidence, Since: of.since, Confirmed: of.confirmed,
		})
	}
	return found
}

// look looks at all locks once.
func (s *sweeper) look(ctx context.Context) error {
	locks, err := s.handover.database.List()
	if err != nil {
		return err
	}
	s.forget(locks)
	byPull := map[pullKey][]models.ProjectLock{}
	for _, lock := range locks {
		if lock.Pull.Num > 0 && lock.Pull.BaseRepo.FullName != "" {
			key := keyOf(lock.Pull.BaseRepo, lock.Pull.Num)
			byPull[key] = append(byPull[key], lock)
		}
	}
	wanted := s.wanted()
	for key, of := range byPull {
		s.orphans(key, of)
		isOld := func(lock models.ProjectLock) bool {
			return wanted[models.GenerateLockKey(lock.Project, lock.Workspace)] || s.now().Sub(lock.Time) > staleAge
		}
		if slices.ContainsFunc(of, isOld) && s.now().Sub(s.asked[key]) >= staleConfirm {
			if !sleep(ctx, s.between) {
				return nil
			}
			s.ask(key, of)
		}
	}
	s.tell()
	return nil
}

// forget drops what was seen of locks that are gone.
func (s *sweeper) forget(locks []models.ProjectLock) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	held := map[string]bool{}
	pulls := map[pullKey]bool{}
	for _, lock := range locks {
		held[models.GenerateLockKey(lock.Project, lock.Workspace)] = true
		pulls[keyOf(lock.Pull.BaseRepo, lock.Pull.Num)] = true
	}
	maps.DeleteFunc(s.seen, func(key string, _ sighting) bool { return !held[key] })
	maps.DeleteFunc(s.asked, func(key pullKey, _ time.Time) bool { return !pulls[key] })
}

// wanted are the keys for which somebody waits. A queue that cannot be read says nothing.
func (s *sweeper) wanted() map[string]bool {
	wanted := map[string]bool{}
	queues, err := s.handover.database.Queues("")
	if err != nil {
		return wanted
	}
	for _, queue := range queues {
		for _, waiting := range queue {
			for key := range waiting.Keys {
				wanted[key] = true
			}
		}
	}
	return wanted
}

// orphans looks for locks of projects that the pull request's status does not have.
func (s *sweeper) orphans(key pullKey, locks []models.ProjectLock) {
	status, err := s.handover.database.GetPullStatus(locks[0].Pull)
	if err != nil || status == nil || s.handover.open.busy(key) != nil {
		return
	}
	for _, lock := range locks {
		name := models.GenerateLockKey(lock.Project, lock.Workspace)
		has := slices.ContainsFunc(status.Projects, func(project models.ProjectStatus) bool {
			return lockKey(lockOf(project, lock.Pull)) == name
		})
		s.saw(lock, EvidenceOrphan, !has)
	}
}

// ask asks the Git host whether a pull request is closed.
func (s *sweeper) ask(key pullKey, locks []models.ProjectLock) {
	pull := locks[0].Pull
	s.asked[key] = s.now()
	if !isPlannable(pull.BaseRepo.VCSHost.Type) {
		return
	}
	found, err := s.live.GetLivePullIdentity(command.ProjectContext{Log: s.logger, Pull: pull})
	if err != nil {
		s.logger.Info("whether #%d of %s is closed cannot be asked: %v", pull.Num, key.repo, err)
		return
	}
	isClosed, isCertain := found.State != models.OpenPullState, true
	for _, lock := range locks {
		isCertain = s.saw(lock, EvidenceClosed, isClosed) && isCertain
	}
	if isClosed && isCertain && s.mode == atlock.StaleRelease && s.handover.open.busy(key) == nil {
		_ = s.release(pull, atlock.Actor{Via: atlock.ViaStaleLocks}) // it is told, and tried again
	}
}

// saw writes down whether there is this evidence about a lock, and tells whether it counts.
func (s *sweeper) saw(lock models.ProjectLock, evidence string, is bool) bool {
	key := models.GenerateLockKey(lock.Project, lock.Workspace)
	checked, err := s.handover.database.For(lock.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before, known := s.seen[key]
	switch {
	case err != nil || !checked.Holds:
		return false // it changed hands, or cannot be asked: the next look sees
	case !is:
		if known && before.evidence == evidence {
			delete(s.seen, key)
		}
		return false
	case !known || before.token != checked.Token || !before.lock.Time.Equal(lock.Time) || before.evidence != evidence && evidence == EvidenceClosed:
		s.seen[key] = sighting{lock, evidence, checked.Token, s.now(), false}
		return false
	case before.evidence != evidence: // closed says more than orphan
		return false
	}
	if !before.confirmed && s.now().Sub(before.since) >= staleConfirm {
		before.confirmed = true
		s.seen[key] = before
		s.logger.Warn("nobody will release the lock %q of #%d: %s, seen since %s", key, lock.Pull.Num, evidence, before.since.UTC().Format(time.RFC3339))
	}
	return before.confirmed
}

// release does what the pull request's close would have done.
func (s *sweeper) release(pull models.PullRequest, by atlock.Actor) error {
	s.logger.Warn("#%d of %s is closed: releasing its locks", pull.Num, pull.BaseRepo.FullName)
	cleans := s.cleaner
	if ours, is := cleans.(cleaner); is {
		ours.actor = by
		cleans = ours
	}
	if err := cleanUp(cleans, s.logger, pull.BaseRepo, pull); err != nil {
		staleReleased.WithLabelValues("error").Inc()
		s.logger.Err("#%d of %s is closed, and its locks could not be released; that is tried again in %v: %v",
			pull.Num, pull.BaseRepo.FullName, staleConfirm, err)
		return err
	}
	staleReleased.WithLabelValues("ok").Inc()
	return nil
}

// tell sets the metrics.
func (s *sweeper) tell() {
	counts := map[string]int{EvidenceClosed: 0, EvidenceOrphan: 0}
	for _, lock := range s.found() {
		if lock.Confirmed {
			counts[lock.Evidence]++
		}
	}
	for evidence, number := range counts {
		staleLocks.WithLabelValues(evidence).Set(float64(number))
	}
}

// Stale are the locks that nobody will release, as far as there is evidence; nil where nobody looks.
func (h *Handover) Stale() []StaleLock {
	if h.sweeper == nil {
		return nil
	}
	return h.sweeper.found()
}

// staleMode is what is done about locks that nobody will release.
func (o Options) staleMode() atlock.StaleLocks {
	return cmp.Or(o.Settings.Locking.Enhanced.StaleLocks, atlock.StaleReport)
}
