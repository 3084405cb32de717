package githost

import (
	"maps"
	"slices"
	"time"
)

// State tells whether a pull request may still change.
type State string

// The states of a pull request. Gitea calls a merged one closed, too; here they are apart.
const (
	Open   State = "open"
	Closed State = "closed"
	Merged State = "merged"
)

// Pull is a pull request as it was at one moment. It shares nothing with the host.
type Pull struct {
	Repo   string
	Number int
	Title  string
	Author string
	Branch string
	// Head is the branch's newest commit.
	Head  string
	State State
	// Files are the paths that it changes.
	Files    []string
	Comments []Comment
	// Statuses are those of the newest commit: the latest of each context, in order of the contexts.
	Statuses []Status
	// ApprovedBy is empty without an approval.
	ApprovedBy string
	Labels     []string
	// ForkGone: the repository that the branch was in was deleted.
	ForkGone bool
	URL      string
}

// Comment is one on a pull request, by a person or by Atlantis.
type Comment struct {
	ID      int64
	Author  string
	Body    string
	Created time.Time
}

// Status is what Atlantis says of a commit, such as atlantis/plan: success.
type Status struct {
	Context     string
	State       string
	Description string
	URL         string
}

// Status returns the newest commit's status of that context, and whether there is one.
func (p Pull) Status(context string) (Status, bool) {
	for _, status := range p.Statuses {
		if status.Context == context {
			return status, true
		}
	}
	return Status{}, false
}

// snapshot returns a copy that the host will not change. The caller holds the host's mu.
func (r *repo) snapshot(p *Pull) Pull {
	copied := *p
	copied.Files = slices.Clone(p.Files)
	copied.Comments = slices.Clone(p.Comments)
	of := r.statuses[p.Head]
	for _, context := range slices.Sorted(maps.Keys(of)) {
		copied.Statuses = append(copied.Statuses, of[context])
	}
	return copied
}
