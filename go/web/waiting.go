package web

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// waitRows bounds how many rows of the queues are rendered; all of them are at [QueuePath].
const waitRows = 50

// waiting is who waits for locks, and what else keeps locks from being taken.
type waiting struct {
	HasQueue bool
	Only     string // the repositories that have a queue, if not all
	Error    string
	Repos    []repoQueue
	Pulls    int // who wait
	More     int // rows that are not shown
	Circles  []circleView
	Freezes  []freezeView
	Applies  applyView

	counts map[string]int       // how many wait for a lock, by its key
	rows   map[string][]waitRow // who waits for a lock, by its key
	links  map[pullOfRepo]string
}

type pullOfRepo struct {
	repo string
	pull atlock.PullID
}

// repoQueue is the queue of a repository.
type repoQueue struct {
	Repo string
	Rows []waitRow
}

// waitRow is a pull request that waits for a lock.
type waitRow struct {
	Lock     string // without the repository
	Place    int
	Pull     pullLink
	User     string
	Since    timeView
	Priority string
	For      string // what it waits for
	Until    string // until when the lock is kept for it
}

// pullLink is a pull request's number, and its page if that is known.
type pullLink struct {
	Num int
	URL string
}

// circleView is pull requests that wait for each other.
type circleView struct {
	Repo       string
	Pulls      []pullLink // the first again at the end
	Locks      []string
	Since      time.Time
	Suggestion string
}

// freezeView is locks that nobody takes for now.
type freezeView struct {
	Locks, Owner, Reason, Until, Plans, ID string
}

// applyView is Atlantis's global apply lock.
type applyView struct {
	Since time.Time // zero: it is not held
	Error string
}

// newWaiting reads queues, circles, freezes and the global apply lock. Without a queue in the settings nothing is told of one.
func newWaiting(database Database, locks []models.ProjectLock, now time.Time) waiting {
	found := waiting{counts: map[string]int{}, rows: map[string][]waitRow{}, links: map[pullOfRepo]string{}}
	found.Applies = newApplyView(database)
	queues, err := database.Queues("")
	if errors.Is(err, atlock.ErrQueueDisabled) {
		return found
	}
	found.HasQueue = true
	found.fault(err)
	holders := map[string]*models.ProjectLock{}
	for i := range locks {
		lock := &locks[i]
		holders[models.GenerateLockKey(lock.Project, lock.Workspace)] = lock
		pull := atlock.PullID{Host: lock.Pull.BaseRepo.VCSHost.Hostname, Num: lock.Pull.Num}
		found.links[pullOfRepo{lock.Project.RepoFullName, pull}] = webAddress(lock.Pull.URL)
	}
	found.addQueues(queues, holders, now)
	freezes, err := database.Freezes()
	found.fault(err)
	for _, freeze := range freezes {
		found.Freezes = append(found.Freezes, newFreezeView(cleanFreeze(freeze), now))
	}
	circles, err := database.Deadlocks()
	if !errors.Is(err, atlock.ErrUnsupported) {
		found.fault(err)
	}
	for _, circle := range circles {
		found.Circles = append(found.Circles, found.newCircleView(circle))
	}
	return found
}

// only are the patterns of the repositories that have a queue, where others have none.
func only(patterns []string) string {
	if slices.Contains(patterns, "*") {
		return ""
	}
	return strings.Join(patterns, ", ")
}

// facts are the figures about waiting.
func (w *waiting) facts() []fact {
	if !w.HasQueue {
		return nil
	}
	return []fact{
		{"waiting", counted(w.Pulls, "pull", "pulls"), ""},
		{"circles", fmt.Sprint(len(w.Circles)), pick(len(w.Circles) == 0, "", bad)},
		{"freezes", fmt.Sprint(len(w.Freezes)), pick(len(w.Freezes) == 0, "", warn)},
	}
}

// fault keeps the first error.
func (w *waiting) fault(err error) {
	if err != nil && w.Error == "" {
		w.Error = withoutCredentials(err.Error())
	}
}

func (w *waiting) addQueues(queues map[string][]atlock.QueuedPull, holders map[string]*models.ProjectLock, now time.Time) {
	shown := 0
	for _, repo := range sortedNames(queues) {
		queue := repoQueue{Repo: repo}
		for _, pull := range queues[repo] {
			w.Pulls++
			w.links[pullOfRepo{repo, pull.Pull}] = webAddress(pull.URL)
			for key := range pull.Keys {
				w.counts[key]++
				row := newWaitRow(repo, pull, key, holders[key], now)
				queue.Rows, w.rows[key] = append(queue.Rows, row), append(w.rows[key], row)
			}
		}
		slices.SortFunc(queue.Rows, inLine)
		fit := min(len(queue.Rows), waitRows-shown)
		w.More += len(queue.Rows) - fit
		if shown += fit; fit > 0 {
			queue.Rows = queue.Rows[:fit]
			w.Repos = append(w.Repos, queue)
		}
	}
}

