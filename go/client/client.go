package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/atlock/atlock/go/internal/capi"
)

// Client is the open locking layer. Its methods may be called from any goroutine at once. After Close they fail with [ErrClosed].
//
// Each method waits up to 10 s for its turn if very many calls are under way: each one that blocks in the library holds a thread. Then
// it fails with [ErrTimeout], and nothing was changed. Changes, reads and lists have turns of their own, so that no flood of reads keeps a
// grant or a release from beginning; [Client.Lock] and [Client.LockSet], which wait for locks, have others.
type Client struct {
	handle   *capi.Handle
	slots    slots
	waits    chan struct{} // one for each caller who waits for locks
	lastWait *atomic.Uint64
	failed   error // why it cannot be used
}

// Host is a store that the program brings along. docs/host-store.md describes the operations. Call comes from any goroutine, from
// several at once; input is valid during the call only. Close comes once, after the last Call.
type Host interface {
	Call(op uint32, input []byte) (output []byte, err error)
	Close() error
}

// Option changes what [Open] does.
type Option func(*options)

type options struct{ host Host }

// WithHost passes in the legacy store for `locking.backend: boltdb`. The Client closes it; it is closed, too, if Open fails.
func WithHost(host Host) Option {
	return func(o *options) { o.host = host }
}

// Open opens the stores that the settings name. If it fails, nothing stays open.
//
// Errors tell by their sentinel what is wrong: for example [ErrInvalidConfig], [ErrStoreBusy], [ErrStoreDamaged],
// [ErrUnreachable], [ErrAuthentication].
func Open(config Config, opts ...Option) (*Client, error) {
	var o options
	for _, option := range opts {
		if option != nil {
			option(&o)
		}
	}
	handle, err := open(config, o.host)
	if err != nil {
		return nil, err
	}
	return &Client{handle: handle, slots: newSlots(), waits: make(chan struct{}, maxWaits), lastWait: new(atomic.Uint64)}, nil
}

func open(config Config, host Host) (*capi.Handle, error) {
	settings, err := settingsOf(config)
	if err != nil {
		if host != nil {
			err = errors.Join(err, host.Close())
		}
		return nil, err
	}
	var handle *capi.Handle
	if host != nil {
		handle, err = capi.OpenWithHost(settings, host)
	} else {
		handle, err = capi.Open(settings)
	}
	return handle, byKey(err, settings)
}

// Close closes the stores. Closing again is harmless.
func (c *Client) Close() error {
	if err := c.opened(); err != nil {
		return err
	}
	return c.handle.Close()
}

// TryLock takes a project's lock if it is free. The lock is the JSON of Atlantis's models.ProjectLock, which is stored byte for byte.
//
// It is not safe to assume that the lock is held until Unlock: anyone may release it by its name. What must not be done by a holder of
// before is to be guarded with [Grant.Token].
func (c *Client) TryLock(lock []byte) (Grant, error) {
	return c.grant(func() (capi.Buffer, error) { return c.library().TryLock(lock) })
}

// Unlock releases a lock and returns it, or nil if there is none. The target names the lock as the lock itself does:
// `{"Project":{"RepoFullName":…,"Path":…,"ProjectName":…},"Workspace":…}`.
func (c *Client) Unlock(target []byte) (json.RawMessage, error) {
	return c.entry(changes, func() (capi.Buffer, error) { return c.library().Unlock(target) })
}

// UnlockIfOwnedByPull releases a lock only if this pull holds it; otherwise it returns nil. The target is that of [Client.Unlock].
func (c *Client) UnlockIfOwnedByPull(target []byte, pullNum int) (json.RawMessage, error) {
	return c.entry(changes, func() (capi.Buffer, error) { return c.library().UnlockIfOwnedByPull(target, pullNum) })
}

// GetLock returns a lock, or nil if there is none. The target is that of [Client.Unlock].
func (c *Client) GetLock(target []byte) (json.RawMessage, error) {
	return c.entry(reads, func() (capi.Buffer, error) { return c.library().GetLock(target) })
}

// List returns all locks. Free the listing once.
func (c *Client) List() (*Listing, error) {
	return c.listing(lists, c.library().List)
}

// UnlockByPull releases all locks of exactly this repository's pull and returns them. If the listing is [Listing.Incomplete], calling
// again releases the rest. Free the listing once.
//
// On an error some locks may have been released; calling again releases the rest.
func (c *Client) UnlockByPull(repoFullName string, pullNum int) (*Listing, error) {
	return c.listing(changes, func() (capi.Listing, error) { return c.library().UnlockByPull(repoFullName, pullNum) })
}

// LockCommand takes the global lock of a command, for example `apply`, if it is free. The lock is the JSON of Atlantis's command.Lock.
func (c *Client) LockCommand(name string, lock []byte) (Grant, error) {
	return c.grant(func() (capi.Buffer, error) { return c.library().LockCommand(name, lock) })
}

// UnlockCommand releases the global lock of a command and returns it, or nil if there is none.
func (c *Client) UnlockCommand(name string) (json.RawMessage, error) {
	return c.entry(changes, func() (capi.Buffer, error) { return c.library().UnlockCommand(name) })
}

