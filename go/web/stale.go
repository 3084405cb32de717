package web

import "time"

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
