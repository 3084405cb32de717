package client

import (
	"encoding/json"
	"fmt"

	"github.com/atlock/atlock/go/internal/capi"
)

// PullID is a pull request of a repository.
type PullID struct {
	Host string `json:"host"` // its Git host's name; empty: any
	Num  int    `json:"num"`
}

// Priority is how much of a head start a pull request has in a queue. It is bounded: nobody is passed for ever.
type Priority int

// The priorities. The head starts are multiples of `locking.enhanced.priority_queue.aging`: minus one, none, one and three.
const (
	PriorityLow Priority = iota
	PriorityNormal
	PriorityHigh
	PriorityCritical
)

var priorityNames = [...]string{"low", "normal", "high", "critical"}

// String is the priority's name, as in the settings.
func (p Priority) String() string {
	if p < PriorityLow || p > PriorityCritical {
		return fmt.Sprintf("Priority(%d)", int(p))
	}
	return priorityNames[p]
}

// MarshalText writes the name, which UnmarshalText reads.
func (p Priority) MarshalText() ([]byte, error) {
	if p < PriorityLow || p > PriorityCritical {
		return nil, fmt.Errorf("%d is no priority", int(p))
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads a name.
func (p *Priority) UnmarshalText(text []byte) error {
	for number, name := range priorityNames {
		if name == string(text) {
			*p = Priority(number)
			return nil
		}
	}
	return fmt.Errorf("%q is no priority", text)
}

// Place is the place of a pull request in the queue of a lock.
type Place struct {
	Position int       `json:"position"`          // 1 is next; 0 where nobody more can join
	Ahead    []PullID  `json:"ahead"`             // who is before it, the next one first
	Since    UnixMicro `json:"since"`             // since when it waits
	Why      string    `json:"why"`               // held; reserved for the first of Ahead; set: another lock of its set is not free; full
	Blocker  *Blocker  `json:"blocker,omitempty"` // that other lock
	Stale    bool      `json:"stale,omitempty"`   // it may be out of date: the local store says so in Redis's place, or none could be asked
}

// Blocker is a lock of a set that is not free.
type Blocker struct {
	Key  string  `json:"key"`
	Pull *PullID `json:"pull,omitempty"` // who holds it, or for whom it is kept; nil: not known
}

// QueuedPull is a pull request that waits.
type QueuedPull struct {
	Pull     PullID               `json:"pull"`
	URL      string               `json:"url"`
	User     string               `json:"user"` // who asked for its lock
	Priority Priority             `json:"priority"`
	Since    UnixMicro            `json:"since"`
	Whole    bool                 `json:"whole"` // whether it takes all that it waits for at once
	Keys     map[string]QueuedKey `json:"keys"`
	Stale    bool                 `json:"stale,omitempty"` // the local store says so in Redis's place
}

// QueuedKey is one lock that a pull request waits for.
type QueuedKey struct {
	Position      int        `json:"position"`       // 1 is next
	ReservedUntil *UnixMicro `json:"reserved_until"` // until when the free lock is kept for this pull request; nil while it is not; [Forever]: for its set
}

// Checked is what a grant is worth.
type Checked struct {
	Holds  bool         `json:"holds"`            // whether the pull request holds the lock, by the grant that was asked for
	Token  FencingToken `json:"token,omitempty"`  // of whoever holds the lock; NoToken if nobody does, or it is not known
	Holder *PullID      `json:"holder,omitempty"` // who holds the lock
}

// Stats are counters of waiting and holding since the start.
type Stats struct {
	ActiveLocks        int64     `json:"active_locks"`        // held now, by whomever
	TotalRequests      int64     `json:"total_requests"`      // tries to take a lock
	SuccessfulAcquires int64     `json:"successful_acquires"` // those that ended with the lock
	FailedAcquires     int64     `json:"failed_acquires"`     // the others
	AverageWaitMS      int64     `json:"average_wait_ms"`     // of callers who waited and have the lock
	AverageHoldMS      int64     `json:"average_hold_ms"`     // of locks that this process took and released
	QueueDepth         int       `json:"queue_depth"`         // pull requests that wait, in all repositories
	HealthScore        int       `json:"health_score"`        // 100 healthy, 50 degraded, 0 unhealthy
	LastUpdated        UnixMicro `json:"last_updated"`
}

// placeRequest names a lock, and the pull that is meant.
type placeRequest struct {
	Repo  string       `json:"repo"`
	Key   string       `json:"key,omitempty"`
	Pull  *PullID      `json:"pull,omitempty"`
	Token FencingToken `json:"token,omitempty"`
}

// Position tells the place of a pull request among those who wait for a lock: 0, it holds the lock; 1, it is next. With nil it is the
// place that a newcomer would have, and 0 a free lock. The key is `repo/path/workspace/project`.
//
// A pull request that neither holds the lock nor waits for it is [ErrNotQueued]. Without a queue, what is not 0 is [ErrQueueDisabled].
func (c *Client) Position(repo, key string, pull *PullID) (int, error) {
	return c.number(reads, placeRequest{Repo: repo, Key: key, Pull: pull}, c.library().Position)
}

// Queues tells who waits in a repository, or with an empty name in each: by the repository's name, in order.
func (c *Client) Queues(repo string) (map[string][]QueuedPull, error) {
	queues := map[string][]QueuedPull{}
	return queues, c.read(
		reads,
		func() (capi.Buffer, error) { return c.library().Queues(repo) },
		func(text []byte) error { return json.Unmarshal(text, &queues) },
	)
}

// Leave takes a pull request out of the queue of a lock, or with an empty key of all, and tells how many locks it waited for.
func (c *Client) Leave(repo string, pull PullID, key string) (int, error) {
	return c.number(changes, placeRequest{Repo: repo, Key: key, Pull: &pull}, c.library().Leave)
}

// Check tells, by the store that decides, whether a pull request holds a lock; unless the token is [NoToken], by that grant. It is true
// when it returns, and need not be later: a lock can be released by its name at any time.
func (c *Client) Check(repo, key string, pull PullID, token FencingToken) (checked Checked, err error) {
	request, err := json.Marshal(placeRequest{Repo: repo, Key: key, Pull: &pull, Token: token})
	if err != nil {
		return Checked{}, err
	}
	err = c.read(
		reads,
		func() (capi.Buffer, error) { return c.library().Check(request) },
		func(text []byte) error { return json.Unmarshal(text, &checked) },
	)
	return checked, err
}

// Stats reads what was counted of waiting and holding, and asks the stores for all locks.
func (c *Client) Stats() (stats Stats, err error) {
	err = c.read(lists, c.library().Stats, func(text []byte) error { return json.Unmarshal(text, &stats) })
	return stats, err
}

// number runs one operation that answers with a number.
func (c *Client) number(of kind, request any, operation func(request []byte) (uint64, error)) (number int, err error) {
	text, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	err = c.run(of, func() error {
		answer, err := operation(text)
		number = int(answer)
		return err
	})
	return number, err
}
