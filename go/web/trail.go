package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// trailBytes of the trail's end are looked at: about two thousand entries.
	trailBytes = 1 << 20
	// mostEntries of a lock are shown.
	mostEntries = 20
)

// trail is what the end of the audit trail has of a lock.
//
// Invariant: looking at it costs no more with a longer trail, and takes nothing from it: a pipe, whose entries are gone once they are read, is
// left alone.
type trail struct {
	Entries []trailEntry // the newest first
	Note    string       // why there is none, or what they leave out
}

// trailEntry is an entry as it is shown.
type trailEntry struct {
	At            time.Time
	Kind, By, Via string
	Pull          int
	Detail        string
}

// trailOf reads the end of the audit trail. Nobody is shown it where Atlantis asks nobody for a password: it names people and addresses.
func (o Options) trailOf(key string) trail {
	name := ""
	if o.AuditFile != nil {
		name = o.AuditFile()
	}
	switch {
	case name == "":
		return trail{Note: "There is no audit trail in a file: locking.audit.file names one."}
	case !o.WebAuth:
		return trail{Note: "The audit trail names people, so it is shown once --web-basic-auth is on. On the server's machine it is the file that locking.audit.file names."}
	}
	text, isWhole, err := endOf(name, trailBytes)
	if err != nil {
		return trail{Note: "The audit trail cannot be read: " + withoutCredentials(err.Error())}
	}
	found := trail{Entries: entriesOf(text, key)}
	if !isWhole {
		found.Note = fmt.Sprintf("Only the last %d KiB of the trail are looked at; older entries are in its file.", trailBytes>>10)
	} else if len(found.Entries) == 0 {
		found.Note = "The trail has nothing of this lock; files that were moved away (locking.audit.keep) are not looked at."
	}
	return found
}

// endOf reads the last bytes of a regular file, from the beginning of a line on.
func endOf(name string, most int64) (text []byte, isWhole bool, err error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // so that a pipe without a writer is not waited for
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("%s is no regular file: who reads its other end has the entries", name)
	}
	from := max(info.Size()-most, 0)
	reader := bufio.NewReader(io.NewSectionReader(file, from, most))
	if from > 0 {
		if _, err := reader.ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return nil, false, err
		}
	}
	text, err = io.ReadAll(reader)
	return text, from == 0, err
}

// entriesOf are the entries of a lock, the newest first. A line that is none is passed over: `atlock audit verify` names it.
func entriesOf(text []byte, key string) (entries []trailEntry) {
	lines := bytes.Split(text, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		var entry struct {
			Time                         time.Time
			Kind, Key, Via, Detail, Code string
			Pull                         int
			Holder                       *atlock.AuditHolder
			By                           json.RawMessage // before 1.0 also a text
		}
		if json.Unmarshal(line, &entry) != nil || entry.Key != key {
			continue
		}
		shown := trailEntry{At: entry.Time, Kind: entry.Kind, By: personOf(entry.By), Via: strings.ReplaceAll(entry.Via, "_", " "), Pull: entry.Pull}
		parts := []string{withoutCredentials(entry.Detail), entry.Code}
		if entry.Kind == "refusal" && entry.Holder != nil {
			parts = append(parts, fmt.Sprintf("#%d had it", entry.Holder.Pull))
		}
		shown.Detail = strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
		if entries = append(entries, shown); len(entries) == mostEntries {
			break
		}
	}
	return entries
}

// personOf is who did it: a user, or else from where.
func personOf(by json.RawMessage) string {
	var person atlock.Person
	if json.Unmarshal(by, &person) != nil {
		return ""
	}
	if person.User != "" {
		return person.User
	}
	return person.Address
}
