package client

import (
	"encoding/json"

	"github.com/atlock/atlock/go/internal/capi"
)

// LockState is whether a lock can be had.
type LockState string

// The states.
const (
	StateFree     LockState = "free"     // whoever asks has it
	StateHeld     LockState = "held"     // a pull request has it
	StateReserved LockState = "reserved" // it is free, and kept for who is next
	StateFrozen   LockState = "frozen"   // it is free, and nobody is to take it for now
	StateConflict LockState = "conflict" // it was granted twice
	StateUnknown  LockState = "unknown"  // what is there is no lock
)

// Explained is why a lock is as it is.
type Explained struct {
	Key       string      `json:"key"`
	State     LockState   `json:"state"`
	Holder    *LockHolder `json:"holder"`
	Queue     []InLine    `json:"queue"`              // who waits for it, the next one first
	BlockedBy []BlockedBy `json:"blocked_by"`         // what stands in the way of the next who asks
	FreesIt   []string    `json:"frees_it"`           // what would free it, in sentences
	Deadlock  string      `json:"deadlock,omitempty"` // the confirmed circle that its holder, or who waits for it, is in
	NoQueue   string      `json:"no_queue,omitempty"` // why nobody waits for it in order, where its repository has no queue while others have one
	Store     string      `json:"store"`              // which store answered
	Stale     bool        `json:"stale"`              // whether that store may lack what other servers did
}

// LockHolder is who holds a lock.
type LockHolder struct {
	Pull    PullID       `json:"pull"`
	URL     string       `json:"url"`   // of its page; empty if the lock does not tell
	User    string       `json:"user"`  // who took it
	Since   string       `json:"since"` // as the lock says
	Token   FencingToken `json:"token,omitempty"`
	IsOld   bool         `json:"is_old"`            // whether it is held for longer than `locking.enhanced.timeouts.max`; it stays held
	Running string       `json:"running,omitempty"` // the command of the pull request that runs in this server
}

// InLine is one who waits for a lock.
type InLine struct {
	Pull          PullID     `json:"pull"`
	URL           string     `json:"url"`
	Since         UnixMicro  `json:"since"`
	ReservedUntil *UnixMicro `json:"reserved_until"` // until when the free lock is kept for this pull request; nil while it is not; [Forever]: for its set
}

// BlockedBy is what stands in the way of a lock.
type BlockedBy struct {
	Kind string `json:"kind"` // lock, reservation, freeze, deadlock, conflict or unreadable
	What string `json:"what"` // for a person
	Who  string `json:"who"`  // the pull request or the person behind it; empty if there is none
}

// Deadlock is pull requests that wait for each other in a circle. It was seen twice, with the same grants.
type Deadlock struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"` // held
	Repo       string         `json:"repo"`
	Pulls      []PullID       `json:"pulls"` // each waits for the next, and the last for the first
	Keys       []string       `json:"keys"`  // the locks that they wait for
	Links      []DeadlockLink `json:"links"` // the same, once around
	Rank       []PullID       `json:"rank"`  // its pulls, the one that would yield first first
	Since      UnixMicro      `json:"since"`
	Suggestion string         `json:"suggestion"`       // the cheapest way out, for a person
	Victim     *PullID        `json:"victim,omitempty"` // who is to yield, if nothing of it is applied
}

// DeadlockLink is a pull request of a circle, and the next.
type DeadlockLink struct {
	Waiter PullID   `json:"waiter"`
	Holder PullID   `json:"holder"`
	Keys   []string `json:"keys"` // the holder's locks that the waiter waits for
}

// Standing is what a server knows of a pull request of a circle.
type Standing struct {
	Pull    PullID `json:"pull"`
	Applied bool   `json:"applied"` // whether anything of it was applied
	Running bool   `json:"running"` // whether a command of it runs
}

// Yielded is a pull request that gave locks back to end a circle. Their plans are to be deleted.
type Yielded struct {
	ID       string                  `json:"id"`
	Repo     string                  `json:"repo"`
	Pull     PullID                  `json:"pull"`
	Released map[string]FencingToken `json:"released"` // by key, the tokens of the grants that ended
}

// Explain tells why a lock is as it is, and what would free it. The key is `repo/path/workspace/project`.
func (c *Client) Explain(key string) (explained Explained, err error) {
	all, err := c.explain(map[string]string{"key": key})
	if err != nil || len(all) == 0 {
		return Explained{}, err
	}
	return all[0], nil
}

// ExplainPull tells the same of all locks that a pull request holds or waits for.
func (c *Client) ExplainPull(repo string, pull PullID) ([]Explained, error) {
	return c.explain(placeRequest{Repo: repo, Pull: &pull})
}

func (c *Client) explain(question any) (explained []Explained, err error) {
	text, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	err = c.readJSON(reads, &explained, func() (capi.Buffer, error) { return c.library().Explain(text) })
	return explained, err
}

// Deadlocks are the pull requests that wait for each other in a circle.
//
// Errors: [ErrQueueDisabled]; [ErrUnsupported] without `locking.enhanced.deadlock_detection.enabled`.
func (c *Client) Deadlocks() (deadlocks []Deadlock, err error) {
	err = c.readJSON(reads, &deadlocks, c.library().Deadlocks)
	return deadlocks, err
}

// TellDeadlock marks people as told of a circle, and returns the pull requests on which they were not: the caller is to tell them there. Each
// is named to one caller, of whichever server.
//
// Errors: those of [Client.Deadlocks]; [ErrInvalidArgument] if the circle is over.
func (c *Client) TellDeadlock(id string) (untold []PullID, err error) {
	err = c.readJSON(changes, &untold, func() (capi.Buffer, error) { return c.library().TellDeadlock(id) })
	return untold, err
}

// EndDeadlock ends a circle, where the settings say `resolve: yield`: one pull request gives its locks of the circle back, and waits for
// them from its old place. It is nil if no pull request may: one that is not named, of which something is applied, or of which something
// runs gives nothing back. The caller then deletes the plans of what was given back.
//
// Errors: those of [Client.Deadlocks]; [ErrUnsupported] without `resolve: yield`; [ErrInvalidArgument] if the circle is over.
func (c *Client) EndDeadlock(id string, standings []Standing) (yielded *Yielded, err error) {
	if standings == nil {
		standings = []Standing{}
	}
	text, err := json.Marshal(standings)
	if err != nil {
		return nil, err
	}
	err = c.readJSON(changes, &yielded, func() (capi.Buffer, error) { return c.library().EndDeadlock(id, text) })
	return yielded, err
}

// readJSON runs one operation that answers with JSON.
func (c *Client) readJSON(of kind, into any, operation func() (capi.Buffer, error)) error {
	return c.read(of, operation, func(text []byte) error { return json.Unmarshal(text, into) })
}
