package web

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// sortable is a column by which the locks can be sorted.
type sortable struct {
	Name, Title string // in a query, and in the table's head
	// compare is the order in which the column is sorted at first; falling: its values get smaller in it.
	compare func(a, b *lockRow) int
	falling bool
}

// columns are in the order of the table. The order of none depends on a store that must be asked for each lock.
var columns = []sortable{
	{Name: "repository", Title: "Repository", compare: func(a, b *lockRow) int { return strings.Compare(a.Repo, b.Repo) }},
	{Name: "pull", Title: "Pull", compare: func(a, b *lockRow) int { return cmp.Compare(a.PullNum, b.PullNum) }},
	{Name: "folder", Title: "Folder", compare: func(a, b *lockRow) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Project, b.Project))
	}},
	{Name: "workspace", Title: "Workspace", compare: func(a, b *lockRow) int { return strings.Compare(a.Workspace, b.Workspace) }},
	{Name: "holder", Title: "Holder", compare: func(a, b *lockRow) int { return strings.Compare(a.Holder, b.Holder) }},
	{Name: byAge, Title: "Age", compare: func(a, b *lockRow) int { return b.Taken.Compare(a.Taken) }},
	{Name: byWaiting, Title: "Waiting", compare: func(a, b *lockRow) int { return cmp.Compare(b.Waiting, a.Waiting) }, falling: true},
}

// byAge is the order without a word in the query: the newest first. byWaiting is a column only where there is a queue.
const byAge, byWaiting = "age", "waiting"

// sorting is the order of the locks that a query wants.
type sorting struct {
	column   string
	reversed bool
}

// sortingOf reads `sort`: a column's name, behind a minus the other way round. What is none is the usual order.
func sortingOf(query url.Values) sorting {
	name, reversed := strings.CutPrefix(query.Get("sort"), "-")
	if !slices.ContainsFunc(columns, func(one sortable) bool { return one.Name == name }) {
		return sorting{column: byAge}
	}
	return sorting{name, reversed}
}

// String is the value of `sort` in a query; empty for the usual order.
func (s sorting) String() string {
	switch {
	case s.reversed:
		return "-" + s.column
	case s.column == byAge:
		return ""
	default:
		return s.column
	}
}

// sort sorts the rows. Locks that are equal are in the order of their keys, so that each is on one page.
func (s sorting) sort(rows []lockRow) {
	at := slices.IndexFunc(columns, func(one sortable) bool { return one.Name == s.column })
	compare := columns[at].compare
	slices.SortFunc(rows, func(a, b lockRow) int {
		order := compare(&a, &b)
		if s.reversed {
			order = -order
		}
		return cmp.Or(order, b.Taken.Compare(a.Taken), strings.Compare(a.key, b.key))
	})
}

// headView is the head of a column: a link that sorts by it, or, if that is so, the other way round.
type headView struct {
	Title, Query string
	Sorted       string // as aria-sort says it; empty: the table is sorted by another
}

// heads are the heads of a table with this filter, of locks for which pull requests wait, or cannot.
func (s sorting) heads(filter string, hasQueue bool) (views []headView) {
	for _, one := range columns {
		if one.Name == byWaiting && !hasQueue {
			continue
		}
		wanted, view := sorting{column: one.Name}, headView{Title: one.Title}
		if one.Name == s.column {
			wanted.reversed = !s.reversed
			view.Sorted = pick(one.falling == s.reversed, "ascending", "descending")
		}
		view.Query = tableQuery(filter, wanted, 1)
		views = append(views, view)
	}
	return views
}

// tableQuery leads to a page of the table.
func tableQuery(filter string, sorted sorting, page int) string {
	values := url.Values{}
	for name, value := range map[string]string{"filter": filter, "sort": sorted.String(), "page": pick(page > 1, strconv.Itoa(page), "")} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return "?" + values.Encode()
}
