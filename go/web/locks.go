package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// rowsPerPage bounds what is rendered, and in native mode what is asked of Redis.
const rowsPerPage = 50

// lockRow is a lock, as far as it is ever shown.
type lockRow struct {
	key       string
	Repo      string
	PullNum   int
	PullURL   string
	Path      string
	Workspace string
	Project   string
	Holder    string
	Taken     time.Time
	Token     uint64
	Store     string
	Waiting   int // how many pull requests wait for it
	OfPull    int // how many locks its pull request has
	OfRepo    int // how many its repository has
}

// newRow takes from a lock what is shown; everything else, clone URLs above all, stays behind.
func newRow(lock *models.ProjectLock) lockRow {
	holder := lock.User.Username
	if holder == "" {
		holder = lock.Pull.Author
	}
	return lockRow{
		key:       models.GenerateLockKey(lock.Project, lock.Workspace),
		Repo:      lock.Project.RepoFullName,
		PullNum:   lock.Pull.Num,
		PullURL:   lock.Pull.URL,
		Path:      lock.Project.Path,
		Workspace: lock.Workspace,
		Project:   release.ProjectName(lock.Project),
		Holder:    holder,
		Taken:     lock.Time,
	}
}

// LockPath is Atlantis's own page of the lock, below the base path. It decodes the id twice.
func (r lockRow) LockPath() string {
	return "/lock?id=" + url.QueryEscape(url.QueryEscape(r.key))
}

// DetailPath is the page of the lock that tells more.
func (r lockRow) DetailPath() string { return DetailPath + "?id=" + url.QueryEscape(r.key) }

// Key is the lock's key, as the value of a form.
func (r lockRow) Key() string { return r.key }

// PullName is the pull request of the lock, as the value of a form.
func (r lockRow) PullName() string { return pullName(r.Repo, r.PullNum) }

// PullLink is its pull request.
func (r lockRow) PullLink() pullLink { return pullLink{r.PullNum, r.PullURL} }

// matches tells whether all words are in what is shown.
func (r lockRow) matches(words []string) bool {
	if len(words) == 0 {
		return true
	}
	text := strings.ToLower(fmt.Sprintf("%s #%d %s %s %s %s", r.Repo, r.PullNum, r.Path, r.Workspace, r.Project, r.Holder))
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// lockTable is one page of the locks that match a filter.
type lockTable struct {
	Rows                []lockRow
	Heads               []headView
	Sort                sorting
	Filter              string
	All, Matching       int
	First, Last         int    // of those matching, from 1
	Previous, Following string // queries; empty at the ends
	Error               string
}

// longestFilter bounds a filter, in bytes: each word of it is looked for in each lock.
const longestFilter = 200

// pageName names the page that a request wants: requests with one name see the same. Of a filter that is too long nothing is seen.
func pageName(r *http.Request) string {
	filter := r.URL.Query().Get("filter")
	if len(filter) > longestFilter {
		return "too long"
	}
	return fmt.Sprintf("%d %s %q", pageNumber(r.URL.Query()), sortingOf(r.URL.Query()), filter)
}

// pageNumber is the page of the table that a query wants.
func pageNumber(query url.Values) int {
	number, err := strconv.Atoi(query.Get("page"))
	if err != nil {
		return 1
	}
	return max(number, 1)
}

// newLockTable shows the locks, or why they cannot be read; filter, order and page come from the query.
func newLockTable(database Database, mode atlock.Mode, query url.Values, locks []models.ProjectLock, queue waiting, err error) lockTable {
	table := lockTable{Filter: query.Get("filter"), Sort: sortingOf(query)}
	if err != nil {
		table.Error = withoutCredentials(err.Error())
		return table
	}
	table.All = len(locks)
	ofPull, ofRepo := map[string]int{}, map[string]int{}
	for _, lock := range locks {
		ofPull[pullName(lock.Project.RepoFullName, lock.Pull.Num)]++
		ofRepo[lock.Project.RepoFullName]++
	}
	words := strings.Fields(strings.ToLower(table.Filter))
	rows := make([]lockRow, 0, len(locks))
	for i := range locks {
		if row := newRow(&locks[i]); row.matches(words) {
			row.OfPull, row.OfRepo, row.Waiting = ofPull[row.PullName()], ofRepo[row.Repo], queue.counts[row.key]
			rows = append(rows, row)
		}
	}
	table.Sort.sort(rows)
	table.Heads = table.Sort.heads(table.Filter, queue.HasQueue)
	table.cut(rows, pageNumber(query))
	table.stand(database, mode)
	return table
}

// cut keeps one page of the rows.
func (t *lockTable) cut(rows []lockRow, number int) {
	t.Matching = len(rows)
	pages := max(1, (len(rows)+rowsPerPage-1)/rowsPerPage)
	number = min(number, pages)
	first := (number - 1) * rowsPerPage
	t.Rows = slices.Clone(rows[first:min(first+rowsPerPage, len(rows))])
	t.First, t.Last = min(first+1, len(rows)), first+len(t.Rows)
	if number > 1 {
		t.Previous = tableQuery(t.Filter, t.Sort, number-1)
	}
	if number < pages {
		t.Following = tableQuery(t.Filter, t.Sort, number+1)
	}
}

// stand adds token and store to the rows. Where that cannot be known, the rest is shown all the same.
func (t *lockTable) stand(database Database, mode atlock.Mode) {
	keys := make([]string, len(t.Rows))
	for i := range t.Rows {
		keys[i] = t.Rows[i].key
		t.Rows[i].PullURL = webAddress(t.Rows[i].PullURL)
	}
	infos, err := database.LockInfo(keys)
	if err != nil || len(infos) != len(keys) {
		infos = make([]atlock.LockInfo, len(keys))
	}
	for i, info := range infos {
		t.Rows[i].Token, t.Rows[i].Store = uint64(info.Token), placeText(mode, info.Store)
	}
}

// placeText tells which store has a lock. In hybrid mode, one that the local store does not know was taken by another server.
func placeText(mode atlock.Mode, store string) string {
	switch {
	case store == "both":
		return "Redis, local"
	case store == "pending":
		return "being settled"
	case store == "enhanced", store == "" && mode != "strict":
		return "Redis"
	case mode == "hybrid":
		return "local only"
	default:
		return "local"
	}
}
