package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// mostReleased bounds how many locks are released at once.
const mostReleased = 300

// The release of locks has two steps, each a form. The first says which: `lock`, a key, again and again; `all`, "pull 7 acme/infra" or
// "repository acme/infra"; or `closed`, "7 acme/infra", all of a pull request that the Git host says is closed. Its answer shows each lock
// as it is, and changes nothing. The second has `release`, and of each lock what was shown.
type releasing struct {
	database Database
	options  Options
}

// releasePage is what the template of both steps sees.
type releasePage struct {
	Options
	Now     time.Time
	Title   string
	Level   string
	Text    string
	Closed  string // for the second step
	Rows    []releaseRow
	Unknown []string // keys that nobody holds
	Done    bool
}

// releaseRow is a lock that is to be released, or was.
type releaseRow struct {
	Key, Repo, Lock string
	Pull            pullLink
	Holder          string
	Taken           time.Time
	Waiting         int
	Notes           []string
	Value           string // the lock as it was shown
	Result, Text    string
	Level           string
}

func (p releasing) serve(w http.ResponseWriter, r *http.Request, form url.Values) error {
	if form.Get("release") != "" {
		return p.release(w, r, form)
	}
	return p.show(w, form)
}

// show is the first step.
func (p releasing) show(w http.ResponseWriter, form url.Values) error {
	locks, err := p.database.List()
	if err != nil {
		return err
	}
	page := releasePage{Options: p.options, Now: time.Now(), Closed: form.Get("closed")}
	chosen, unknown, err := choose(locks, form)
	if err != nil {
		return err
	}
	if page.Closed != "" && !p.isClosed(page.Closed) {
		return fault{http.StatusConflict, "the Git host was not seen to say that this pull request is closed"}
	}
	page.Unknown = unknown
	if all := len(chosen); all > mostReleased {
		if page.Closed != "" {
			return badRequest("the pull request has %d locks, and the page releases %d at once: run `atlock unlock-pull` on the server", all, mostReleased)
		}
		page.Text = fmt.Sprintf("These are the first %d of %d: the others stay as they are.", mostReleased, all)
		chosen = chosen[:mostReleased]
	}
	counts := newWaiting(p.database, locks, page.Now).counts
	for _, lock := range chosen {
		row := newReleaseRow(lock)
		row.Waiting = counts[row.Key]
		look, err := p.options.Actions.Look(lock)
		if _, isStores := errors.AsType[*atlock.Error](err); isStores {
			return err // it does not answer: it is not asked for each lock
		}
		if err != nil {
			row.Notes = []string{"cannot be released: " + p.options.why(err)}
		} else {
			row.Value = shownAs(row.Key, look.Grant)
		}
		for _, note := range look.Notes {
			row.Notes = append(row.Notes, withoutCredentials(note))
		}
		page.Rows = append(page.Rows, row)
	}
	page.Title, page.Level = fmt.Sprintf("Release %s?", counted(len(page.Rows), "lock", "locks")), warn
	if len(page.Rows) == 0 {
		page.Title, page.Level = "No lock is left to release", good
	}
	return page.write(w)
}

// isClosed tells whether this pull request is one of those that were seen closed.
func (p releasing) isClosed(named string) bool {
	repo, num, err := pullNamed(named)
	return err == nil && slices.ContainsFunc(p.options.Actions.Stale(), func(stale StaleLock) bool {
		return stale.Repo == repo && stale.Pull == num && stale.Evidence == "closed"
	})
}

// release is the second step.
func (p releasing) release(w http.ResponseWriter, r *http.Request, form url.Values) error {
	var asked []Asked
	for _, value := range form["lock"] {
		one, err := asShown(value)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(asked, func(other Asked) bool { return other.Key == one.Key }) {
			asked = append(asked, one)
		}
	}
	switch {
	case len(asked) == 0:
		return badRequest("no lock was chosen")
	case len(asked) > mostReleased:
		return badRequest("%d locks are too many at once: %d are the limit", len(asked), mostReleased)
	}
	by := p.options.PageActor(r)
	page := releasePage{Options: p.options, Now: time.Now(), Done: true}
	if closed := form.Get("closed"); closed != "" {
		repo, num, err := pullNamed(closed)
		if err != nil {
			return err
		}
		if err := p.options.Actions.CleanUp(by, repo, num, asked); err != nil {
			showMessage(w, p.options, http.StatusConflict, fmt.Sprintf("The locks of #%d of %s are not released", num, repo),
				"Because: "+p.options.why(err))
			return nil
		}
		page.Title, page.Level = fmt.Sprintf("The locks of #%d of %s are released", num, repo), good
		page.Text = "What its close would have done is done: its plans and clones are deleted, too."
		return page.write(w)
	}
	released := 0
	for _, came := range p.options.Actions.Release(by, asked) {
		row := releaseRow{Key: came.Key, Result: came.Result, Text: withoutCredentials(came.Text)}
		switch came.Result {
		case "released":
			released++
			row.Level = pick(came.Text == "", good, warn)
		case "refused":
			row.Level = bad
		}
		page.Rows = append(page.Rows, row)
	}
	page.Title = fmt.Sprintf("%d of %s released", released, counted(len(asked), "lock is", "locks are"))
	page.Level = pick(released == len(asked), good, warn)
	return page.write(w)
}

