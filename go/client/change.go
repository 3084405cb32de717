package client

import (
	"encoding/json"
)

// Change is a change of mode, of settings or of the store of a program that runs: it closed one Client and opened another.
type Change struct {
	From     string          `json:"from"` // the mode before
	To       string          `json:"to"`   // the mode that it is to be
	Result   string          `json:"result"`
	By       json.RawMessage `json:"by,omitempty"`    // who asked for it
	At       UnixMicro       `json:"at,omitempty"`    // when it was over
	PausedMS uint64          `json:"paused_ms"`       // for how long operations waited
	Locks    uint64          `json:"locks"`           // how many went along
	Error    string          `json:"error,omitempty"` // why it failed
}

// Values of [Change.Result].
const (
	ChangeBegun  = "begun"
	ChangeDone   = "ok"
	ChangeFailed = "failed" // the stores of before were opened again
)

// CloseToReopen is [Client.Close] for a program that opens stores again at once. Who waits for locks hears [ErrClosed] and keeps its place in
// the queue, which it finds again in the next Client; the answer is what [Client.CarryOn] takes there.
func (c *Client) CloseToReopen() (carried []byte, err error) {
	buffer, err := c.handle.CloseToReopen()
	carried = take(&buffer)
	return carried, err
}

// CarryOn lets the runs of another Client go on in this one, under their numbers.
func (c *Client) CarryOn(carried []byte) error {
	return c.slots.run(func() error { return c.handle.CarryOn(carried) })
}

// NoteChange records a change in the audit trail, and, once it is over, as the last one of the status.
func (c *Client) NoteChange(change Change) error {
	text, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return c.slots.run(func() error { return c.handle.NoteChange(text) })
}
