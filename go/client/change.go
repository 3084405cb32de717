package client

import (
	"encoding/json"
)

// Change is a change of mode, of settings or of the store of a program that runs: it closed one Client and opened another.
type Change struct {
	From     Mode            `json:"from"` // the mode before
	To       Mode            `json:"to"`   // the mode that it is to be
	Result   ChangeResult    `json:"result"`
	By       json.RawMessage `json:"by,omitempty"`       // who asked for it
	Settings []string        `json:"settings,omitempty"` // names of the settings that are other ones now
	At       UnixMicro       `json:"at,omitempty"`       // when it was over
	PausedMS uint64          `json:"paused_ms"`          // for how long operations waited
	Locks    uint64          `json:"locks"`              // how many went along
	Error    string          `json:"error,omitempty"`    // why it failed
}

// ChangeResult is what came of a change.
type ChangeResult string

// The results.
const (
	ChangeBegun  ChangeResult = "begun"
	ChangeDone   ChangeResult = "ok"
	ChangeNone   ChangeResult = "unchanged" // everything was as it is to be
	ChangeFailed ChangeResult = "failed"    // the stores of before were opened again
)

// CloseToReopen is [Client.Close] for a program that opens stores again at once. Who waits for locks hears [ErrClosed] and keeps its place in
// the queue, which it finds again in the next Client; the answer is what [Client.CarryOn] takes there.
func (c *Client) CloseToReopen() (carried []byte, err error) {
	if err := c.opened(); err != nil {
		return nil, err
	}
	buffer, err := c.handle.CloseToReopen()
	carried = take(&buffer)
	return carried, err
}

// CarryOn lets the runs of another Client go on in this one, under their numbers.
func (c *Client) CarryOn(carried []byte) error {
	return c.run(changes, func() error { return c.library().CarryOn(carried) })
}

// NoteChange records a change in the audit trail, and, once it is over, as the last one of the status.
func (c *Client) NoteChange(change Change) error {
	text, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return c.run(changes, func() error { return c.library().NoteChange(text) })
}

// CheckKeys looks whether the stores of this Client could be opened again with the key that config names, which is read now. [ErrEncryptionKey]
// if it is another one.
func (c *Client) CheckKeys(config Config) error {
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return c.run(changes, func() error { return c.library().CheckKeys(text) })
}
