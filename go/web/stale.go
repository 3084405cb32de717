package web

import (
	"net/http"
	"time"
)

// StaleLock is a lock that nobody will release.
type StaleLock struct {
	Key       string    `json:"key"`
	Repo      string    `json:"repo"`
	Pull      int       `json:"pull"`
	URL       string    `json:"url"`
	User      string    `json:"user"`      // who locked
	Locked    time.Time `json:"locked"`    // when
	Evidence  string    `json:"evidence"`  // closed: the pull request is; orphan: its status does not have the project
	Since     time.Time `json:"since"`     // when the evidence was seen first
	Confirmed bool      `json:"confirmed"` // it was seen again, ten minutes later or more, with the same grant
}

// staleHandler answers with the locks that nobody will release.
func staleHandler(actions Actions) http.Handler {
	return answering(func(*http.Request) (any, error) {
		var found []StaleLock
		if actions != nil {
			found = actions.Stale()
		}
		if found == nil {
			return nil, fault{http.StatusNotFound, "nobody looks for stale locks: set locking.enhanced.stale_locks to report or release"}
		}
		for i := range found {
			found[i].URL = webAddress(found[i].URL)
		}
		return found, nil
	})
}

// staleRow is a lock that nobody will release.
type staleRow struct {
	Repo, Lock    string
	Pull          pullLink
	User          string
	Locked, Since time.Time
	Because       string
	Confirmed     bool
	// Name and Value are what a form says to release it. Of a closed pull request all locks are released, as by its close.
	Name, Value string
}

func newStaleRows(locks []StaleLock) []staleRow {
	rows := make([]staleRow, 0, len(locks))
	for _, lock := range locks {
		row := staleRow{
			Repo: lock.Repo, Lock: lockName(lock.Repo, lock.Key), Pull: pullLink{lock.Pull, webAddress(lock.URL)}, User: lock.User,
			Locked: lock.Locked, Since: lock.Since, Confirmed: lock.Confirmed, Name: "lock", Value: lock.Key,
			Because: "the pull's status does not have the project any more",
		}
		if lock.Evidence == "closed" {
			row.Because, row.Name, row.Value = "the Git host says that the pull is closed", "closed", pullName(lock.Repo, lock.Pull)
		}
		rows = append(rows, row)
	}
	return rows
}