// choose are the locks that a form names, by their keys, and the keys that nobody holds.
func choose(locks []models.ProjectLock, form url.Values) (chosen []models.ProjectLock, unknown []string, err error) {
	is, err := chooser(form)
	if err != nil {
		return nil, nil, err
	}
	held := map[string]bool{}
	for _, lock := range locks {
		if key := models.GenerateLockKey(lock.Project, lock.Workspace); is(key, lock) && !held[key] {
			held[key] = true
			chosen = append(chosen, lock)
		}
	}
	slices.SortFunc(chosen, func(a, b models.ProjectLock) int {
		return cmp.Or(strings.Compare(a.Project.RepoFullName, b.Project.RepoFullName), cmp.Compare(a.Pull.Num, b.Pull.Num),
			strings.Compare(models.GenerateLockKey(a.Project, a.Workspace), models.GenerateLockKey(b.Project, b.Workspace)))
	})
	if form.Get("all") != "" || form.Get("closed") != "" {
		return chosen, nil, nil
	}
	for _, key := range form["lock"] {
		if !held[key] && len(unknown) < mostReleased {
			held[key] = true
			unknown = append(unknown, key)
		}
	}
	return chosen, unknown, nil
}

// chooser tells of each lock whether a form names it.
func chooser(form url.Values) (func(key string, lock models.ProjectLock) bool, error) {
	kind, rest, _ := strings.Cut(form.Get("all"), " ")
	switch {
	case form.Get("closed") != "":
		kind, rest = "pull", form.Get("closed")
	case kind == "repository" && rest != "":
		return func(_ string, lock models.ProjectLock) bool { return lock.Project.RepoFullName == rest }, nil
	case kind == "" && len(form["lock"]) > 0:
		return func(key string, _ models.ProjectLock) bool { return slices.Contains(form["lock"], key) }, nil
	case kind == "":
		return nil, badRequest("no lock was chosen")
	}
	if kind != "pull" {
		return nil, badRequest("%.80q is neither a pull request nor a repository", form.Get("all"))
	}
	repo, num, err := pullNamed(rest)
	return func(_ string, lock models.ProjectLock) bool {
		return lock.Project.RepoFullName == repo && lock.Pull.Num == num
	}, err
}

// pullName is a pull request as the value of a form; [pullNamed] reads it.
func pullName(repo string, num int) string { return fmt.Sprintf("%d %s", num, repo) }

func pullNamed(text string) (repo string, num int, err error) {
	number, repo, _ := strings.Cut(text, " ")
	num, err = strconv.Atoi(number)
	if err != nil || repo == "" {
		return "", 0, badRequest("%.80q is no pull request of a repository", text)
	}
	return repo, num, nil
}

// shownAs is a lock as it was shown, in a form; [asShown] reads it.
func shownAs(key string, of Grant) string {
	return fmt.Sprintf("%d.%d.%d %s", of.Pull, of.Token, of.Taken.UnixNano(), key)
}

func asShown(text string) (Asked, error) {
	grant, key, _ := strings.Cut(text, " ")
	parts := strings.Split(grant, ".")
	if len(parts) != 3 || key == "" {
		return Asked{}, badRequest("%.80q is no lock as the page shows it: go back, and choose again", text)
	}
	pull, err := strconv.Atoi(parts[0])
	token, tokenErr := strconv.ParseUint(parts[1], 10, 64)
	taken, takenErr := strconv.ParseInt(parts[2], 10, 64)
	if err = errors.Join(err, tokenErr, takenErr); err != nil {
		return Asked{}, badRequest("%.80q is no lock as the page shows it: go back, and choose again", text)
	}
	return Asked{key, Grant{pull, atlock.FencingToken(token), time.Unix(0, taken)}}, nil
}

func newReleaseRow(lock models.ProjectLock) releaseRow {
	row := newRow(&lock)
	return releaseRow{
		Key: row.key, Repo: row.Repo, Lock: lockName(row.Repo, row.key), Pull: pullLink{row.PullNum, webAddress(row.PullURL)},
		Holder: row.Holder, Taken: row.Taken,
	}
}

func (p releasePage) write(w http.ResponseWriter) error {
	return writePage(w, http.StatusOK, "release.html", p)
}

// showMessage is a page with nothing but a text, and the way back.
func showMessage(w http.ResponseWriter, options Options, code int, title, text string) {
	if err := writePage(w, code, "release.html", releasePage{Options: options, Title: title, Level: bad, Text: text, Done: true}); err != nil {
		http.Error(w, title+": "+text, code)
	}
}