// CheckCommandLock returns the global lock of a command, or nil if there is none.
func (c *Client) CheckCommandLock(name string) (json.RawMessage, error) {
	return c.entry(reads, func() (capi.Buffer, error) { return c.library().CheckCommandLock(name) })
}

// PullStatus returns the pull status at a key, or nil if there is none.
func (c *Client) PullStatus(key string) (json.RawMessage, error) {
	var status json.RawMessage
	err := c.run(changes, func() error { // a command asks, and most often replaces it then
		buffer, err := c.library().PullStatus(key)
		status = take(&buffer)
		return err
	})
	return status, err
}

// SwapPullStatus replaces the pull status at a key if it is still the expected one, where nil is none. If it is another, swapped is
// false, and current is that one, or nil if there is none.
func (c *Client) SwapPullStatus(key string, expected, newValue []byte) (swapped bool, current json.RawMessage, err error) {
	err = c.run(changes, func() error {
		done, buffer, err := c.library().SwapPullStatus(key, expected, newValue)
		swapped, current = done, take(&buffer)
		return err
	})
	return swapped, current, err
}

// DeletePullStatus deletes the pull status at a key, if there is one.
func (c *Client) DeletePullStatus(key string) error {
	return c.run(changes, func() error { return c.library().DeletePullStatus(key) })
}

// Ping tells whether the store that decides answers and could be written.
func (c *Client) Ping() error { return c.run(reads, c.library().Ping) }

// Status reads mode, counters, warnings and the state of hybrid mode.
func (c *Client) Status() (Status, error) {
	var status Status
	err := c.read(reads, c.library().Status, func(text []byte) error { return json.Unmarshal(text, &status) })
	return status, err
}

// Health asks the store that decides; in hybrid mode it reads what the last probes saw.
func (c *Client) Health() (Health, error) {
	var health Health
	err := c.read(reads, c.library().Health, func(text []byte) error { return json.Unmarshal(text, &health) })
	return health, err
}

// LockInfo tells how the locks at these keys stand, one for each, for a person who looks at them. It is cheap, and in native mode
// a question to Redis for each: ask for those that are shown. A key is `repo/path/workspace/project`.
func (c *Client) LockInfo(keys []string) ([]LockInfo, error) {
	named, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("serializing the keys: %w", err)
	}
	infos := make([]LockInfo, 0, len(keys))
	err = c.read(
		reads,
		func() (capi.Buffer, error) { return c.library().LockInfo(named) },
		func(text []byte) error { return json.Unmarshal(text, &infos) },
	)
	return infos, err
}

// Metrics reads counters and latencies as a text for Prometheus. It waits for no call under way.
func (c *Client) Metrics() (string, error) {
	if err := c.opened(); err != nil {
		return "", err
	}
	buffer, err := c.handle.Metrics()
	if err != nil {
		return "", err
	}
	defer buffer.Free()
	return string(buffer.Bytes()), nil
}

// Version is the library's version.
func Version() string { return capi.Version() }

var errNotOpened = &Error{Code: capi.Closed, Message: "this Client is nil or its zero value: client.Open returns one that can be used"}

func (c *Client) opened() error {
	switch {
	case c == nil:
		return errNotOpened
	case c.failed != nil:
		return c.failed
	case c.handle == nil:
		return errNotOpened
	}
	return nil
}

// library is what to call; nil if there is none, which run says before.
func (c *Client) library() *capi.Handle {
	if c == nil {
		return nil
	}
	return c.handle
}

// run runs one operation of this kind once it is its turn.
func (c *Client) run(of kind, operation func() error) error {
	if err := c.opened(); err != nil {
		return err
	}
	return c.slots.run(of, operation)
}

// grant runs one operation that takes a lock.
func (c *Client) grant(operation func() (capi.Buffer, error)) (grant Grant, err error) {
	err = c.read(changes, operation, func(text []byte) (err error) {
		grant, err = decodeGrant(text)
		return err
	})
	return grant, err
}

// entry runs one operation that answers with an entry, or `null`.
func (c *Client) entry(of kind, operation func() (capi.Buffer, error)) (entry json.RawMessage, err error) {
	err = c.read(of, operation, func(text []byte) error {
		if string(text) != "null" {
			entry = bytes.Clone(text)
		}
		return nil
	})
	return entry, err
}

// listing runs one operation that answers with locks.
func (c *Client) listing(of kind, operation func() (capi.Listing, error)) (*Listing, error) {
	var listing *Listing
	err := c.run(of, func() error {
		answer, err := operation()
		if err == nil {
			listing = newListing(answer)
		}
		return err
	})
	return listing, err
}

// read runs one operation and reads its answer, which is the library's memory and gone afterwards.
func (c *Client) read(of kind, operation func() (capi.Buffer, error), answer func(text []byte) error) error {
	return c.run(of, func() error {
		buffer, err := operation()
		if err != nil {
			return err
		}
		defer buffer.Free()
		if err := answer(buffer.Bytes()); err != nil {
			return fmt.Errorf("reading the library's answer: %w", err)
		}
		return nil
	})
}

// take copies a buffer's bytes and frees it; nil if it is null.
func take(buffer *capi.Buffer) []byte {
	if buffer.IsNull() {
		return nil
	}
	defer buffer.Free()
	return append([]byte{}, buffer.Bytes()...)
}
