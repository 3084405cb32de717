package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// NextRequest asks whose turn it is.
type NextRequest struct {
	Claim time.Duration // for so long no other server is told of the pull requests that are named; 0: as long as something is kept for them
	Most  int           // how many to name at most; 0: all
	Wait  time.Duration // until there is somebody to name; 0: not at all
}

// Next is whose turn it is, and who left.
type Next struct {
	Turns []Turn       `json:"turns"`
	Left  []QueuedLeft `json:"left"`
}

// Waiter is a pull request that waits by a run, or waited.
type Waiter struct {
	Repo     string `json:"repo"` // its full name
	Pull     PullID `json:"pull"`
	URL      string `json:"url"` // of its page
	User     string `json:"user"`
	Author   string `json:"author"`
	HostType int    `json:"host_type"` // the kind of its Git host, as Atlantis numbers them
	Recipe   string `json:"recipe"`    // of its last run that was refused; empty if that had none
}

// Turn is a pull request for which locks are kept. It has none of them yet: a run takes them.
type Turn struct {
	Waiter
	Keys  []string  `json:"keys"`  // the locks that are kept for it
	Waits []string  `json:"waits"` // those for which it waits besides
	Until UnixMicro `json:"until"` // until when the first of Keys is kept
}

// QueuedLeft is a pull request that waits for nothing any more: three times it did not take what was kept for it.
type QueuedLeft struct {
	Waiter
	Keys []string `json:"keys"` // for which it waited
}

// Next tells whose turn it is, for a server that plans pull requests by itself. Who is named is claimed: no other server is told of it
// before the claim or a run of the pull request is over. Each of Left is named once, by the server that saw it leave.
//
// It names the pull requests of the repositories of which this process knows that somebody waits; all others are looked for once a minute.
// It blocks an OS thread while it waits. Closing ends the wait: [ErrClosed].
//
// Errors: [ErrQueueDisabled]; [ErrInvalidArgument] for more than a day.
func (c *Client) Next(request NextRequest) (next Next, err error) {
	if err := c.opened(); err != nil {
		return Next{}, err
	}
	text, err := json.Marshal(map[string]int64{
		"claim_ms": milliseconds(request.Claim), "most": int64(request.Most), "wait_ms": milliseconds(request.Wait),
	})
	if err != nil {
		return Next{}, err
	}
	select {
	case c.waits <- struct{}{}:
		defer func() { <-c.waits }()
	default:
		return Next{}, errTooManyWait
	}
	buffer, err := c.library().Next(text)
	defer buffer.Free()
	if err != nil {
		return Next{}, err
	}
	if err := json.Unmarshal(buffer.Bytes(), &next); err != nil {
		return Next{}, fmt.Errorf("reading the library's answer: %w", err)
	}
	return next, nil
}
