package client

import (
	"encoding/json"

	"github.com/atlock/atlock/go/internal/capi"
)

// FreezePattern says which locks are frozen. In each member `*` stands for any text.
type FreezePattern struct {
	Repo      string  `json:"repo"`                // full name of the repository
	Path      string  `json:"path,omitempty"`      // folder below the repository's; empty: any
	Workspace string  `json:"workspace,omitempty"` // Terraform workspace; empty: any
	Project   *string `json:"project,omitempty"`   // name of the project, which may be empty; nil: any
}

// Values of [Freeze.Plans] and [FreezeRequest.Plans].
const (
	FreezePlansDeny  = "deny"  // nobody takes a lock
	FreezePlansAllow = "allow" // plans take locks as always, and only applies are to be refused, by whoever runs them
)

// FreezeRequest asks that nobody takes some locks for now. Either Until is set, or OpenEnded.
type FreezeRequest struct {
	Pattern   FreezePattern `json:"pattern"`
	Reason    string        `json:"reason"`               // why
	Owner     string        `json:"owner"`                // who wants it
	From      *UnixMicro    `json:"from,omitempty"`       // nil: from now on
	Until     *UnixMicro    `json:"until,omitempty"`      // until when
	OpenEnded bool          `json:"open_ended,omitempty"` // until it is thawed
	Plans     string        `json:"plans,omitempty"`      // empty: [FreezePlansDeny]
}

// Freeze are locks that nobody takes for now, because a person said so. Who has them keeps them.
type Freeze struct {
	ID      string        `json:"id"` // for [Client.Thaw]
	Pattern FreezePattern `json:"pattern"`
	Reason  string        `json:"reason"`
	Owner   string        `json:"owner"`
	From    UnixMicro     `json:"from"`
	Until   *UnixMicro    `json:"until"` // nil: until it is thawed
	Plans   string        `json:"plans"`
}

// Freeze freezes locks: nobody takes them while that lasts, and who has them keeps them. Other servers obey within five seconds. There are
// at most 100 freezes.
//
// Errors: [ErrInvalidArgument] for a request without reason, owner or end; [ErrTooLarge]; [ErrQueueDisabled].
func (c *Client) Freeze(request FreezeRequest) (freeze Freeze, err error) {
	text, err := json.Marshal(request)
	if err != nil {
		return Freeze{}, err
	}
	err = c.readJSON(changes, &freeze, func() (capi.Buffer, error) { return c.library().Freeze(text) })
	return freeze, err
}

// Thaw ends a freeze and returns it, or nil if there is none of this name.
func (c *Client) Thaw(id string) (freeze *Freeze, err error) {
	err = c.readJSON(changes, &freeze, func() (capi.Buffer, error) { return c.library().Thaw(id) })
	return freeze, err
}

// Freezes are those that are not over.
func (c *Client) Freezes() (freezes []Freeze, err error) {
	err = c.readJSON(reads, &freezes, c.library().Freezes)
	return freezes, err
}
