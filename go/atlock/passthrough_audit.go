package atlock

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// The audit trail of Atlantis's own store has the entries that the library's has (src/audit/trail.rs). What it calls with itself while a shadow
// is compared is no change.

// as is the same store, used by somebody.
func (p *passthrough) as(actor Actor) inner {
	if actor.IsZero() {
		return p
	}
	return &passthrough{p.direct, actor}
}

func (p *passthrough) record(entry AuditEntry) error { return p.audit.Record(entry) }

// auditWarnings are what an operator must know of the trail.
func (p *passthrough) auditWarnings() []string {
	if warning, _ := p.audit.Status(); warning != "" {
		return []string{warning}
	}
	return nil
}

// withLostEvents adds the library's counter to metrics that end as the library's do.
func (p *passthrough) withLostEvents(text string) string {
	if p.audit == nil {
		return text
	}
	_, lost := p.audit.Status()
	const name, end = "atlock_audit_events_lost", "# EOF\n"
	added := fmt.Sprintf("# HELP %[1]s Events that could not be written to the audit trail.\n# TYPE %[1]s counter\n%[1]s_total %[2]d\n", name, lost)
	return strings.TrimSuffix(text, end) + added + end
}

// audited runs a change, after its intent, and records what came of it: outcome tells, from the entry that both have in common. Without a trail
// it is the change alone.
func audited[T any](p *passthrough, about AuditEntry, outcome func(answer T, came AuditEntry) []AuditEntry, change func() (T, error)) (answer T, err error) {
	if p.audit == nil {
		return change()
	}
	about.Actor = p.actor
	about.Request = strconv.FormatInt(time.Now().UnixNano(), 16) + "-" + strconv.FormatUint(p.requests.Add(1), 10)
	intent := about
	intent.Kind = "intent"
	if err := p.audit.Record(intent); err != nil {
		return answer, err
	}
	answer, err = change()
	about.Store = "legacy"
	var came []AuditEntry
	if resultOf(err) == failed {
		about.Kind, about.Detail = "error", err.Error()
		came = []AuditEntry{about}
	} else {
		came = outcome(answer, about)
	}
	for _, entry := range came {
		_ = p.audit.Record(entry) // it is counted, and a warning
	}
	return answer, err
}

// tried is the answer to a try to take a lock.
type tried struct {
	acquired bool
	current  models.ProjectLock
}

// aboutLock is what an entry says of a lock that is taken or asked for.
func aboutLock(operation string, lock *models.ProjectLock) AuditEntry {
	return AuditEntry{
		Operation: operation, Key: models.GenerateLockKey(lock.Project, lock.Workspace), Repo: lock.Project.RepoFullName, Pull: lock.Pull.Num,
		User: lock.User.Username,
	}
}

func holderOf(lock *models.ProjectLock) *client.AuditHolder {
	return &client.AuditHolder{Repo: lock.Project.RepoFullName, Pull: lock.Pull.Num, User: lock.User.Username}
}

func grantOrRefusal(answer tried, came AuditEntry) []AuditEntry {
	came.Kind = "grant"
	if !answer.acquired {
		came.Kind, came.Holder = "refusal", holderOf(&answer.current)
	}
	return []AuditEntry{came}
}

// releaseOf is the release of a lock, or of none.
func releaseOf(lock *models.ProjectLock, came AuditEntry) []AuditEntry {
	if lock == nil {
		came.Kind = "unchanged"
		return []AuditEntry{came}
	}
	return releasesOf([]models.ProjectLock{*lock}, came)
}

func releasesOf(locks []models.ProjectLock, came AuditEntry) (all []AuditEntry) {
	if len(locks) == 0 {
		return releaseOf(nil, came)
	}
	for i := range locks {
		released := came
		released.Kind, released.Key = "release", models.GenerateLockKey(locks[i].Project, locks[i].Workspace)
		released.Repo, released.Pull, released.Holder = locks[i].Project.RepoFullName, locks[i].Pull.Num, holderOf(&locks[i])
		all = append(all, released)
	}
	return all
}

// commandGrant: without an error it was taken, and otherwise held.
func commandGrant(lock *command.Lock, came AuditEntry) []AuditEntry {
	came.Kind = "grant"
	if lock == nil {
		came.Kind = "refusal"
	}
	return []AuditEntry{came}
}
