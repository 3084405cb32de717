package client

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/atlock/atlock/go/internal/capi"
)

// Via is by which way a change came.
type Via string

// The ways.
const (
	ViaPage        Via = "page"         // a page: Atlantis's own, or /locking
	ViaAPI         Via = "api"          // an endpoint, with Atlantis's API secret
	ViaCommandLine Via = "command_line" // the command atlock
	ViaComment     Via = "comment"      // a comment on the pull request, other than a plan or an apply
	ViaPullClosed  Via = "pull_closed"  // the close or the merge of the pull request
	ViaPlan        Via = "plan"         // a plan, asked for by a comment or begun by a push
	ViaApply       Via = "apply"
	ViaStaleLocks  Via = "stale_locks" // the look for locks of pull requests that are closed
	ViaSignal      Via = "signal"      // a signal to the server's process
)

// Person is who, as much as is known.
type Person struct {
	User    string  `json:"user,omitempty"`    // of the page, the comment's author, or of this machine
	UID     *uint32 `json:"uid,omitempty"`     // of this machine
	PID     *int32  `json:"pid,omitempty"`     // the process
	Address string  `json:"address,omitempty"` // where the request came from
}

// Actor is who makes a change, and by which way, for the audit trail. What is not known is left out.
type Actor struct {
	Via Via    `json:"via,omitempty"`
	By  Person `json:"by,omitzero"`
}

// IsZero tells whether nothing is known.
func (a Actor) IsZero() bool { return a == Actor{} }

// As is a Client of the same stores: the audit trail says of what is changed by it who did that. It is made for one call as cheaply as for many.
// Closing one closes both.
//
//	released, err := locks.As(client.Actor{Via: client.ViaPage, By: client.Person{User: "ann"}}).Unlock(target)
func (c *Client) As(actor Actor) *Client {
	if c == nil || c.handle == nil || actor.IsZero() {
		return c
	}
	text, err := json.Marshal(actor)
	if err == nil {
		var handle *capi.Handle
		if handle, err = c.handle.ActingAs(text); err == nil {
			return &Client{handle: handle, slots: c.slots, waits: c.waits, lastWait: c.lastWait}
		}
	}
	return &Client{failed: err}
}

// AuditEntry is an entry of the audit trail that a program tells: what the library does not see by itself.
type AuditEntry struct {
	Kind      string       `json:"kind"` // as in the trail: grant, refusal, release, denied, …
	Operation string       `json:"operation,omitempty"`
	Key       string       `json:"key,omitempty"`     // of a project's lock
	Command   string       `json:"command,omitempty"` // of a command's global lock
	Repo      string       `json:"repo,omitempty"`
	Pull      int          `json:"pull,omitempty"`
	User      string       `json:"user,omitempty"` // in whose name a lock is taken or asked for
	Holder    *AuditHolder `json:"holder,omitempty"`
	Store     string       `json:"store,omitempty"` // legacy, enhanced or fallback
	Detail    string       `json:"detail,omitempty"`
	Settings  []string     `json:"settings,omitempty"` // names of those that changed
	Request   string       `json:"request,omitempty"`  // what an intent and its outcome have in common
	Actor     Actor        `json:"actor,omitzero"`
}

// AuditHolder is who holds, or held, a lock.
type AuditHolder struct {
	Repo string `json:"repo"`
	Pull int    `json:"pull"`
	User string `json:"user"`
}

// AuditTrail is the trail of a program that has a store of its own. Its methods may be called from any goroutine at once; nil, and one that is
// closed, records nothing.
type AuditTrail struct {
	trail  *capi.Audit
	mutex  sync.RWMutex // held for reading by each call
	closed bool
}

// OpenAudit opens the trail that the settings name; nil if they name none. It may be open beside a [Client] with the same settings.
func OpenAudit(config Config) (*AuditTrail, error) {
	if config.Locking.Audit.File == "" && !config.Locking.Audit.Stdout {
		return nil, nil
	}
	settings, err := settingsOf(config)
	if err != nil {
		return nil, err
	}
	trail, err := capi.OpenAudit(settings)
	if err != nil {
		return nil, byKey(err, settings)
	}
	return &AuditTrail{trail: trail}, nil
}

// Record records an entry. Before a change, record it as an `intent`, and do not make it after an error: without `locking.audit.required` an
// intent is not written, and no error.
//
// Errors: [ErrAuditFailed]: it is not in the trail.
func (a *AuditTrail) Record(entry AuditEntry) error {
	if a == nil {
		return nil
	}
	text, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	a.mutex.RLock()
	defer a.mutex.RUnlock()
	if a.closed {
		return nil
	}
	return a.trail.Record(text)
}

// Status tells what an operator must know, if that is anything, and how many entries could not be written.
func (a *AuditTrail) Status() (warning string, lost uint64) {
	if a == nil {
		return "", 0
	}
	a.mutex.RLock()
	defer a.mutex.RUnlock()
	if a.closed {
		return "", 0
	}
	buffer, err := a.trail.Status()
	if err != nil {
		return err.Error(), 0
	}
	defer buffer.Free()
	told := struct {
		Warning string
		Lost    uint64
	}{}
	if err := json.Unmarshal(buffer.Bytes(), &told); err != nil {
		return err.Error(), 0
	}
	return told.Warning, told.Lost
}

// Close closes it. Closing again is harmless.
func (a *AuditTrail) Close() {
	if a == nil {
		return
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !a.closed {
		a.closed = true
		a.trail.Free()
	}
}

// ChangedSettings are the names of the settings that differ, never their values: `locking.enhanced.redis.address`.
func ChangedSettings(before, after Config) ([]string, error) {
	old, err := flattened(before)
	current, otherErr := flattened(after)
	if err := errors.Join(err, otherErr); err != nil {
		return nil, err
	}
	return differing("", old, current), nil
}

func flattened(config Config) (map[string]any, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var settings map[string]any
	return settings, json.Unmarshal(text, &settings)
}

// differing are the names that differ, in order.
func differing(within string, before, after map[string]any) (names []string) {
	all := maps.Clone(after)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, before)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		old, oldBlock := before[name].(map[string]any)
		current, currentBlock := after[name].(map[string]any)
		switch {
		case oldBlock || currentBlock:
			names = append(names, differing(within+name+".", old, current)...)
		case !reflect.DeepEqual(before[name], after[name]):
			names = append(names, within+name)
		}
	}
	return names
}
