package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/atlock/atlock/go/internal/capi"
)

// maxWaits bounds how many goroutines wait for locks at once. Each one holds a thread, and so many of them none of the slots that all
// other calls share: whoever waits must not keep out who releases.
const maxWaits = 1000

var errTooManyWait = &Error{
	Code:    capi.QueueFull,
	Message: fmt.Sprintf("%d callers of this process wait for locks already, nobody more can: try again later", maxWaits),
}

// Waited is how a wait for a lock ended.
type Waited struct {
	Acquired bool            `json:"acquired"`
	Token    FencingToken    `json:"token"` // of the caller; NoToken if it is not known, or the lock was not acquired
	Lock     json.RawMessage `json:"lock"`  // as it is stored; or the lock that is in the way
	Why      WaitEnd         `json:"why"`   // why it was not acquired
	Queue    *Place          `json:"queue"` // the last place in the queue; nil without one
}

// WaitEnd is why a wait ended without the lock.
type WaitEnd string

// The reasons.
const (
	WaitTimedOut  WaitEnd = "timeout"
	WaitCancelled WaitEnd = "cancelled" // the context is done
	WaitLeft      WaitEnd = "left"      // somebody took the pull request out of the queue
)

// WaitedSet is how a wait for a set of locks ended.
type WaitedSet struct {
	Waited               // without Token; Lock is nil if the set was acquired
	Locks  []GrantedLock `json:"locks"` // all of them if the set was acquired, in the order of their keys
}

// GrantedLock is a lock of a set.
type GrantedLock struct {
	Lock  json.RawMessage `json:"lock"` // as it is stored
	Token FencingToken    `json:"token"`
}

// Lock takes a lock, and waits for it if it is not free: in the order of the repository's queue; without a queue, whoever asks first after
// the release has the lock. The lock is that of [Client.TryLock]; its pull request's number is above 0. A lock that the pull request has
// already is the answer, at once.
//
// It waits until the timeout is over, which is `locking.enhanced.timeouts.default` if it is 0, or until the context is done, which is an
// answer, too ([WaitCancelled]). Without the lock the pull request is out of the queue when Lock returns, unless it also waits by a run, or
// by another caller of this process. A context that is done while the lock is granted does not take the lock back.
//
// Each wait blocks an OS thread; at most 1000 wait at once.
//
// Errors: [ErrNoPull]; [ErrInvalidArgument] for a priority or timeout that cannot be; [ErrQueueFull]; those of [Client.TryLock]; the
// context's own if it is done before it begins.
func (c *Client) Lock(ctx context.Context, lock []byte, priority Priority, timeout time.Duration) (waited Waited, err error) {
	err = c.wait(ctx, priority, timeout, func(options []byte) (capi.Buffer, error) { return c.library().Lock(lock, options) }, &waited)
	return waited, err
}

// LockSet takes all of these locks of one pull request, or none newly, and waits as [Client.Lock] does until they can be had together. At
// most 500, none twice. It needs a queue: [ErrQueueDisabled].
func (c *Client) LockSet(
	ctx context.Context, locks []json.RawMessage, priority Priority, timeout time.Duration,
) (waited WaitedSet, err error) {
	text, err := set(locks)
	if err != nil {
		return WaitedSet{}, err
	}
	err = c.wait(ctx, priority, timeout, func(options []byte) (capi.Buffer, error) { return c.library().LockSet(text, options) }, &waited)
	return waited, err
}

// waitOptions are the library's. Without a time it takes the configured one.
type waitOptions struct {
	Priority  int    `json:"priority"`
	TimeoutMS int64  `json:"timeout_ms,omitempty"`
	Cancel    string `json:"cancel"`
}

// wait runs one operation that waits. The library ends the wait of this name when the context is done.
func (c *Client) wait(
	ctx context.Context, priority Priority, timeout time.Duration, operation func(options []byte) (capi.Buffer, error), answer any,
) error {
	if err := cmp.Or(c.opened(), ctx.Err()); err != nil {
		return err
	}
	select {
	case c.waits <- struct{}{}:
		defer func() { <-c.waits }()
	default:
		return errTooManyWait
	}
	name := strconv.FormatUint(c.lastWait.Add(1), 10)
	options, err := json.Marshal(waitOptions{Priority: int(priority), TimeoutMS: milliseconds(timeout), Cancel: name})
	if err != nil {
		return err
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		_ = c.library().Cancel(name) // the name is a possible one, and nothing else can fail
	})
	buffer, err := operation(options)
	defer buffer.Free()
	if !stop() {
		<-cancelled
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(buffer.Bytes(), answer); err != nil {
		return fmt.Errorf("reading the library's answer: %w", err)
	}
	return nil
}

// milliseconds rounds away from 0, which has a meaning of its own.
func milliseconds(d time.Duration) int64 {
	rounded := d.Milliseconds()
	switch rest := d - time.Duration(rounded)*time.Millisecond; {
	case rest > 0:
		rounded++
	case rest < 0:
		rounded--
	}
	return rounded
}