// inLine is the order in which who waits is shown: by lock, and the next one first.
func inLine(a, b waitRow) int {
	return cmp.Or(strings.Compare(a.Lock, b.Lock), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Pull.Num, b.Pull.Num))
}

// of are the first who wait for a lock, as many as are shown.
func (w *waiting) of(key string) []waitRow {
	rows := w.rows[key]
	slices.SortFunc(rows, inLine)
	return rows[:min(len(rows), waitRows)]
}

func sortedNames(queues map[string][]atlock.QueuedPull) []string {
	names := make([]string, 0, len(queues))
	for name := range queues {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func newWaitRow(repo string, pull atlock.QueuedPull, key string, holder *models.ProjectLock, now time.Time) waitRow {
	place := pull.Keys[key]
	row := waitRow{
		Lock:     lockName(repo, key),
		Place:    place.Position,
		Pull:     pullLink{pull.Pull.Num, webAddress(pull.URL)},
		User:     pull.User,
		Since:    age(now, pull.Since.Time()),
		Priority: pull.Priority.String(),
	}
	switch reserved := place.ReservedUntil; {
	case reserved != nil && *reserved == atlock.Forever:
		row.For, row.Until = "the other locks of its set", "all of its set is free"
	case reserved != nil:
		row.For, row.Until = "its plan: the lock is kept for it", clock(reserved.Time(), now)
	case holder != nil:
		row.For = fmt.Sprintf("#%d, which holds the lock", holder.Pull.Num)
	case place.Position > 1:
		row.For = "who is before it"
	case pull.Whole:
		row.For = "the other locks of its set"
	default:
		row.For = "its turn"
	}
	return row
}

// lockName is a key without the repository, and without the end that a project without a name leaves.
func lockName(repo, key string) string {
	return strings.TrimSuffix(strings.TrimPrefix(key, repo+"/"), "/")
}

// clock is a time of today, or one with its day.
func clock(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format("15:04 UTC")
	}
	return at.Format("2006-01-02 15:04 UTC")
}

func (w *waiting) newCircleView(circle atlock.Deadlock) circleView {
	view := circleView{Repo: circle.Repo, Since: circle.Since.Time(), Suggestion: withoutCredentials(circle.Suggestion)}
	for i := range len(circle.Pulls) + 1 {
		pull := circle.Pulls[i%len(circle.Pulls)]
		view.Pulls = append(view.Pulls, pullLink{pull.Num, w.links[pullOfRepo{circle.Repo, pull}]})
	}
	for _, key := range circle.Keys {
		view.Locks = append(view.Locks, lockName(circle.Repo, key))
	}
	return view
}

func newFreezeView(freeze atlock.Freeze, now time.Time) freezeView {
	view := freezeView{Locks: freeze.Pattern.Repo, Owner: freeze.Owner, Reason: freeze.Reason, ID: freeze.ID, Plans: "plans and applies"}
	project := "*"
	if freeze.Pattern.Project != nil {
		project = *freeze.Pattern.Project
	}
	for _, member := range [][2]string{{"folder", freeze.Pattern.Path}, {"workspace", freeze.Pattern.Workspace}, {"project", project}} {
		if name, value := member[0], member[1]; value == "" {
			view.Locks += fmt.Sprintf(", without a %s", name)
		} else if value != "*" {
			view.Locks += fmt.Sprintf(", %s %s", name, value)
		}
	}
	if freeze.Plans == atlock.FreezePlansAllow {
		view.Plans = "applies"
	}
	if view.Until = "ended by somebody"; freeze.Until != nil {
		view.Until = clock(freeze.Until.Time(), now)
	}
	if freeze.From.Time().After(now) {
		view.Until = fmt.Sprintf("from %s until %s", clock(freeze.From.Time(), now), view.Until)
	}
	return view
}

func newApplyView(database Database) applyView {
	lock, err := database.CheckCommandLock(command.Apply)
	switch {
	case err != nil:
		return applyView{Error: withoutCredentials(err.Error())}
	case lock == nil:
		return applyView{}
	default:
		return applyView{Since: lock.LockTime()}
	}
}
