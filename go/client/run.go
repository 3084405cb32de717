package client

import (
	"encoding/json"

	"github.com/atlock/atlock/go/internal/capi"
)

// Values of [RunRequest.Command].
const (
	RunPlan   = "plan"   // its releases of the pull request's own locks wait for its end
	RunApply  = "apply"  //
	RunUnlock = "unlock" // a person gives the locks up: no release waits
)

// RunRequest is a run that begins: a plan, apply or unlock of a pull request.
type RunRequest struct {
	Repo    string   `json:"repo"` // its full name
	Pull    PullID   `json:"pull"`
	Command string   `json:"command"`
	Base    string   `json:"base,omitempty"`    // the branch into which it is to go, for the rules about priority
	Author  string   `json:"author,omitempty"`  // who opened it, for the same
	Labels  []string `json:"labels,omitempty"`  // those that it has, for the same: at most 100, of at most 1,024 bytes each
	Applied []string `json:"applied,omitempty"` // keys of the locks under which something was applied that is not merged: the run keeps them
	Recipe  string   `json:"recipe,omitempty"`  // what [Client.Next] gives back when it is the pull request's turn: at most 512 bytes, no secrets
}

// InRun is the answer to an attempt to take a lock in a run.
type InRun struct {
	Acquired bool            `json:"acquired"`
	Token    FencingToken    `json:"token"` // of the caller; NoToken if it is not known, or the lock was refused
	Lock     json.RawMessage `json:"lock"`  // as it is stored; or the lock of the holder, or of the pull request for which it is kept
	Queue    *Place          `json:"queue"` // the place of who was refused; nil without one
}

// RunEnded is what came of a run.
type RunEnded struct {
	Released []string         `json:"released"` // keys of what the pull request gave up and did not take again
	Waiting  map[string]Place `json:"waiting"`  // what it waits for, by key
}

// RunBegin begins a run and returns its number. Each one is to be ended with [Client.RunEnd], whatever comes of it.
//
// Atlantis gives the locks of a pull request up before it plans it again. In a plan, the pull request's own UnlockIfOwnedByPull and
// UnlockByPull therefore answer with the lock and keep it; what the run does not take again is released at its end.
//
// Errors: [ErrQueueDisabled], [ErrNoPull].
func (c *Client) RunBegin(request RunRequest) (run uint64, err error) {
	text, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	err = c.run(changes, func() error {
		run, err = c.library().RunBegin(text)
		return err
	})
	return run, err
}

// RunDeclare tells which locks a run is going to take: at most 500 of its pull request, none twice. With `sets: whole`, the first
// [Client.TryLockIn] of one of them then takes all of them, or none newly.
func (c *Client) RunDeclare(run uint64, locks []json.RawMessage) error {
	text, err := set(locks)
	if err != nil {
		return err
	}
	return c.run(changes, func() error { return c.library().RunDeclare(run, text) })
}

// TryLockIn is [Client.TryLock] inside a run: a lock that the pull request has already is acquired, and who is refused joins the queue,
// and stays in it after the run.
func (c *Client) TryLockIn(run uint64, lock []byte) (answer InRun, err error) {
	err = c.read(
		changes,
		func() (capi.Buffer, error) { return c.library().TryLockIn(run, lock) },
		func(text []byte) error { return json.Unmarshal(text, &answer) },
	)
	return answer, err
}

// RunEnd ends a run. After an error the run is over, too; what was not released stays held.
func (c *Client) RunEnd(run uint64) (ended RunEnded, err error) {
	err = c.read(
		changes,
		func() (capi.Buffer, error) { return c.library().RunEnd(run) },
		func(text []byte) error { return json.Unmarshal(text, &ended) },
	)
	return ended, err
}

// set is the JSON array of these locks.
func set(locks []json.RawMessage) ([]byte, error) {
	if len(locks) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal(locks)
}
