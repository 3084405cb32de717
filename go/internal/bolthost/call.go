package bolthost

import (
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/hostop"
)

// Call does one operation of docs/host-store.md.
func (s *Store) Call(op uint32, input []byte) (output []byte, err error) {
	defer s.ground.check(&err)
	switch op {
	case hostop.Grant:
		return call(s.db.Update, input, s.grant)
	case hostop.Release:
		return call(s.db.Update, input, releaseLock)
	case hostop.Discard:
		return call(s.db.Update, input, discard)
	case hostop.Get:
		return call(s.db.View, input, get)
	case hostop.List:
		return call(s.db.View, input, list)
	case hostop.ReleaseByPull:
		return call(s.db.Update, input, releaseByPull)
	case hostop.PullStatus:
		return call(s.db.View, input, pullStatus)
	case hostop.SwapPullStatus:
		return call(s.db.Update, input, swapPullStatus)
	case hostop.Ping:
		return call(s.db.View, input, ping)
	case hostop.Dump:
		return call(s.db.View, input, dump)
	case hostop.Apply:
		return call(s.db.Update, input, apply)
	case hostop.Migration:
		return s.migration(input)
	default:
		return nil, fmt.Errorf("op %d is of a later version", op)
	}
}

// call runs an operation in a transaction. What it returns must be its own memory, not BoltDB's.
func call[In any](transaction func(func(*bolt.Tx) error) error, input []byte, operation func(*bolt.Tx, In) ([]byte, error)) ([]byte, error) {
	var in In
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, fmt.Errorf("the input: %w", err)
	}
	var output []byte
	err := transaction(func(tx *bolt.Tx) (err error) {
		output, err = operation(tx, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	return output, nil
}

// key names an entry: one of its members is set.
type key struct {
	Project *string `json:"project,omitempty"`
	Command *string `json:"command,omitempty"`
	Status  *string `json:"status,omitempty"`
}

// entry is the place of a key in the file.
type entry struct {
	bucket *bolt.Bucket
	key    []byte
}

func (k key) in(tx *bolt.Tx) (entry, error) {
	switch {
	case k.Project != nil:
		return entry{tx.Bucket([]byte(locksBucket)), []byte(*k.Project)}, nil
	case k.Command != nil:
		return entry{tx.Bucket([]byte(commandsBucket)), []byte(*k.Command + commandSuffix)}, nil
	case k.Status != nil:
		return entry{tx.Bucket([]byte(pullsBucket)), []byte(*k.Status)}, nil
	default:
		return entry{}, errors.New("the key names no project, command or status")
	}
}

func (k key) String() string {
	switch {
	case k.Project != nil:
		return "lock " + shown(*k.Project)
	case k.Command != nil:
		return "command lock " + shown(*k.Command)
	case k.Status != nil:
		return "pull status " + shown(*k.Status)
	default:
		return "no key"
	}
}

// shown is a key for a person: others choose what stands in it.
func shown(key string) string {
	const most = 80
	quoted := []rune(fmt.Sprintf("%q", key[:min(len(key), most)]))
	if len(key) <= most && len(quoted) <= most {
		return string(quoted)
	}
	return string(quoted[:min(len(quoted), most)]) + "…"
}

// get is nil if there is nothing.
func (e entry) get() []byte            { return e.bucket.Get(e.key) }
func (e entry) put(value []byte) error { return e.bucket.Put(e.key, value) }
func (e entry) delete() error          { return e.bucket.Delete(e.key) }
