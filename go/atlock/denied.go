package atlock

import (
	"fmt"
	"sync"
	"time"

	"github.com/atlock/atlock/go/client"
)

const (
	// mostDenied is how many refusals of people leave entries of their own within deniedSpan: whoever guesses passwords must not push everything
	// else out of the audit trail.
	mostDenied = 20
	deniedSpan = time.Minute
)

// denials counts who was refused.
type denials struct {
	mutex sync.Mutex
	began time.Time
	told  int
	more  int
}

// admit tells whether a refusal leaves an entry of its own. Of the others one entry tells how many there were, at the end of the span.
func (d *denials) admit(now time.Time, atEnd func()) bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if now.Sub(d.began) >= deniedSpan {
		d.began, d.told = now, 0
	}
	if d.told < mostDenied {
		d.told++
		return true
	}
	if d.more++; d.more == 1 {
		time.AfterFunc(deniedSpan-now.Sub(d.began), atEnd)
	}
	return false
}

func (d *denials) takeMore() int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	more := d.more
	d.more = 0
	return more
}

// Denied records in the audit trail, if there is one, that somebody was refused who may not: a wrong password or token, another user of the
// machine. operation is what was tried, and has no secret. More than 20 in a minute are told as a number.
func (d *Database) Denied(operation, detail string) {
	if d.wasOpened() != nil {
		return
	}
	record := func(entry AuditEntry) {
		if err := d.Record(entry); err != nil {
			d.logger.Warn("a refusal is not in the audit trail", "error", err)
		}
	}
	atEnd := func() {
		record(AuditEntry{Kind: "denied", Detail: fmt.Sprintf("%d more were refused within a minute", d.denials.takeMore())})
	}
	if d.denials.admit(time.Now(), atEnd) {
		record(AuditEntry{Kind: "denied", Operation: operation, Detail: detail})
	}
}

// ChangedSettings are the names of the settings that differ, never their values.
func ChangedSettings(before, after Config) ([]string, error) {
	return client.ChangedSettings(before, after)
}
