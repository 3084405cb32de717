package web

import (
	"net/http"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// detail is the page of one lock: what the table has no room for.
type detail struct {
	database Database
	options  Options
}

// longestKey bounds the name of a lock in a query, in bytes.
const longestKey = 4096

// detailPage is what the template sees.
type detailPage struct {
	Options
	Now       time.Time
	Key       string
	Level     string
	Headline  string
	Lock      *lockRow // nil: nobody holds it
	Explained atlock.Explained
	Queue     []waitRow
	Trail     trail
}

func (d detail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := detailPage{Options: d.options, Now: time.Now(), Key: r.URL.Query().Get("id")}
	if page.Key == "" || len(page.Key) > longestKey {
		showMessage(w, d.options, http.StatusBadRequest, "No lock was named", "Give its key as ?id=, repository/folder/workspace/project.")
		return
	}
	if err := page.read(d.database); err != nil {
		showMessage(w, d.options, codeOf(err), "The lock cannot be read", "Because: "+withoutCredentials(err.Error()))
		return
	}
	page.Trail = d.options.trailOf(page.Key)
	showPage(w, "lock.html", page)
}

// read asks for the lock, and who waits for it.
func (p *detailPage) read(database Database) error {
	explained, err := database.Explain(p.Key)
	if err != nil {
		return err
	}
	p.Explained = cleanExplained(explained)
	switch p.Level = warn; explained.State {
	case atlock.StateFree:
		p.Level, p.Headline = good, "Free"
	case atlock.StateHeld:
		p.Level, p.Headline = good, "Held"
	case atlock.StateReserved:
		p.Headline = "Free, and kept for who is next"
	case atlock.StateFrozen:
		p.Headline = "Free, and frozen"
	case atlock.StateConflict:
		p.Level, p.Headline = bad, "Granted to two pulls"
	default:
		p.Level, p.Headline = bad, "What is there cannot be read"
	}
	status, err := database.Status()
	if err != nil {
		return err
	}
	locks, err := database.List()
	if err != nil {
		return err
	}
	// Whoever waits is shown from the queue, which tells more of them than the explanation does.
	queue := newWaiting(database, locks, p.Now)
	for _, lock := range locks {
		if models.GenerateLockKey(lock.Project, lock.Workspace) != p.Key {
			continue
		}
		table := lockTable{Rows: []lockRow{newRow(&lock)}}
		table.stand(database, status.Mode)
		p.Lock = &table.Rows[0]
		p.Lock.Waiting = queue.counts[p.Key]
	}
	p.Queue = queue.of(p.Key)
	return nil
}
